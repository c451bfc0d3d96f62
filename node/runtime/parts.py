"""A node's parts, made from its home and put together; nothing runs yet."""

import logging
import secrets as randomness
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from node.api.commits import Commits
from node.config import Config, Home
from node.contracts.governance import genesis_state
from node.custody.custodian import Custodian
from node.custody.data_keys import DataKeys
from node.custody.deposits import Deposits
from node.custody.gatekeeper import Gatekeeper
from node.custody.labels import Labels
from node.custody.reader import Reader
from node.custody.vault import Folder, Vault
from node.custody.wire import CONTENT_SERVICE, KEY_SERVICE, PeerUnreachableError
from node.mempool import Mempool
from node.metrics import Metrics
from node.network.host import Network
from node.network.peers import Peer, RequestError
from node.replication.bodies import Bodies
from node.replication.catch_up import CatchUp
from node.replication.chain import Chain, Committed
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL, Driver
from node.replication.engines import make_engine
from node.replication.history import History
from node.replication.intake import Intake
from node.replication.promises import Promises
from node.replication.proposer import Proposer
from node.replication.snapshots import Snapshots
from node.replication.state_fetch import StateFetch
from storage.database import DatabaseCorruptError
from storage.ledger import Ledger
from storage.places import forget_replaced, quarantined
from storage.schema.codec import tagged_digest
from storage.schema.genesis import Genesis
from storage.vote_log import VoteLog

START_NUMBER_BYTES = 16
LEDGER_FOLDER = "ledger"
VOTES_FILE = "votes.log"

log = logging.getLogger("caretrace.runtime")


def wall_ms() -> int:
    """This machine's clock, in milliseconds since 1970: used for a block's time and its judgement, never below."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Opened:
    """What lies on disk, opened: it must be closed again.

    ``votes_height``: without a vote log because that is ahead of the ledger, the height that it knows of; else 0.
    """

    ledger: Ledger
    vote_log: VoteLog | None
    votes_height: int = 0


class Rebirth:
    """A wish to close everything and to begin again from what lies on the disk, in the same process."""

    def __init__(self) -> None:
        """Nobody wishes it yet."""
        self.wanted = trio.Event()
        self.damage: DatabaseCorruptError | None = None
        """What was found to be damaged: it is put aside before."""

    def want(self, why: str, damage: DatabaseCorruptError | None = None) -> None:
        """Begin again, for this reason."""
        log.info("begins again: %s", why)
        self.damage = self.damage or damage
        self.wanted.set()


class _Peers:
    """Requests of the custody's readers, in the words that custody knows."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def request(self, member: str, service: str, payload: bytes, timeout_s: float) -> bytes:
        try:
            return await self._network.request(member, service, payload, timeout_s)
        except RequestError as error:
            raise PeerUnreachableError(str(error)) from None


