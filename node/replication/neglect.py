"""Watches that the primary leaves nothing out: what waits here and its blocks pass over is urged, then complained of.

The block timer sees a primary that orders nothing, not one that orders all but one revocation. This member judges by
the blocks alone what an honest primary would have taken (``node.execution.includable.passed_over``), so that a primary
that has more to order than a block holds is not blamed. What was passed over once, everybody is told of again: the
primary may never have got it, and the others have to judge for themselves (docs/spec/pbft.md, Complaints).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.execution.includable import passed_over
from node.mempool import Mempool
from node.replication.chain import Chain
from storage.schema.block import Header
from storage.schema.transaction import Transaction

WATCHED_MAX = 200
URGE_EVERY_MS = 2_000
BLOCKS_MIN = 3
PATIENCE_MS = 10_000
# A revocation that is held back lets records be read meanwhile; and it never waits behind ordinary transactions.
URGENT_PATIENCE_MS = 3_000

log = logging.getLogger("caretrace.replication")


@dataclass(slots=True)
class _Waiting:
    """What was in the pool when the block in flight was drafted."""

    transaction: Transaction
    first_passed_ms: int | None = None
    blocks: int = 0
    urged_ms: int | None = None

    def is_neglected(self, now_ms: int) -> bool:
        patience_ms = URGENT_PATIENCE_MS if self.transaction.method.urgent else PATIENCE_MS
        passed_ms = self.first_passed_ms
        return passed_ms is not None and self.blocks >= BLOCKS_MIN and now_ms - passed_ms >= patience_ms


class Neglect:
    """Looks at each block for what it left out, of what an honest primary would have drafted next."""

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        primary: Callable[[], str],
        urge: Callable[[Sequence[Transaction]], None],
        complain: Callable[[str], None],
    ) -> None:
        """Judge on the head of ``chain``; ``urge`` tells everybody of what is overdue, ``complain`` of its primary."""
        self._chain = chain
        self._mempool = mempool
        self._primary = primary
        self._urge = urge
        self._complain = complain
        self._reigning = ""
        self._waiting: dict[bytes, _Waiting] = {}

    def on_block(self, header: Header, transactions: Sequence[Transaction], now_ms: int) -> None:
        """Judge a block that has just been agreed on, by what waited before it; its own have left the pool."""
        primary = self._primary()
        if primary != self._reigning:
            # Each primary gets its own time, and is judged by no block that an earlier one has drafted.
            self._reigning, self._waiting = primary, {}
        waiting = self._mempool.fair(WATCHED_MAX)
        known = [transaction for transaction in waiting if transaction.id in self._waiting]
        if known:
            self._judge(
                passed_over(known, transactions, header.time_ms, self._chain.ledger, self._chain.genesis), now_ms
            )
        self._waiting = {
            transaction.id: self._waiting.get(transaction.id) or _Waiting(transaction) for transaction in waiting
        }

    def _judge(self, passed: Sequence[Transaction], now_ms: int) -> None:
        overdue: list[Transaction] = []
        for transaction in passed:
            waiting = self._waiting[transaction.id]
            waiting.blocks += 1
            waiting.first_passed_ms = now_ms if waiting.first_passed_ms is None else waiting.first_passed_ms
            if waiting.urged_ms is None or now_ms - waiting.urged_ms >= URGE_EVERY_MS:
                waiting.urged_ms = now_ms
                overdue.append(transaction)
        if overdue:
            self._urge(overdue)
        neglected = [each for each in passed if self._waiting[each.id].is_neglected(now_ms)]
        if neglected:
            log.warning("%s leaves out transaction %s, among %d", self._reigning, neglected[0].id.hex(), len(neglected))
            self._complain(self._reigning)
