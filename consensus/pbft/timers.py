"""When a replica loses patience: timers that are set anew rarely, and a timeout that follows the network.

The timeout is four times the usual time to a commit, between 1 s and 30 s, doubled for each view that was given up
since the last commit, and never more than 30 s.
"""

from consensus.engine import CancelTimer, Effect, SetTimer

TIMEOUT_MS_MIN = 1_000
TIMEOUT_MS_MAX = 30_000
LATENCY_FACTOR = 4
LATENCY_WEIGHT = 8

BLOCK = "block"
NEW_VIEW = "new-view"
RESEND = "resend"
STATUS = "status"
HELLO = "hello"


class Patience:
    """How long to wait for a commit; ``failed`` counts the views given up since the last one."""

    def __init__(self) -> None:
        self.failed = 0
        self._latency_ms = 0

    def committed(self, latency_ms: int | None) -> None:
        """Note a commit, and how long after its proposal it came, if that was seen."""
        self.failed = 0
        if latency_ms is not None:
            # Beginning from nothing, so that one slow commit, such as the first one, counts for an eighth only.
            self._latency_ms = (self._latency_ms * (LATENCY_WEIGHT - 1) + latency_ms) // LATENCY_WEIGHT

    def timeout_ms(self) -> int:
        """Return the time to wait for the next commit, or for a NEW-VIEW."""
        usual = max(TIMEOUT_MS_MIN, LATENCY_FACTOR * self._latency_ms)
        doublings = min(self.failed, TIMEOUT_MS_MAX.bit_length())
        return int(min(usual << doublings, TIMEOUT_MS_MAX))


class Timers:
    """The deadlines of named timers. Moving one later costs no effect: the host's timer is set again when it fires."""

    def __init__(self, effects: list[Effect]) -> None:
        self._effects = effects
        self._deadlines: dict[str, int] = {}
        self._armed: dict[str, int] = {}

    def set(self, name: str, at_ms: int) -> None:
        """Let ``name`` be due at a time, in place of any other."""
        self._deadlines[name] = at_ms
        armed = self._armed.get(name)
        if armed is None or at_ms < armed:
            self._arm(name, at_ms)

    def set_no_later(self, name: str, at_ms: int) -> None:
        """Let ``name`` be due at a time, unless it is due before that."""
        deadline = self._deadlines.get(name)
        if deadline is None or at_ms < deadline:
            self.set(name, at_ms)

    def is_set(self, name: str) -> bool:
        """Tell whether a timer runs."""
        return name in self._deadlines

    def clear(self, name: str) -> None:
        """Stop a timer."""
        if self._deadlines.pop(name, None) is not None and self._armed.pop(name, None) is not None:
            self._effects.append(CancelTimer(name))

    def is_due(self, name: str, now_ms: int) -> bool:
        """Take a firing of the host's timer: True if the deadline has come, which also stops the timer."""
        self._armed.pop(name, None)
        deadline = self._deadlines.get(name)
        if deadline is None:
            return False
        if now_ms < deadline:
            self._arm(name, deadline)
            return False
        del self._deadlines[name]
        return True

    def _arm(self, name: str, at_ms: int) -> None:
        self._armed[name] = at_ms
        self._effects.append(SetTimer(name, at_ms))
