"""A host that keeps the engine's contract in virtual time: effects in order, none before its persist has returned.

It stands for the driver, the mempool, the execution and the fetching of blocks of a real node, in their simplest
honest form, and may lose its power between any two effects.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from consensus.engine import (
    Advanced,
    Broadcast,
    CancelTimer,
    CatchUp,
    Deliver,
    Effect,
    Event,
    PeerConnected,
    Persist,
    Received,
    Recovered,
    Send,
    SetTimer,
    TimerFired,
    Truncate,
    WorkWaiting,
)
from consensus.pbft.replica import Pbft
from storage.schema.block import Certificate
from tests.simulation.virtual_blocks import BlockDesk
from tests.simulation.virtual_disk import Disk, StoredBlock, Write
from tests.simulation.virtual_network import Letter, Network
from tests.simulation.virtual_world import MS, World

BLOCKS_AT_ONCE = 8


@dataclass(frozen=True)
class Manners:
    """How a host behaves: how often bodies travel with the proposal, or its clock makes it refuse a fresh block.

    ``is_certified`` tells whether a commit certificate holds.
    """

    is_certified: Callable[[Certificate], bool]
    inline: float = 0.5
    clock_refusals: float = 0.0
    sync_us_max: int = MS


class Watcher(Protocol):
    """Who looks at everything that an honest host does."""

    def on_step(self, host: "Host", effects: tuple[Effect, ...]) -> None: ...
    def on_send(self, host: "Host", data: bytes) -> None: ...
    def on_commit(self, host: "Host", block: StoredBlock) -> None: ...
    def on_boot(self, host: "Host") -> None: ...
    def on_crash(self, host: "Host", *, writes_lost: bool) -> None: ...


class Host:
    """One node. ``disk`` survives :meth:`crash`; all else is of one life."""

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        disk: Disk,
        make_engine: Callable[[], Pbft],
        watcher: Watcher,
        peers: tuple[str, ...],
        manners: Manners,
    ) -> None:
        self.world, self.network, self.name, self.disk = world, network, name, disk
        self.make_engine, self.watcher, self.peers = make_engine, watcher, peers
        self.manners = manners
        self.sync_us_max = manners.sync_us_max
        self.lazy_truncation = world.chance(0.5)
        self.life = 0
        self.running = False
        self.crash_in_effects: int | None = None
        self.desk = BlockDesk(self)
        network.receivers[name] = self.receive

    def boot(self) -> None:
        """Start anew from the disk."""
        assert not self.running
        self.life += 1
        self.running = True
        self.queue: deque[Effect] = deque()
        self.token_synced = 0
        self.pumping = False
        self.timers: dict[str, int] = {}
        self.pool: dict[bytes, None] = {}
        self.work_told = False
        self.catch_up_to = 0
        self.holders: tuple[str, ...] = ()
        self.fetching = False
        self.pending_truncation: tuple[bytes, ...] | None = None
        self.desk.restart()
        self.engine: Pbft = self.make_engine()
        head = self.disk.head
        disk = self.disk
        recovered = Recovered(
            head.header, head.certificate, head.result, tuple(disk.log), disk.log_whole, disk.log_height
        )
        start_number = self.world.random.randbytes(16)
        effects = self.engine.start(self.world.now_ms, recovered, start_number)
        self.world.note(self.name, f"boots at {head.header.height}, log of {len(self.disk.log)}")
        self.watcher.on_boot(self)
        self._take(effects)

    def crash(self) -> None:
        """Lose power: what was not synced may be lost."""
        assert self.running
        self.running = False
        self.crash_in_effects = None
        lost = self.disk.crash(self.world)
        self.world.note(self.name, f"crashes{', writes lost' if lost else ''}")
        self.watcher.on_crash(self, writes_lost=lost)

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something later, unless this life has ended."""
        life = self.life

        def alive(*given: Any) -> None:
            if self.running and self.life == life:
                action(*given)

        self.world.after(delay_us, alive, *arguments)

    def step(self, event: Event) -> None:
        """Give the engine an event, and carry out what follows from it."""
        self._take(self.engine.step(self.world.now_ms, event))

    def offer(self, transaction: bytes) -> None:
        """A client's transaction reaches this node, if it runs."""
        if self.running and transaction not in self.pool and not self.desk.is_committed(transaction):
            self.pool[transaction] = None
            self.tell_work()
            self.desk.draft_soon()

    def tell_work(self) -> None:
        """Let the engine know whether work waits, when that has changed."""
        if bool(self.pool) != self.work_told:
            self.work_told = bool(self.pool)
            self.step(WorkWaiting(self.work_told))

    def receive(self, sender: str, letter: Letter) -> None:
        """A letter arrives."""
        if not self.running:
            return
        match letter:
            case ("engine", data):
                self.step(Received(sender, data))
            case ("bodies?", digest):
                transactions = self.desk.transactions_of(digest)
                if transactions is not None:
                    self.network.send(self.name, sender, ("bodies", digest, transactions))
            case ("bodies", digest, transactions):
                self.desk.on_bodies(digest, transactions)
            case ("blocks?", height):
                blocks = tuple(self.disk.ledger[height : height + BLOCKS_AT_ONCE])
                if blocks:
                    self.network.send(self.name, sender, ("blocks", blocks))
            case ("blocks", blocks):
                self._on_blocks(blocks)

    def connected(self, peer: str) -> None:
        """A connection stands again."""
        if self.running:
            self.step(PeerConnected(peer))

    def commit(self, block: StoredBlock) -> None:
        """Write a block, in one synced batch."""
        assert block.header.height == len(self.disk.ledger)
        self.disk.ledger.append(block)
        for transaction in block.transactions:
            self.pool.pop(transaction, None)
        self.watcher.on_commit(self, block)
        self.later(0, self.tell_work)

    def _take(self, effects: tuple[Effect, ...]) -> None:
        self.watcher.on_step(self, effects)
        self.queue.extend(effects)
        self._pump()

    def _pump(self) -> None:
        """Carry out effects in order, up to one whose persist has not returned."""
        if self.pumping:
            return
        self.pumping = True
        while self.queue and self.running:
            after = getattr(self.queue[0], "after", None)
            if after is not None and after > self.token_synced:
                break
            self._perform(self.queue.popleft())
            if self.crash_in_effects is not None:
                self.crash_in_effects -= 1
                if self.crash_in_effects <= 0:
                    self.crash()
        self.pumping = False

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Persist():
                self._persist(effect)
            case Truncate(records):
                if self.lazy_truncation:
                    self.pending_truncation = records
                else:
                    self.disk.write(Write(records, whole=True))
            case Send(peer, data):
                self.watcher.on_send(self, data)
                self.network.send(self.name, peer, ("engine", data))
            case Broadcast(data):
                self.watcher.on_send(self, data)
                for peer in self.peers:
                    self.network.send(self.name, peer, ("engine", data))
            case Deliver(header, _, certificate):
                if header.height == len(self.disk.ledger):
                    transactions = self.desk.transactions_of(certificate.digest)
                    assert transactions is not None, "a block is delivered with its bodies held"
                    self.commit(StoredBlock(header, certificate, certificate.result, transactions))
            case SetTimer(name, at_ms):
                self.timers[name] = at_ms
                delay_us = max(at_ms * MS - self.world.now_us, 0)
                self.later(delay_us, self._fire, name, at_ms)
            case CancelTimer(name):
                self.timers.pop(name, None)
            case CatchUp(height, holders):
                self._catch_up(height, holders)
            case _:
                self.desk.perform(effect)

    def _persist(self, effect: Persist) -> None:
        if self.pending_truncation is not None:
            # The spent log goes together with the next promise: no sync of its own.
            self.disk.write(Write(self.pending_truncation, whole=True))
            self.pending_truncation = None
        bodies: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
        if effect.bodies_of is not None:
            transactions = self.desk.transactions_of(effect.bodies_of)
            assert transactions is not None, "bodies are kept of a block whose bodies are held"
            bodies = ((effect.bodies_of, transactions),)
        number = self.disk.write(Write(effect.records, bodies=bodies))
        self.later(self.world.between(50, self.sync_us_max), self._synced, effect.token, number)

    def _synced(self, token: int, number: int) -> None:
        self.disk.sync(number)
        self.token_synced = max(self.token_synced, token)
        self._pump()

    def _fire(self, name: str, at_ms: int) -> None:
        if self.timers.get(name) == at_ms:
            del self.timers[name]
            self.step(TimerFired(name))

    def _catch_up(self, height: int, holders: tuple[str, ...]) -> None:
        self.catch_up_to = max(self.catch_up_to, height)
        self.holders = holders
        if not self.fetching:
            self._ask_for_blocks()

    def _ask_for_blocks(self) -> None:
        self.fetching = len(self.disk.ledger) <= self.catch_up_to
        if self.fetching:
            peer = self.world.random.choice(self.holders or self.peers)
            self.network.send(self.name, peer, ("blocks?", len(self.disk.ledger)))
            self.later(300 * MS, self._ask_for_blocks)

    def _on_blocks(self, blocks: tuple[StoredBlock, ...]) -> None:
        for block in blocks:
            if block.header.height == len(self.disk.ledger) and self.desk.is_certified(block):
                certificate = block.certificate
                assert certificate is not None
                self.commit(block)
                self.step(Advanced(block.header, certificate))
        if self.fetching and len(self.disk.ledger) <= self.catch_up_to and blocks:
            peer = self.world.random.choice(self.holders or self.peers)
            self.network.send(self.name, peer, ("blocks?", len(self.disk.ledger)))
