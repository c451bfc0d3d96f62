"""Drafts blocks when this replica is primary: which transactions, in what order, and when.

With nothing in flight a waiting transaction is proposed at once; while blocks follow each other, a short hold lets
more of them share the cost of a block.
"""

from collections.abc import Callable

from consensus.engine import Draft, Drafted
from node.execution.includable import select
from node.mempool import Mempool
from node.replication.chain import Chain
from storage.schema.codec import encode
from storage.schema.transaction import Transaction

HOLD_MS = 10
BUSY_MS = 60


class Proposer:
    """Holds the engine's standing wish for a draft, and answers it when there is work."""

    def __init__(self, name: str, chain: Chain, mempool: Mempool, wall_ms: Callable[[], int]) -> None:
        """Draft for the member ``name``; ``wall_ms`` is the clock that gives a block its time."""
        self._name = name
        self._chain = chain
        self._mempool = mempool
        self._wall_ms = wall_ms
        self._wanted: Draft | None = None
        self._last_commit_ms = 0
        self.drafted: tuple[Transaction, ...] = ()

    def want(self, draft: Draft) -> None:
        """The engine may propose at this view and height."""
        self._wanted = draft

    def on_commit(self, now_ms: int) -> None:
        """A height has committed: what was wanted is void, and work is flowing."""
        self._wanted = None
        self._last_commit_ms = now_ms

    def due_ms(self, now_ms: int) -> int | None:
        """When a draft should be tried, on the host's monotonic clock; None while nothing is to be done."""
        if self._wanted is None:
            return None
        if not self._mempool:
            idle_ms = self._chain.head.header.time_ms + self._chain.genesis.parameters.idle_block_s * 1000
            return now_ms + max(0, idle_ms - self._wall_ms())
        is_full = len(self._mempool) >= self._chain.genesis.parameters.block_tx_max
        is_busy = now_ms - self._last_commit_ms < BUSY_MS
        return self._last_commit_ms + HOLD_MS if is_busy and not is_full else now_ms

    def draft(self) -> Drafted | None:
        """Build the wanted block from what waits; None if nothing of it can be included now."""
        wanted = self._wanted
        head = self._chain.head.header
        if wanted is None or wanted.height != head.height + 1:
            return None
        parameters = self._chain.genesis.parameters
        time_ms = max(head.time_ms + 1, self._wall_ms())
        waiting = self._mempool.fair(2 * parameters.block_tx_max)
        selection = select(waiting, self._chain.ledger, self._chain.genesis, time_ms)
        self._mempool.remove(transaction.id for transaction, _ in selection.dropped)
        if not selection.included and time_ms < head.time_ms + parameters.idle_block_s * 1000:
            return None
        self._wanted = None
        self.drafted = included = selection.included
        header = self._chain.next_header(self._name, wanted.view, time_ms, included)
        bodies = encode(tuple(transaction.envelope for transaction in included))
        return Drafted(wanted.view, header, tuple(transaction.leaf for transaction in included), bodies)
