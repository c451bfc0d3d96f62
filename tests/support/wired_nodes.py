"""Whole nodes in this process, but for their HTTP: real ledgers, vote logs, engines and connections on loopback.

They are wired as ``node.runtime`` wires them, with a clock of the test's own for each.
"""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.engine import Engine
from node.config import Config
from node.contracts.entries import load_person
from node.contracts.governance import genesis_state
from node.mempool import Mempool
from node.metrics import Metrics
from node.network.host import Network
from node.replication.accusations import Accusations
from node.replication.bodies import Bodies
from node.replication.catch_up import CatchUp
from node.replication.chain import Chain, Committed
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL, Driver, Listeners
from node.replication.engines import engine_maker
from node.replication.history import History
from node.replication.intake import Intake
from node.replication.neglect import Neglect
from node.replication.promises import Promises
from node.replication.proposer import Proposer
from node.replication.snapshots import Snapshots
from node.replication.state_fetch import StateFetch
from node.runtime.healing import take_arrived
from node.runtime.parts import open_vote_log, other_members
from storage.ledger import Ledger
from storage.schema.calls import RegisterPatient
from storage.schema.codec import Value
from storage.schema.genesis import Genesis, Member, Parameters, check_body
from storage.schema.genesis import encode_body as encode_genesis_body
from storage.schema.signatures import public_key_of
from storage.schema.transaction import (
    Transaction,
    decode_transaction,
    encode_body,
    encode_envelope,
    sign_body,
)
from storage.vote_log import VoteLog, VoteLogAheadError, VoteLogError
from tests.support.chain import NAMES
from tests.support.members import free_port, until
from tests.support.small_ledger import Actor, of_member, service


def make_genesis(parameters: Parameters | None = None) -> Genesis:
    """Four members on loopback, each on a port that is free now."""
    members = tuple(
        Member(
            name=name,
            organisation_key=of_member(name, "organisation").key,
            node_key=of_member(name, "node").key,
            service_key=service(name).key,
            encryption_key=of_member(name, "encryption").sealing_key,
            addresses=(f"/ip4/127.0.0.1/tcp/{free_port()}",),
            roles=("validator",),
        )
        for name in NAMES
    )
    return check_body(encode_genesis_body("testnet", parameters or Parameters(), members))


def registration(
    genesis: Genesis, number: int, *, payer: str = "north", lifetime_s: int = 300, nonce: bytes | None = None
) -> Transaction:
    """A new patient's registration; patients are numbered."""
    patient = Actor(f"patient {number}")
    body = encode_body(
        genesis.chain_id,
        nonce or secrets.token_bytes(16),
        int(time.time()) + lifetime_s,
        payer,
        [patient.key, service(payer).key],
        "identity.register_patient",
        RegisterPatient(patient.sealing_key),
    )
    return decode_transaction(
        encode_envelope(body, [sign_body(body, patient.seed), sign_body(body, service(payer).seed)])
    )


def is_registered(node: "WiredNode", number: int) -> bool:
    return load_person(node.chain.ledger.state, Actor(f"patient {number}").key) is not None


