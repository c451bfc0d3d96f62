"""Wakes those who wait for a commit: one transaction's client, or everyone who follows the chain."""

from collections.abc import Iterable

import trio


class Commits:
    """Who waits for what. Fed once a block, in order; a block nobody waits for costs one look-up a transaction."""

    def __init__(self, height: int) -> None:
        """Start at the newest committed height."""
        self.height = height
        self.closed = False
        self._waiters: dict[bytes, trio.Event] = {}
        self._next_block = trio.Event()

    def on_block(self, height: int, tx_ids: Iterable[bytes]) -> None:
        """Take note of a committed block; everything that it holds must be readable already."""
        assert height > self.height, "blocks are committed in order"
        self.height = height
        self._next_block.set()
        self._next_block = trio.Event()
        if self._waiters:
            for tx_id in tx_ids:
                event = self._waiters.pop(tx_id, None)
                if event is not None:
                    event.set()

    def close(self) -> None:
        """The node stops: wake everyone, for good."""
        self.closed = True
        self._next_block.set()
        for event in self._waiters.values():
            event.set()
        self._waiters.clear()

    async def wait_for(self, tx_id: bytes, timeout_s: float) -> bool:
        """Wait until a transaction commits; False after ``timeout_s``, or when the node stops.

        The caller looks into the ledger first, and does not await in between.
        """
        if self.closed:
            return False
        event = self._waiters.setdefault(tx_id, trio.Event())
        try:
            with trio.move_on_after(timeout_s) as wait:
                await event.wait()
            return not wait.cancelled_caught and not self.closed
        finally:
            # The last of those who wait for this id takes the entry away, unless the commit did.
            if self._waiters.get(tx_id) is event and not event.statistics().tasks_waiting:
                del self._waiters[tx_id]

    async def wait_above(self, height: int) -> int:
        """Wait for a block above ``height``; return the newest height, which is not above it if the node stops."""
        while self.height <= height and not self.closed:
            await self._next_block.wait()
        return self.height

    @property
    def waiting(self) -> int:
        """How many transactions are waited for."""
        return len(self._waiters)
