"""A small real chain without any node: real keys, signed transactions, certificates by three of four validators.

What executing means is trivial, and the same for everyone: each transaction writes its signer under its id, and one
height hands over to a second epoch, in which north votes with another node key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from nacl.bindings import crypto_scalarmult_base

from storage.indexes import Indexes
from storage.ledger import Block, Commit, Ledger
from storage.merkle import log
from storage.schema.block import (
    BLOCK_VERSION,
    Certificate,
    Header,
    Outcome,
    Result,
    VoteType,
    transactions_root,
    vote_preimage,
)
from storage.schema.calls import RegisterPatient
from storage.schema.codec import encode
from storage.schema.events import PatientRegistered
from storage.schema.genesis import Genesis, Member, Parameters, check_body
from storage.schema.genesis import encode_body as encode_genesis_body
from storage.schema.signatures import public_key_of, sign
from storage.schema.transaction import Transaction, decode_transaction, encode_body, encode_envelope, sign_body
from storage.schema.validators import Validator, ValidatorSet
from storage.state import PreparedState, State

NAMES = ("east", "north", "south", "west")
GENESIS_STATE = {b"member/" + name.encode(): name.encode() for name in NAMES}
SEALING_KEY = crypto_scalarmult_base(sha256(b"sealing").digest())
START_MS = 1_800_000_000_000
HANDOVER_HEIGHT = 3


def seed_of(name: str) -> bytes:
    return sha256(b"seed of " + name.encode()).digest()


def make_genesis(name: str = "chainnet") -> Genesis:
    members = tuple(
        Member(
            name=member,
            organisation_key=public_key_of(seed_of(f"{name}/{member}/organisation")),
            node_key=public_key_of(seed_of(f"{name}/{member}/node")),
            service_key=public_key_of(seed_of(f"{name}/{member}/service")),
            encryption_key=crypto_scalarmult_base(seed_of(f"{name}/{member}/encryption")),
            addresses=(),
            roles=("validator",),
        )
        for member in NAMES
    )
    return check_body(encode_genesis_body(name, Parameters(), members))


def make_transaction(genesis: Genesis, number: int, *, time_ms: int = START_MS) -> Transaction:
    signer = seed_of(f"patient {number % 16}")
    body = encode_body(
        chain_id=genesis.chain_id,
        nonce=number.to_bytes(16, "big"),
        not_after_s=time_ms // 1000 + 60 + 60 * (number % 3),
        payer="north",
        signers=[public_key_of(signer)],
        method="identity.register_patient",
        arguments=RegisterPatient(SEALING_KEY),
    )
    return decode_transaction(encode_envelope(body, [sign_body(body, signer)]))


def node_seed(genesis: Genesis, member: str, epoch: int) -> bytes:
    return seed_of(f"{genesis.body.name}/{member}/node{'' if epoch == 0 or member != 'north' else ' 2'}")


def validators_after(genesis: Genesis, height: int) -> ValidatorSet:
    if height < HANDOVER_HEIGHT:
        return genesis.validators
    return ValidatorSet(
        1, "pbft", tuple(Validator(member, public_key_of(node_seed(genesis, member, 1))) for member in NAMES)
    )


@dataclass(frozen=True)
class Executed:
    """What executing a block gave, in the shape that the ledger takes."""

    outcomes: tuple[bytes, ...]
    result: Result
    prepared: PreparedState
    seen: dict[int, tuple[bytes, ...]]
    expired: tuple[tuple[int, int], ...]
    trail: tuple[tuple[bytes, int], ...]
    validators: ValidatorSet


def trail_of(transactions: Sequence[Transaction], _: Sequence[object]) -> list[tuple[bytes, int]]:
    return [(transaction.body.signers[0], index) for index, transaction in enumerate(transactions)]


def execute(
    genesis: Genesis, header: Header, transactions: Sequence[Transaction], state: State, indexes: Indexes | Ledger
) -> Executed:
    outcomes = tuple(
        encode(Outcome("transaction", t.id, "ok", (PatientRegistered(t.body.signers[0], t.body.payer),)))
        for t in transactions
    )
    minutes: dict[int, list[bytes]] = {}
    for transaction in transactions:
        minutes.setdefault(transaction.body.not_after_s // 60, []).append(transaction.id)
    validators = validators_after(genesis, header.height)
    prepared = state.prepare({b"tx/" + t.id: t.body.signers[0] for t in transactions})
    root = log.root([log.leaf_hash(outcome) for outcome in outcomes])
    return Executed(
        outcomes=outcomes,
        result=Result(prepared.root, root, len(outcomes), validators.digest()),
        prepared=prepared,
        seen={minute: tuple(sorted(ids)) for minute, ids in minutes.items()},
        expired=indexes.expired_seen(header.time_ms // 60_000, 4),
        trail=tuple(trail_of(transactions, outcomes)),
        validators=validators,
    )


def make_header(genesis: Genesis, ledger: Ledger, transactions: Sequence[Transaction], time_ms: int) -> Header:
    head = ledger.head
    return Header(
        version=BLOCK_VERSION,
        chain_id=genesis.chain_id,
        epoch=ledger.validators.epoch,
        height=head.height + 1,
        parent=head.digest,
        parent_result=head.result_digest,
        time_ms=time_ms,
        proposer=ledger.validators.validators[0].name,
        first_view=0,
        tx_root=transactions_root([transaction.leaf for transaction in transactions]),
        tx_count=len(transactions),
        tx_bytes=sum(len(transaction.envelope) for transaction in transactions),
        validators_hash=ledger.validators.digest(),
        history_root=ledger.history.root(),
    )


def certify(genesis: Genesis, header: Header, result: Result, signers: Sequence[int] = (0, 1, 3)) -> Certificate:
    seeds = [(signer, node_seed(genesis, NAMES[signer], header.epoch)) for signer in signers]
    return certify_by(genesis, header, result, seeds)


def certify_by(genesis: Genesis, header: Header, result: Result, seeds: Sequence[tuple[int, bytes]]) -> Certificate:
    """A certificate by these positions of the set, with the seeds of their keys."""
    statement = (header.height, header.digest(), result.digest())
    preimage = vote_preimage(genesis.chain_id, header.epoch, VoteType.COMMIT, 0, *statement)
    signatures = tuple(sign(seed, preimage) for _, seed in seeds)
    return Certificate(header.epoch, 0, *statement, tuple(position for position, _ in seeds), signatures)


def make_commit(genesis: Genesis, ledger: Ledger, transactions: Sequence[Transaction], time_ms: int) -> Commit:
    header = make_header(genesis, ledger, transactions, time_ms)
    executed = execute(genesis, header, transactions, ledger.state, ledger)
    certificate = certify(genesis, header, executed.result)
    envelopes = tuple(transaction.envelope for transaction in transactions)
    return Commit(
        block=Block(header, envelopes, certificate, executed.result, executed.outcomes),
        ids=tuple(transaction.id for transaction in transactions),
        state=executed.prepared,
        seen=executed.seen,
        expired=executed.expired,
        trail=executed.trail,
        validators=executed.validators,
    )


def extend(genesis: Genesis, ledger: Ledger, block_count: int, tx_count: int = 3) -> list[Transaction]:
    """Commit blocks, a minute of block time apart, and return their transactions."""
    committed = []
    for _ in range(block_count):
        height = ledger.head.height + 1
        time_ms = START_MS + 60_000 * height
        transactions = [make_transaction(genesis, 1000 * height + n, time_ms=time_ms) for n in range(tx_count)]
        ledger.commit(make_commit(genesis, ledger, transactions, time_ms))
        committed += transactions
    return committed