@dataclass
class WiredNode:
    """The node of one member, which runs once; its folder outlives it, so that it can be made again."""

    name: str
    genesis: Genesis
    folder: Path
    clock_ms: int = 0
    """How far the node's clock is ahead of this machine's."""
    mempool_max: int = 1000
    blocks_behind_max: int = 200
    listen: tuple[str, ...] = ()
    """Where a member listens that genesis does not name."""
    node_key: str = "node"
    """Which of the member's node keys it holds."""
    halted_log: VoteLogError | None = None
    """Why its vote log cannot be used."""
    has_started: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        genesis, name = self.genesis, self.name
        founder = genesis.member(name)
        config = Config(name=name, listen=founder.addresses if founder else self.listen)
        self.metrics = Metrics()
        self.folder.mkdir(exist_ok=True)
        take_arrived(self.folder, genesis)
        self.ledger = Ledger.open(self.folder / "ledger", genesis, genesis_state(genesis))
        self.network = Network(name, self.node_seed, config.listen, other_members(self.ledger.state, name))
        self.vote_log: VoteLog | None = None
        try:
            self.vote_log = open_vote_log(self.folder, self.ledger, genesis, public_key_of(self.node_seed))
        except VoteLogError as error:
            self.halted_log = error
        self.chain = Chain(self.ledger, genesis, self.metrics)
        self.mempool = Mempool(self.mempool_max)
        self.proposer = Proposer(name, self.chain, self.mempool, self.wall_ms)
        self.intake = Intake(
            name, self.chain, self.mempool, self.network, self.metrics, self.wall_ms, lambda: self.engine.primary
        )
        self.bodies = Bodies(self.mempool, self.network, self.metrics, self.intake.verify)
        log_height = self.halted_log.height if isinstance(self.halted_log, VoteLogAheadError) else 0
        promises = Promises(self.vote_log, log_height)
        self.bodies.recover(promises.bodies())
        self.driver = Driver(
            engine_maker(name, genesis, self.node_seed),
            self.chain,
            promises,
            self.network,
            self.mempool,
            self.bodies,
            self.proposer,
            self.metrics,
            self.wall_ms,
        )
        self.state_fetch = StateFetch(self.chain, self.network, self.folder / "ledger", genesis_state(genesis))
        self.snapshots = Snapshots(self.chain, self.network)
        self.history = History(self.chain, self.network, lambda: None)
        self.has_taken_state = trio.Event()
        self.catch_up = CatchUp(
            name,
            self.chain,
            self.driver,
            self.network,
            self.metrics,
            self.intake.verify,
            take_state=self._take_state,
            blocks_behind_max=self.blocks_behind_max,
        )
        self.neglect = Neglect(
            self.chain, self.mempool, lambda: self.engine.primary, self.intake.urge, self.driver.complain
        )
        self.accusations = Accusations(name, self.chain, self.sign, self.intake.submit, self.wall_ms)
        self._connect()

    async def _take_state(self) -> bool:
        is_here = await self.state_fetch.take()
        if is_here:
            self.has_taken_state.set()
        return is_here

    def _connect(self) -> None:
        self.network.on_message(VOTE_CHANNEL, self.driver.on_message, drop_oldest=True)
        self.network.on_message(BLOCK_CHANNEL, self.driver.on_message, drop_oldest=True)
        self.network.on_connected(self.driver.on_connected)
        self.intake.serve(self.driver.work_arrived)
        self.bodies.serve()
        self.catch_up.serve()
        self.snapshots.serve()
        self.chain.listen(self._on_commit)
        self.driver.listen(
            Listeners(
                catch_up=self.catch_up.want,
                later_epoch=self.catch_up.hint,
                view_entered=self.intake.forward_again,
                agreed=self.neglect.on_block,
                accused=self.accusations.accuse,
            )
        )

    @property
    def engine(self) -> Engine:
        """That of the epoch in force."""
        return self.driver.engine

    @property
    def node_seed(self) -> bytes:
        return of_member(self.name, self.node_key).seed

    def _on_commit(self, committed: Committed) -> None:
        if committed.members_changed:
            self.network.set_peers(other_members(self.ledger.state, self.name))

    def sign(self, not_after_s: int, method: str, arguments: Value) -> tuple[bytes, bytes]:
        """Sign a call with the member's service key."""
        key, nonce = service(self.name), secrets.token_bytes(16)
        body = encode_body(self.genesis.chain_id, nonce, not_after_s, self.name, [key.key], method, arguments)
        return body, encode_envelope(body, [sign_body(body, key.seed)])

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.clock_ms

    @property
    def height(self) -> int:
        return self.chain.head.header.height

    @property
    def may_vote(self) -> bool:
        return self.has_started and self.engine.may_vote

    def counted(self, name: str) -> int:
        """One of its own counters."""
        value = self.metrics.registry.get_sample_value(f"caretrace_{name}_total")
        assert value is not None, name
        return int(value)

    async def submit(self, *transactions: Transaction) -> list[str]:
        """Hand in what a client would; the codes of the refusals, empty where it was taken."""
        answers = await self.intake.submit([transaction.envelope for transaction in transactions])
        return ["" if isinstance(answer, bytes) else answer.code for answer in answers]

    def close(self) -> None:
        """Close what lies on disk, once; a node that runs is to be stopped first."""
        if not self.is_closed and self.vote_log is not None:
            self.vote_log.close()
        self.ledger.close()
        self.is_closed = True

    async def _drive(self) -> None:
        self.has_started = True
        await self.driver.run(lambda: secrets.token_bytes(16))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run it; when the context ends it is gone at once, as if killed."""
        async with self.network.run(), trio.open_nursery() as nursery:
            nursery.start_soon(self._drive)
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self.catch_up.run)
            nursery.start_soon(self.snapshots.run)
            nursery.start_soon(self.history.run)
            nursery.start_soon(self.accusations.run)
            try:
                await until(lambda: self.has_started)
                yield
            finally:
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(*nodes: WiredNode) -> AsyncIterator[None]:
    """Run nodes until all of them may vote, and then as long as the context lasts."""
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.run())
        await until(lambda: all(node.may_vote for node in nodes))
        yield


@asynccontextmanager
async def killed_in_the_end(node: WiredNode) -> AsyncIterator[trio.CancelScope]:
    """Run one node in a scope of its own: cancelling it kills the node while the others go on."""
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def live() -> None:
            with scope:
                async with node.run():
                    await trio.sleep_forever()

        nursery.start_soon(live)
        try:
            yield scope
        finally:
            scope.cancel()


def make_nodes(folder: Path, genesis: Genesis, names: Sequence[str] = NAMES) -> list[WiredNode]:
    return [WiredNode(name, genesis, folder / name) for name in names]


def are_level(nodes: Sequence[WiredNode], height: int = 0) -> bool:
    """Whether all stand on one block, at this height at least."""
    heads = {(node.chain.head.digest, node.chain.head.result_digest) for node in nodes}
    return len(heads) == 1 and nodes[0].height >= height
