"""Takes transactions in, from clients and from peers, and sees to it that they reach the primary and everyone.

What a client hands in goes to the primary at once, over a direct stream. What still waits a moment later is gossiped
in batches, so that no single primary can keep a transaction from the others. What blocks pass over is said again to
everybody (``neglect``), past the queues of what is merely waiting.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from node.execution.admission import AdmissionError, admit, check_payer
from node.execution.includable import select
from node.mempool import Mempool, MempoolFullError
from node.metrics import Metrics
from node.network.host import Network
from node.network.peers import PeerFaultError
from node.replication.chain import Chain, Committed
from node.replication.wire import BATCH, TRANSACTIONS_TOPIC, encode_batches
from storage.schema.codec import DecodeError
from storage.schema.signatures import SignatureError
from storage.schema.transaction import Transaction, envelope_leaf

CHANNEL = "transactions"
OVERDUE_CHANNEL = "overdue"
GOSSIP_EVERY_S = 0.25
VERIFY_CHUNK = 16
QUEUED_ENVELOPES_MAX = 20_000
OVERDUE_ENVELOPES_MAX = 200
SWEEP_EVERY_S = 1.0
SWEEP_TRANSACTIONS = 200
RECENT_LEAVES_MAX = 10_000

log = logging.getLogger("caretrace.replication")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an envelope was not taken: a stable code, the argument at fault, and words."""

    code: str
    detail: str
    field: str = ""


