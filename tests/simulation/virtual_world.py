"""Virtual time: everything that happens in a simulation happens here, one event after the other, from one seed."""

import heapq
import random
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

MS = 1_000
SECOND = 1_000 * MS


class World:
    """A clock in microseconds, a source of chance, and the events to come.

    Attributes:
        trace: what happened, as lines, if wanted.
    """

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.random = random.Random(seed)
        self.now_us = 0
        self.events = 0
        self.trace: list[str] | None = [] if traced else None
        self._fingerprint = blake2b(digest_size=16)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    @property
    def now_ms(self) -> int:
        return self.now_us // MS

    def after(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Let something happen later; what is due at the same time happens in the order in which it was asked for."""
        assert delay_us >= 0
        self._count += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._count, action, arguments))

    def run(self, until_us: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then, or until ``done``; tells whether it was done."""
        while self._heap and self._heap[0][0] <= until_us:
            self.now_us, _, action, arguments = heapq.heappop(self._heap)
            self.events += 1
            action(*arguments)
            if done is not None and done():
                return True
        self.now_us = until_us
        return False

    def note(self, who: str, what: str) -> None:
        """Write down what happened; two runs of one seed must write the same."""
        self._fingerprint.update(f"{self.now_us}{who}{what}".encode())
        if self.trace is not None:
            self.trace.append(f"{self.now_us / SECOND:10.6f} {who:8} {what}")

    def fingerprint(self) -> str:
        return self._fingerprint.hexdigest()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        return self.random.randint(low, high)
