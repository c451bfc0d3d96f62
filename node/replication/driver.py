"""Steps the ordering engine and carries its effects out, in order; the only place where the two worlds meet.

One task owns engine, chain and vote log. An effect that waits for a persist is carried out after it because effects
are carried out one after the other and a persist returns only when the disk has it.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from consensus import engine as ordering
from consensus.engine import Event, TimerFired, WorkWaiting
from node.execution.transition import Execution
from node.mempool import Mempool
from node.metrics import Metrics
from node.network.host import Network
from node.replication.bodies import Bodies
from node.replication.chain import Chain, DivergedError
from node.replication.engines import EngineMaker
from node.replication.in_flight import InFlight
from node.replication.promises import Promises
from node.replication.proposer import Proposer
from storage.schema.block import Certificate, Header
from storage.schema.transaction import Transaction

EVENTS_MAX = 50_000
# A message passes a queue, a writer, the multiplexer and the encryption, one task each, on its way to the socket.
TURNS_TO_SEND = 8
BULK_BYTES_MIN = 8 * 1024
VOTE_CHANNEL = "vote"
BLOCK_CHANNEL = "block"

log = logging.getLogger("caretrace.replication")


@dataclass(frozen=True, slots=True)
class Listeners:
    """Whom the driver tells of what the engine finds; all are quick.

    Attributes:
        catch_up: blocks up to a height are missing, which these peers have.
        later_epoch: a peer speaks as one of a later epoch.
        view_entered: there is a new primary.
        agreed: a block was committed here without catching up, at this time (monotonic, in milliseconds).
        accused: a member contradicts itself.
    """

    catch_up: Callable[[int, tuple[str, ...]], None]
    later_epoch: Callable[[str], None]
    view_entered: Callable[[], None]
    agreed: Callable[[Header, Sequence[Transaction], int], None]
    accused: Callable[[ordering.Accuse], None]


class Driver:
    """The engine's host."""

    def __init__(
        self,
        make_engine: EngineMaker,
        chain: Chain,
        promises: Promises,
        network: Network,
        mempool: Mempool,
        bodies: Bodies,
        proposer: Proposer,
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        """Take the parts; nothing happens before ``run``. ``make_engine`` makes the engine of each epoch."""
        self._make_engine = make_engine
        self.engine = make_engine(chain.ledger.epochs)
        self._chain = chain
        self._promises = promises
        self._network = network
        self._mempool = mempool
        self._proposer = proposer
        self._metrics = metrics
        self._events: deque[Event] = deque()
        self._wake = trio.Event()
        self._timers: dict[str, int] = {}
        self._to_execute: ordering.Execute | None = None
        self._in_flight = InFlight(chain, bodies, metrics, wall_ms, self.post)
        self._nursery: trio.Nursery | None = None
        self._was_waiting = False
        self.halted: str | None = None
        self._duties = self._duties_by_effect()
        self._new_start_number: Callable[[], bytes] = bytes
        self._listeners: Listeners | None = None

    async def run(self, new_start_number: Callable[[], bytes]) -> None:
        """Start the engine and step it until cancelled; ``new_start_number`` gives 16 fresh random bytes."""
        self._new_start_number = new_start_number
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._start_engine()
            while True:
                self._work()
                if self._to_execute is not None:
                    await self._execute()
                    continue
                deadline_ms = min(self._timers.values(), default=None)
                draft_ms = self._proposer.due_ms(_now_ms())
                soonest = min((at for at in (deadline_ms, draft_ms) if at is not None), default=None)
                if self._events:  # Drafting has posted one.
                    continue
                with trio.move_on_at(soonest / 1000 if soonest is not None else trio.current_time() + 60):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _execute(self) -> None:
        """Execute the block in flight, once what was said about it is on its way.

        Executing takes as long as everything else about a block together: the others verify and vote meanwhile.
        """
        for _ in range(TURNS_TO_SEND):
            await trio.lowlevel.checkpoint()
        effect, self._to_execute = self._to_execute, None
        if effect is not None:
            self._in_flight.execute(effect)

    def _want_execution(self, effect: ordering.Execute) -> None:
        self._to_execute = effect

    def _start_engine(self) -> None:
        recovered = self._promises.recovered(self._chain.head)
        self._carry_out(self.engine.start(_now_ms(), recovered, self._new_start_number()))

    def _begin_epoch(self) -> None:
        """Let the next epoch's engine take over: nothing that the one before still wanted is owed to anybody."""
        self.engine = self._make_engine(self._chain.ledger.epochs)
        self._timers.clear()
        self._to_execute = None
        self._was_waiting = False
        self.halted = None
        log.info("epoch %d begins above height %d", self._chain.ledger.validators.epoch, self._chain.head.header.height)
        self._start_engine()

    def listen(self, listeners: Listeners) -> None:
        """Tell these; called once, before ``run``."""
        self._listeners = listeners

    @property
    def _told(self) -> Listeners:
        assert self._listeners is not None, "somebody listens before anything happens"
        return self._listeners

    def post(self, event: Event) -> None:
        """Hand an event in; it is taken in turn."""
        if len(self._events) < EVENTS_MAX:
            self._events.append(event)
        self._wake.set()

    def on_message(self, peer: str, data: bytes) -> None:
        """Take an engine message from the network."""
        self.post(ordering.Received(peer, data))

    def complain(self, primary: str) -> None:
        """A primary has long left something out."""
        self.post(ordering.Neglected(primary))

    def on_connected(self, peer: str) -> None:
        """A connection to a member stands; what was sent to it before may be lost."""
        self.post(ordering.PeerConnected(peer))

    def work_arrived(self) -> None:
        """The mempool has changed."""
        self._wake.set()

    def apply_certified(self, header: Header, transactions: Sequence[Transaction], certificate: Certificate) -> bool:
        """Commit a block that was fetched and verified under its certificate; False if it no longer fits the head.

        Raises:
            DivergedError: executing it here gives another result than the quorum certified.
        """
        if header.height != self._chain.head.header.height + 1 or header.parent != self._chain.head.digest:
            return False
        execution = self._chain.execute(header, transactions)
        if execution.result.digest() != certificate.result:
            raise DivergedError(f"block {header.height} gives another result here than the quorum certified")
        engine = self.engine
        self._commit(header, transactions, execution, certificate)
        if self.engine is engine:
            self._step(ordering.Advanced(header, certificate))
        return True

    def _work(self) -> None:
        """Fire due timers, take the waiting events, and draft if it is time."""
        now_ms = _now_ms()
        for name in [name for name, at_ms in self._timers.items() if at_ms <= now_ms]:
            del self._timers[name]
            self._step(TimerFired(name))
        # All that waits is taken in one turn: between turns other tasks verify signatures for milliseconds, and each
        # block needs a dozen messages one after the other.
        while self._events:
            self._step(self._events.popleft())
        if bool(self._mempool) != self._was_waiting:
            self._was_waiting = bool(self._mempool)
            self._step(WorkWaiting(self._was_waiting))
        draft_ms = self._proposer.due_ms(now_ms)
        if draft_ms is not None and draft_ms <= _now_ms():
            drafted = self._proposer.draft()
            if drafted is not None:
                self._in_flight.draft(drafted.header, self._proposer.drafted)
                self._step(drafted)

    def _step(self, event: Event) -> None:
        self._carry_out(self.engine.step(_now_ms(), event))

    def _carry_out(self, effects: tuple[ordering.Effect, ...]) -> None:
        engine = self.engine
        for effect in effects:
            self._duties[type(effect)](effect)
            if self.engine is not engine:
                return  # Its epoch has ended.

    def _duties_by_effect(self) -> dict[type, Callable[[Any], object]]:
        """What is to be done for each kind of effect; one that is missing here is our bug."""
        return {
            ordering.Persist: self._persist,
            ordering.Truncate: self._truncate,
            ordering.Send: lambda send: self._network.send(send.peer, _channel(send.data), send.data),
            ordering.Broadcast: lambda send: self._network.broadcast(_channel(send.data), send.data),
            ordering.Draft: self._proposer.want,
            ordering.Check: self._check,
            ordering.Execute: self._want_execution,
            ordering.Deliver: self._deliver,
            ordering.SetTimer: lambda timer: self._timers.__setitem__(timer.name, timer.at_ms),
            ordering.CancelTimer: lambda timer: self._timers.pop(timer.name, None),
            ordering.CatchUp: lambda behind: self._told.catch_up(behind.height, behind.peers),
            ordering.LaterEpoch: lambda later: self._told.later_epoch(later.peer),
            ordering.ViewEntered: self._enter_view,
            ordering.Fault: lambda fault: self._network.drop(fault.peer, f"sent {fault.reason}"),
            ordering.Accuse: self._accuse,
            ordering.Halt: self._halt,
        }

    def _enter_view(self, effect: ordering.ViewEntered) -> None:
        self._metrics.view.set(effect.view)
        log.info("view %d entered, primary %s", effect.view, effect.primary)
        self._told.view_entered()

    def _accuse(self, effect: ordering.Accuse) -> None:
        first, second = effect.first.hex(), effect.second.hex()
        log.warning("%s signed two different statements: %s and %s", effect.member, first, second)
        self._told.accused(effect)

    def _halt(self, effect: ordering.Halt) -> None:
        self.halted = effect.reason
        log.error("this node votes no more and only follows: %s", effect.reason)

    def _persist(self, effect: ordering.Persist) -> None:
        bodies = self._in_flight.transactions(effect.bodies_of) if effect.bodies_of is not None else ()
        self._promises.keep(effect.records, bodies)
        self._metrics.vote_syncs.inc()

    def _truncate(self, effect: ordering.Truncate) -> None:
        self._promises.truncate(effect.records, self._chain.head.header.height)

    def _check(self, effect: ordering.Check) -> None:
        assert self._nursery is not None, "effects are carried out while the driver runs"
        self._in_flight.check(effect, self._nursery)

    def _deliver(self, effect: ordering.Deliver) -> None:
        header, digest = effect.header, effect.header.digest()
        if header.height <= self._chain.head.header.height:
            return  # Catching up was faster.
        transactions = self._in_flight.transactions(digest)
        self._commit(header, transactions, self._in_flight.execution(digest), effect.certificate)
        self._told.agreed(header, transactions, _now_ms())

    def _commit(
        self, header: Header, transactions: Sequence[Transaction], execution: Execution, certificate: Certificate
    ) -> None:
        before = self._chain.ledger.validators
        self._chain.commit(header, transactions, execution, certificate)
        self._mempool.remove(transaction.id for transaction in transactions)
        self._in_flight.clear()
        self._proposer.on_commit(_now_ms())
        self._metrics.height.set(header.height)
        self._metrics.mempool_transactions.set(len(self._mempool))
        if self._chain.ledger.validators is not before:
            self._begin_epoch()


def _channel(data: bytes) -> str:
    return VOTE_CHANNEL if len(data) < BULK_BYTES_MIN else BLOCK_CHANNEL


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
