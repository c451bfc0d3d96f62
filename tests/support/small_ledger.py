"""A ledger in memory that judges and executes real signed transactions, for tests of rules and of execution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from nacl.bindings import crypto_scalarmult_base

from node.contracts.governance import genesis_state
from node.execution.includable import check_block
from node.execution.transition import Execution, execute_block
from storage.merkle import log
from storage.schema.block import OUTCOME, Header, Outcome, Result, history_leaf
from storage.schema.genesis import Genesis, Member, Parameters, check_body, encode_body
from storage.schema.signatures import public_key_of
from storage.schema.transaction import Transaction
from tests.support.chain import NAMES, make_header, seed_of


@dataclass(frozen=True)
class Actor:
    """Somebody with keys; made from a name, so that every run has the same ones."""

    name: str

    @property
    def seed(self) -> bytes:
        return seed_of(self.name)

    @property
    def key(self) -> bytes:
        return public_key_of(self.seed)

    @property
    def sealing_key(self) -> bytes:
        return crypto_scalarmult_base(seed_of(f"{self.name}, sealing"))


def of_member(member: str, key: str) -> Actor:
    """A member as the holder of one of its keys, named as in ``tests.support.chain``, which signs certificates."""
    return Actor(f"testnet/{member}/{key}")


def service(member: str) -> Actor:
    return of_member(member, "service")


def make_genesis(parameters: Parameters | None = None) -> Genesis:
    members = tuple(
        Member(
            name=name,
            organisation_key=of_member(name, "organisation").key,
            node_key=of_member(name, "node").key,
            service_key=service(name).key,
            encryption_key=of_member(name, "encryption").sealing_key,
            addresses=(),
            roles=("validator",),
        )
        for name in NAMES
    )
    return check_body(encode_body("testnet", parameters or Parameters(), members))


@dataclass(frozen=True)
class DictPrepared:
    values: dict[bytes, bytes]

    @property
    def root(self) -> bytes:
        content = b"".join(sha256(key).digest() + sha256(value).digest() for key, value in sorted(self.values.items()))
        return sha256(content).digest()


@dataclass
class DictState:
    values: dict[bytes, bytes]

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def prepare(self, writes: Mapping[bytes, bytes | None]) -> DictPrepared:
        after = dict(self.values)
        for key, value in writes.items():
            if value is None:
                after.pop(key, None)
            else:
                after[key] = value
        return DictPrepared(after)


@dataclass(frozen=True)
class SmallHead:
    header: Header
    result: Result

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def digest(self) -> bytes:
        return self.header.digest()

    @property
    def result_digest(self) -> bytes:
        return self.result.digest()


@dataclass(frozen=True)
class SmallBlock:
    envelopes: tuple[bytes, ...]


@dataclass
class SmallLedger:
    """Holds blocks, state, seen ids and trail as the real ledger does, without a disk."""

    genesis: Genesis
    blocks: list[tuple[Header, tuple[Transaction, ...], tuple[bytes, ...]]] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    subjects: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    history_from: int = 1

    def __post_init__(self) -> None:
        self.state = DictState(genesis_state(self.genesis))
        result = Result(self.state.prepare({}).root, log.EMPTY_ROOT, 0, self.genesis.validators.digest())
        self.head = SmallHead(self.genesis.header, result)
        self.blocks.append((self.genesis.header, (), ()))
        self.validators = self.genesis.validators
        self.history = log.Frontier()
        self.history.append(history_leaf(self.head.digest, self.head.result_digest))

    def check_history(self) -> None:
        """All of it is here."""

    def contains(self, tx_id: bytes) -> bool:
        return tx_id in self.places

    def locate(self, tx_id: bytes) -> tuple[int, int] | None:
        return self.places.get(tx_id)

    def expired_seen(self, before_minute: int, limit: int) -> tuple[tuple[int, int], ...]:
        return tuple(sorted(entry for entry in self.seen if entry[0] < before_minute)[:limit])

    def trail(self, subject: bytes, *, from_height: int = 0, limit: int = 1 << 30) -> Iterator[tuple[int, int]]:
        places = [place for place in self.subjects.get(subject, ()) if place[0] >= from_height]
        return iter(places[:limit])

    def header(self, height: int) -> Header:
        return self.blocks[height][0]

    def outcome(self, height: int, index: int) -> Outcome:
        return OUTCOME.decode(self.blocks[height][2][index])

    def block(self, height: int) -> "SmallBlock":
        return SmallBlock(tuple(transaction.envelope for transaction in self.blocks[height][1]))

    def append(self, transactions: Sequence[Transaction], time_ms: int) -> Execution:
        """Judge, execute and commit a block of these transactions."""
        header = make_header(self.genesis, self, transactions, time_ms)
        check_block(header, transactions, self, self.genesis)
        execution = execute_block(header, transactions, self, self.genesis)
        prepared = execution.prepared
        assert isinstance(prepared, DictPrepared)
        self.state = DictState(prepared.values)
        self.head = SmallHead(header, execution.result)
        self.validators = execution.validators
        self.history.append(history_leaf(self.head.digest, self.head.result_digest))
        self.blocks.append((header, tuple(transactions), execution.outcomes))
        self.seen |= {(minute, header.height) for minute in execution.seen}
        self.seen -= set(execution.expired)
        for index, transaction in enumerate(transactions):
            self.places[transaction.id] = (header.height, index)
        for subject, index in execution.trail:
            self.subjects.setdefault(subject, []).append((header.height, index))
        return execution