class Parts:
    """Every part of one node, wired together."""

    def __init__(
        self, home: Home, config: Config, genesis: Genesis, secrets: Mapping[str, bytes], opened: Opened
    ) -> None:
        """Wire the parts of member ``config.name``; handlers are registered, nothing runs."""
        self.config = config
        self.genesis = genesis
        self.opened = opened
        self.metrics = Metrics()
        self.rebirth = Rebirth()
        self.network = Network(config.name, secrets["node"], config.listen, other_members(genesis, config.name))
        self._make_replication(secrets["node"])
        self._make_custody(home, secrets)
        self._connect()

    def _make_replication(self, node_seed: bytes) -> None:
        name, genesis = self.config.name, self.genesis
        self.chain = Chain(self.opened.ledger, genesis, self.metrics)
        self.mempool = Mempool(self.config.mempool_transactions_max, self.config.mempool_bytes_max)
        self.engine = make_engine(name, genesis, node_seed)
        self.proposer = Proposer(name, self.chain, self.mempool, wall_ms)
        self.intake = Intake(
            name, self.chain, self.mempool, self.network, self.metrics, wall_ms, lambda: self.engine.primary
        )
        self.bodies = Bodies(self.mempool, self.network, self.metrics, self.intake.verify)
        promises = Promises(self.opened.vote_log, self.opened.votes_height)
        self.bodies.recover(promises.bodies())
        self.driver = Driver(
            self.engine,
            self.chain,
            promises,
            self.network,
            self.mempool,
            self.bodies,
            self.proposer,
            self.metrics,
            wall_ms,
        )
        ledger_folder = self.opened.ledger.database.path
        self.state_fetch = StateFetch(self.chain, self.network, ledger_folder, genesis_state(genesis))
        self.snapshots = Snapshots(self.chain, self.network)
        self.history = History(self.chain, self.network, partial(forget_replaced, ledger_folder))
        self.catch_up = CatchUp(
            name,
            self.chain,
            self.driver,
            self.network,
            self.metrics,
            self.intake.verify,
            take_state=self._take_state,
            blocks_behind_max=self.config.blocks_behind_max,
        )

    def _make_custody(self, home: Home, secrets: Mapping[str, bytes]) -> None:
        name, ledger = self.config.name, self.opened.ledger
        member = self.genesis.member(name)
        assert member is not None, "a node is started by a member of its network"
        self.custodian = Custodian(
            name,
            self.genesis.chain_id,
            member.service_key,
            member.encryption_key,
            secrets["service"],
            secrets["encryption"],
        )
        vault = Vault(home.resolve(self.config.vault))
        data_keys = DataKeys(Folder(home.resolve(self.config.data_keys)), member.encryption_key, secrets["encryption"])
        submit = self.intake.submit
        self.commits = Commits(ledger.head.height)
        self.labels = Labels(data_keys)
        self.deposits = Deposits(self.custodian, ledger, submit, vault, data_keys, wall_ms)
        self.gatekeeper = Gatekeeper(self.custodian, ledger, self.commits, submit, vault, data_keys, wall_ms)
        self.reader = Reader(name, ledger, self.gatekeeper, _Peers(self.network), wall_ms)

    async def _take_state(self) -> bool:
        if not await self.state_fetch.take():
            return False
        self.rebirth.want("the state of a later block is here")
        return True

    def _connect(self) -> None:
        self.network.on_message(VOTE_CHANNEL, self.driver.on_message, drop_oldest=True)
        self.network.on_message(BLOCK_CHANNEL, self.driver.on_message, drop_oldest=True)
        self.network.on_connected(self.driver.on_connected)
        self.intake.serve(self.driver.work_arrived)
        self.bodies.serve()
        self.catch_up.serve()
        self.snapshots.serve()
        self.network.on_request(CONTENT_SERVICE, self.gatekeeper.on_content_request)
        self.network.on_request(KEY_SERVICE, self.gatekeeper.on_key_request)
        self.driver.listen(self.catch_up.want, self.intake.forward_again)
        self.chain.listen(self._on_commit)

    def _on_commit(self, committed: Committed) -> None:
        if committed.header.height == self.opened.votes_height:
            self.rebirth.want("it has caught up with its vote log")
        ids = [transaction.id for transaction in committed.transactions]
        self.commits.on_block(committed.header.height, ids)
        self.deposits.on_block(committed.header.time_ms, ids)


def other_members(genesis: Genesis, name: str) -> tuple[Peer, ...]:
    """Return the other members as the network knows them."""
    return tuple(
        Peer(member.name, member.node_key, member.addresses) for member in genesis.body.members if member.name != name
    )


def open_ledger(data: Path, genesis: Genesis) -> Ledger:
    """Open the ledger of a data folder, or begin it.

    Raises:
        LedgerError, DatabaseError: it cannot be used; which area is damaged, and why, is said.
    """
    return Ledger.open(data / LEDGER_FOLDER, genesis, genesis_state(genesis))


def open_vote_log(data: Path, ledger: Ledger, genesis: Genesis, name: str) -> VoteLog:
    """Open the vote log beside a ledger, or begin it: never where the ledger, or one before it, says that one was.

    Raises:
        VoteLogError: what this validator has promised is not known: it must not vote.
    """
    member = genesis.member(name)
    assert member is not None
    owner = tagged_digest(b"CARETRACE/votes/1", genesis.chain_id, member.node_key)
    height = ledger.head.header.height
    must_exist = ledger.has_vote_log or bool(quarantined(ledger.database.path))
    if (data / VOTES_FILE).exists():
        ledger.note_vote_log()  # Also if it cannot be used: that there was one must not be forgotten.
    vote_log = VoteLog.open(data / VOTES_FILE, owner, ledger_height=height, must_exist=must_exist)
    ledger.note_vote_log()
    return vote_log


def new_start_number() -> bytes:
    """Return the fresh number by which answers meant for an earlier start are told apart."""
    return randomness.token_bytes(START_NUMBER_BYTES)
