"""A node's parts, made from its home and put together; nothing runs yet."""

import logging
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from node.api.commits import Commits
from node.config import Config, Home
from node.contracts.contract import StateReader
from node.contracts.entries import load_member, load_members
from node.contracts.governance import genesis_state
from node.custody.custodian import Custodian
from node.custody.data_keys import DataKeys
from node.custody.deposits import Deposits
from node.custody.gatekeeper import Gatekeeper
from node.custody.labels import Labels
from node.custody.reader import Reader
from node.custody.vault import Folder, Vault
from node.custody.wire import CONTENT_SERVICE, KEY_SERVICE, PeerUnreachableError
from node.keys.keyfile import public_key
from node.mempool import Mempool
from node.metrics import Metrics
from node.network.host import Network
from node.network.peers import Peer, RequestError
from node.replication.accusations import Accusations
from node.replication.bodies import Bodies
from node.replication.catch_up import CatchUp
from node.replication.chain import Chain, Committed, DivergedError
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL, Driver, Listeners
from node.replication.engines import engine_maker
from node.replication.history import History
from node.replication.intake import Intake
from node.replication.neglect import Neglect
from node.replication.promises import Promises
from node.replication.proposer import Proposer
from node.replication.snapshots import Snapshots
from node.replication.state_fetch import StateFetch
from storage.database import DatabaseCorruptError
from storage.ledger import Ledger
from storage.places import forget_replaced, quarantined
from storage.schema.codec import tagged_digest
from storage.schema.genesis import Genesis
from storage.schema.invite import Invite
from storage.vote_log import VoteLog

