"""Transactions that wait for a block: verified, deduplicated, bounded, and fair for each member that pays."""

from collections.abc import Iterable
from itertools import islice

from storage.schema.transaction import Transaction

TRANSACTIONS_MAX = 20_000
BYTES_MAX = 32 << 20
# However full the pool is, one part in so many is kept for each member's ordinary and for its urgent transactions:
# whoever fills it keeps out neither another member's nor a revocation.
RESERVED_PARTS = 2_500


_Queues = dict[str, dict[bytes, Transaction]]
"""By payer, then by id, in order of arrival."""


class MempoolFullError(Exception):
    """The pool, or the share of the member that pays, is full; try again after the next blocks."""

    code = "mempool.full"


class Mempool:
    """Waiting transactions, by id and by leaf, in the order of their arrival.

    Only transactions whose signatures verified may be added: dropping by id before that would let a forged twin
    push the real transaction out.
    """

    def __init__(self, transactions_max: int = TRANSACTIONS_MAX, bytes_max: int = BYTES_MAX) -> None:
        """Bound the pool, but for what is reserved; one payer may hold at most half of it."""
        self._transactions_max = transactions_max
        self._bytes_max = bytes_max
        self._by_id: dict[bytes, Transaction] = {}
        self._by_leaf: dict[bytes, Transaction] = {}
        self._urgent: _Queues = {}
        self._others: _Queues = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many transactions wait."""
        return len(self._by_id)

    def __contains__(self, tx_id: bytes) -> bool:
        """Tell whether a transaction of this id waits."""
        return tx_id in self._by_id

    @property
    def size_bytes(self) -> int:
        """The sum of the waiting envelopes' sizes."""
        return self._bytes

    def add(self, transaction: Transaction) -> bool:
        """Take a verified transaction; False if one of the same id waits already.

        Raises:
            MempoolFullError: the pool or the payer's share is full.
        """
        if transaction.id in self._by_id:
            return False
        payer = transaction.body.payer
        if len(self._queues_of(transaction).get(payer, ())) >= self._transactions_max // RESERVED_PARTS:
            self._check_limits(transaction)
        self._by_id[transaction.id] = transaction
        self._by_leaf[transaction.leaf] = transaction
        self._queues_of(transaction).setdefault(payer, {})[transaction.id] = transaction
        self._bytes += len(transaction.envelope)
        return True

    def _check_limits(self, transaction: Transaction) -> None:
        payer = transaction.body.payer
        held = len(self._urgent.get(payer, ())) + len(self._others.get(payer, ()))
        if len(self._by_id) >= self._transactions_max or self._bytes + len(transaction.envelope) > self._bytes_max:
            raise MempoolFullError(f"{len(self._by_id)} transactions are waiting already")
        if held >= self._transactions_max // 2:
            raise MempoolFullError(f"{held} transactions that {payer} pays for are waiting already")

    def by_leaf(self, leaf: bytes) -> Transaction | None:
        """Return the waiting transaction with exactly this envelope."""
        return self._by_leaf.get(leaf)

    def remove(self, ids: Iterable[bytes]) -> None:
        """Forget transactions that were committed or can no longer be included."""
        for tx_id in ids:
            transaction = self._by_id.pop(tx_id, None)
            if transaction is None:
                continue
            del self._by_leaf[transaction.leaf]
            self._bytes -= len(transaction.envelope)
            queues, payer = self._queues_of(transaction), transaction.body.payer
            del queues[payer][tx_id]
            if not queues[payer]:
                del queues[payer]

    def fair(self, count: int) -> list[Transaction]:
        """Return up to ``count`` transactions: urgent ones first, by turns between payers, each in order of arrival.

        A member that floods the network then delays its own transactions, not the others', and never a revocation.
        """
        chosen = _turns(self._urgent, count)
        return chosen + _turns(self._others, count - len(chosen))

    def _queues_of(self, transaction: Transaction) -> _Queues:
        return self._urgent if transaction.method.urgent else self._others

    def oldest(self, count: int) -> list[Transaction]:
        """Return up to ``count`` transactions that have waited longest."""
        return list(islice(self._by_id.values(), count))


def _turns(queues: _Queues, count: int) -> list[Transaction]:
    waiting = [iter(queue.values()) for queue in queues.values()]
    chosen: list[Transaction] = []
    while waiting and len(chosen) < count:
        for queue in list(waiting):
            transaction = next(queue, None)
            if transaction is None:
                waiting.remove(queue)
            elif len(chosen) < count:
                chosen.append(transaction)
    return chosen
