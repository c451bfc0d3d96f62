"""State as it is while a block executes: the parent's, under what the block has written so far."""

from collections.abc import Mapping

from node.contracts.contract import StateReader

_UNREAD = object()


class Overlay:
    """Reads through to the parent's state, each key once, and collects writes; dropping it undoes them."""

    def __init__(self, state: StateReader) -> None:
        """Start with nothing written."""
        self._state = state
        self._known: dict[bytes, bytes | None] = {}
        self._writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value under a key as this block has left it, or None if there is none."""
        value = self._known.get(key, _UNREAD)
        if value is _UNREAD:
            value = self._known[key] = self._state.get(key)
        assert value is None or isinstance(value, bytes)
        return value

    def apply(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Write values by key, None to remove."""
        self._known.update(writes)
        self._writes.update(writes)

    def writes(self) -> dict[bytes, bytes | None]:
        """Return what the block changes, sorted by key."""
        return dict(sorted(self._writes.items()))