class Intake:
    """The door of the mempool."""

    def __init__(
        self,
        name: str,
        chain: Chain,
        mempool: Mempool,
        network: Network,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        primary: Callable[[], str],
    ) -> None:
        """Stand between clients, peers and the pool; ``primary`` names who proposes now."""
        self._name = name
        self._chain = chain
        self._mempool = mempool
        self._network = network
        self._metrics = metrics
        self._wall_ms = wall_ms
        self._work_arrived: Callable[[], None] = lambda: None
        self._primary = primary
        # By who sent them: whoever floods this node delays what it sends itself, and no other's transactions; nor what
        # it says to be overdue, which stands in a short queue of its own.
        self._queues: dict[tuple[str, bool], deque[bytes]] = {}
        self._queued_count = 0
        self._queued = trio.Event()
        self._ours: dict[bytes, bytes] = {}
        self._new: dict[bytes, bytes] = {}
        self._a_turn_old: dict[bytes, bytes] = {}
        self._recent: dict[bytes, None] = {}
        chain.listen(self._on_commit)

    def serve(self, work_arrived: Callable[[], None]) -> None:
        """Listen to peers; ``work_arrived`` is called whenever the pool may have grown."""
        self._work_arrived = work_arrived
        self._network.on_message(CHANNEL, self._on_batch)
        self._network.on_message(OVERDUE_CHANNEL, self._on_overdue)
        self._network.on_gossip(TRANSACTIONS_TOPIC, self._on_batch)

    async def run(self) -> None:
        """Verify what peers send, and gossip what waits, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._verify_queued)
            nursery.start_soon(self._gossip_waiting)
            nursery.start_soon(self._sweep)

    async def submit(self, envelopes: Sequence[bytes]) -> list[bytes | Refusal]:
        """Take a client's envelopes; answers the id, or why not, for each in its place."""
        answers: list[bytes | Refusal] = []
        accepted: list[bytes] = []
        for index, envelope in enumerate(envelopes, start=1):
            answer = self._take(envelope)
            if isinstance(answer, Transaction):
                accepted.append(envelope)
                self._ours[answer.id] = envelope
                self._new[answer.id] = envelope
                answers.append(answer.id)
            else:
                answers.append(answer)
            if index % VERIFY_CHUNK == 0:
                await trio.lowlevel.checkpoint()
        self._forward(accepted)
        self._work_arrived()
        return answers

    def urge(self, transactions: Sequence[Transaction]) -> None:
        """Say to everybody what should have been ordered by now: to the primary, and to who may have to judge it."""
        for batch in encode_batches([transaction.envelope for transaction in transactions]):
            self._network.broadcast(OVERDUE_CHANNEL, batch)

    def forward_again(self) -> None:
        """A new primary reigns: give it what our clients still wait for."""
        self._forward(list(self._ours.values()))

    def verify(self, transaction: Transaction) -> None:
        """Check a transaction's signatures and count them.

        Raises:
            SignatureError: one does not verify.
        """
        self._metrics.signatures_verified.inc(len(transaction.signatures))
        transaction.verify_signatures()

    def _take(self, envelope: bytes) -> Transaction | bytes | Refusal:
        """Admit one envelope: the transaction if it is new, its id if it waits already, or why not."""
        try:
            transaction = admit(envelope, self._chain.genesis.chain_id, self._wall_ms() // 1000)
            if transaction.id in self._mempool:
                self.verify(transaction)
                return transaction.id
            if self._chain.ledger.contains(transaction.id):
                return Refusal("tx.replayed", "the ledger holds this transaction already")
            self.verify(transaction)
            check_payer(transaction, self._chain.ledger.state)
            self._mempool.add(transaction)
        except (AdmissionError, DecodeError, SignatureError, MempoolFullError) as error:
            self._metrics.admissions_refused.inc()
            return Refusal(error.code, str(error), getattr(error, "field", ""))
        return transaction

    def _forward(self, envelopes: list[bytes]) -> None:
        primary = self._primary()
        if primary != self._name:
            for batch in encode_batches(envelopes):
                self._network.send(primary, CHANNEL, batch)

    def _on_batch(self, peer: str, data: bytes) -> None:
        queue = self._queues.setdefault((peer, False), deque())
        # A peer may have as much waiting as there is room left: nobody can take up all of it.
        self._queue_up(queue, data, QUEUED_ENVELOPES_MAX - self._queued_count - len(queue))

    def _on_overdue(self, peer: str, data: bytes) -> None:
        queue = self._queues.setdefault((peer, True), deque())
        self._queue_up(queue, data, OVERDUE_ENVELOPES_MAX - len(queue))

    def _queue_up(self, queue: deque[bytes], data: bytes, room: int) -> None:
        try:
            envelopes = BATCH.decode(data)
        except DecodeError as error:
            raise PeerFaultError(f"sent a malformed batch of transactions: {error}") from None
        room = max(0, room)
        taken = envelopes[:room]
        self._metrics.envelopes_shed.inc(len(envelopes) - len(taken))
        queue.extend(taken)
        self._queued_count += len(taken)
        self._queued.set()

    async def _verify_queued(self) -> None:
        while True:
            await self._queued.wait()
            self._queued = trio.Event()
            while self._queues:
                for whose in list(self._queues):
                    self._verify_some(whose)
                    await trio.lowlevel.checkpoint()

    def _verify_some(self, whose: tuple[str, bool]) -> None:
        """Admit what has waited longest in one queue, as much as may be verified in one turn."""
        queue = self._queues[whose]
        count = min(VERIFY_CHUNK, len(queue))
        for _ in range(count):
            envelope = queue.popleft()
            leaf = envelope_leaf(envelope)
            if self._mempool.by_leaf(leaf) is None and leaf not in self._recent:
                self._take(envelope)
        self._queued_count -= count
        if not queue:
            del self._queues[whose]
        self._work_arrived()

    async def _gossip_waiting(self) -> None:
        """Publish, every so often, what our clients handed in and no block has taken for a whole turn."""
        while True:
            await trio.sleep(GOSSIP_EVERY_S)
            waiting = list(self._a_turn_old.values())
            self._a_turn_old, self._new = self._new, {}
            for batch in encode_batches(waiting):
                await self._network.publish(TRANSACTIONS_TOPIC, batch)

    async def _sweep(self) -> None:
        """Drop what waits longest and can no longer be included: expired, or committed in another way."""
        while True:
            await trio.sleep(SWEEP_EVERY_S)
            oldest = self._mempool.oldest(SWEEP_TRANSACTIONS)
            time_ms = max(self._chain.head.header.time_ms + 1, self._wall_ms())
            selection = select(oldest, self._chain.ledger, self._chain.genesis, time_ms)
            self._mempool.remove(transaction.id for transaction, _ in selection.dropped)
            for tx_id in [tx_id for tx_id in self._ours if tx_id not in self._mempool]:
                del self._ours[tx_id]

    def _on_commit(self, committed: Committed) -> None:
        for transaction in committed.transactions:
            self._ours.pop(transaction.id, None)
            self._new.pop(transaction.id, None)
            self._a_turn_old.pop(transaction.id, None)
            self._recent[transaction.leaf] = None
        while len(self._recent) > RECENT_LEAVES_MAX:
            del self._recent[next(iter(self._recent))]