START_NUMBER_BYTES = 16
LEDGER_FOLDER = "ledger"

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
        self,
        home: Home,
        config: Config,
        genesis: Genesis,
        secrets: Mapping[str, bytes],
        opened: Opened,
        *,
        older_encryption: Sequence[bytes] = (),
        invite: Invite | None = None,
    ) -> None:
        """Wire the parts of member ``config.name``; handlers are registered, nothing runs.

        ``older_encryption`` are the secrets of encryption keys that were replaced. ``invite`` is how the member came
        to the network, if it did not found it.
        """
        self.node_key = public_key("node", secrets["node"])
        self._invite = invite
        self.config = config
        self.genesis = genesis
        self.opened = opened
        self.metrics = Metrics()
        self.rebirth = Rebirth()
        self.network = Network(config.name, secrets["node"], config.listen, self._peers())
        self._make_replication(secrets["node"])
        self._make_custody(home, secrets, older_encryption)
        self._make_watch()
        self._connect()

    def _make_replication(self, node_seed: bytes) -> None:
        name, genesis = self.config.name, self.genesis
        self.chain = Chain(self.opened.ledger, genesis, self.metrics)
        self.mempool = Mempool(self.config.mempool_transactions_max, self.config.mempool_bytes_max)
        self.proposer = Proposer(name, self.chain, self.mempool, wall_ms)
        self.intake = Intake(
            name, self.chain, self.mempool, self.network, self.metrics, wall_ms, lambda: self.driver.engine.primary
        )
        self.bodies = Bodies(self.mempool, self.network, self.metrics, self.intake.verify)
        promises = Promises(self.opened.vote_log, self.opened.votes_height)
        self.bodies.recover(promises.bodies())
        self.driver = Driver(
            engine_maker(name, genesis, node_seed),
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

    def _make_custody(self, home: Home, secrets: Mapping[str, bytes], older_encryption: Sequence[bytes]) -> None:
        name, ledger = self.config.name, self.opened.ledger
        encryption_key = public_key("encryption", secrets["encryption"])
        encryption_secrets = (secrets["encryption"], *older_encryption)
        self.custodian = Custodian(
            name,
            self.genesis.chain_id,
            public_key("service", secrets["service"]),
            encryption_key,
            secrets["service"],
            encryption_secrets,
        )
        vault = Vault(home.resolve(self.config.vault))
        data_keys = DataKeys(Folder(home.resolve(self.config.data_keys)), encryption_key, encryption_secrets)
        submit = self.intake.submit
        self.commits = Commits(ledger.head.height)
        self.labels = Labels(data_keys)
        self.deposits = Deposits(self.custodian, ledger, submit, vault, data_keys, wall_ms)
        self.gatekeeper = Gatekeeper(self.custodian, ledger, self.commits, submit, vault, data_keys, wall_ms)
        self.reader = Reader(name, ledger, self.gatekeeper, _Peers(self.network), wall_ms)

    def _make_watch(self) -> None:
        self.neglect = Neglect(
            self.chain, self.mempool, lambda: self.driver.engine.primary, self.intake.urge, self.driver.complain
        )
        self.accusations = Accusations(self.config.name, self.chain, self.custodian.sign, self.intake.submit, wall_ms)

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
        self.driver.listen(
            Listeners(
                catch_up=self.catch_up.want,
                later_epoch=self.catch_up.hint,
                view_entered=self.intake.forward_again,
                agreed=self.neglect.on_block,
                accused=self.accusations.accuse,
            )
        )
        self.chain.listen(self._on_commit)

    def _on_commit(self, committed: Committed) -> None:
        if committed.header.height == self.opened.votes_height:
            self.rebirth.want("it has caught up with its vote log")
        ids = [transaction.id for transaction in committed.transactions]
        self.commits.on_block(committed.header.height, ids)
        self.deposits.on_block(committed.header.time_ms, ids)
        is_invited_height = self._invite is not None and committed.header.height == self._invite.header.height
        if is_invited_height:
            self._check_invite(committed)
        if committed.members_changed or is_invited_height:
            self.network.set_peers(self._peers())

    def _check_invite(self, committed: Committed) -> None:
        assert self._invite is not None
        if committed.header.digest() != self._invite.header.digest():
            detail = f"block {committed.header.height} is not the one that the invite names: this is another chain"
            raise DivergedError(detail)

    def _peers(self) -> tuple[Peer, ...]:
        """Return the other members as the state knows them; until it reaches the invite, as that knows them.

        Where the settings say how a member is reached, that counts.
        """
        ledger, name = self.opened.ledger, self.config.name
        if self._invite is None or ledger.head.header.height >= self._invite.header.height:
            known = other_members(ledger.state, name)
        else:
            members = self._invite.members
            known = tuple(Peer(each.name, each.node_key, each.addresses) for each in members if each.name != name)
        return tuple(replace(peer, addresses=self.config.reach.get(peer.name, peer.addresses)) for peer in known)


def other_members(state: StateReader, name: str) -> tuple[Peer, ...]:
    """Return the other members of now, as the network knows them."""
    entries = [load_member(state, other) for other in load_members(state) if other != name]
    return tuple(Peer(entry.name, entry.node_key, entry.addresses) for entry in entries if entry is not None)


def open_ledger(data: Path, genesis: Genesis) -> Ledger:
    """Open the ledger of a data folder, or begin it.

    Raises:
        LedgerError, DatabaseError: it cannot be used; which area is damaged, and why, is said.
    """
    return Ledger.open(data / LEDGER_FOLDER, genesis, genesis_state(genesis))


def votes_file(data: Path, node_key: bytes) -> Path:
    """Return where the vote log of a key stands: a new key has promised nothing, and has a log of its own."""
    return data / f"votes-{node_key.hex()[:16]}.log"


def open_vote_log(data: Path, ledger: Ledger, genesis: Genesis, node_key: bytes) -> VoteLog:
    """Open the vote log of a node key beside a ledger, or begin it.

    It is never begun where the ledger, or one that was put aside, says that there was one.

    Raises:
        VoteLogError: what this validator has promised is not known: it must not vote.
    """
    owner = tagged_digest(b"CARETRACE/votes/1", genesis.chain_id, node_key)
    height, path = ledger.head.header.height, votes_file(data, node_key)
    was_aside = any(kept.votes == path.name for kept in quarantined(ledger.database.path))
    must_exist = ledger.has_vote_log(node_key) or was_aside
    if path.exists():
        ledger.note_vote_log(node_key)  # Also if it cannot be used: that there was one must not be forgotten.
    vote_log = VoteLog.open(path, owner, ledger_height=height, must_exist=must_exist)
    ledger.note_vote_log(node_key)
    return vote_log


def new_start_number() -> bytes:
    """Return the fresh number by which answers meant for an earlier start are told apart."""
    return randomness.token_bytes(START_NUMBER_BYTES)
