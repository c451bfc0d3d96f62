"""One block: its outcomes, result, header, votes, certificates and receipts (docs/spec/block.md, receipt.md)."""

import struct
from typing import Any, NamedTuple

import vector_transactions as tx
from vector_genesis import CHAIN_ID, FIRST_DIGEST, VALIDATORS, VALIDATORS_HASH
from vector_primitives import ZERO_DIGEST, derived_id, leaf_hash, named_bytes, pack, path, root, sha256, shown

PATIENT, PHYSICIAN = tx.PATIENT.public, tx.PHYSICIAN.public
ACCESS, EXCLUSION = derived_id(tx.REQUEST.id, 0), derived_id(tx.EXCLUDE.id, 0)
PERMITTED = [ACCESS, tx.RECORD, PATIENT, PHYSICIAN, "south", "north", "TREAT"]
ADMISSION = derived_id(tx.PROPOSE_ADMISSION.id, 0)
NODE_KEY, ENCRYPTION_KEY = tx.REPLACE_KEYS.arguments[0], tx.REPLACE_KEYS.arguments[2]
UNTIL_MS = tx.BLOCK_TIME_MS + 600_000
REFUSED = ["refused", "purpose", "no consent permits this"]

# Beside each transaction what the ledger says of it: the code, and the events.
SAID: list[tuple[str, list[Any]]] = [
    ("ok", [["practitioner.revoked", PHYSICIAN, "south"]]),
    ("ok", [["consent.revoked", tx.CONSENT, PATIENT]]),
    ("ok", [["consent.excluded", EXCLUSION, PATIENT]]),
    (
        "ok",
        [
            ["member.keys_replaced", "west", tx.ORGANISATION["west"].public, NODE_KEY, None, ENCRYPTION_KEY],
            ["validators.changed", 1],
        ],
    ),
    ("ok", [["patient.registered", PATIENT, "north"]]),
    ("ok", [["practitioner.enrolled", PHYSICIAN, "south", "physician", 1_767_225_600, 1_798_761_600]]),
    ("ok", [["record.registered", tx.RECORD, PATIENT, "north", "laboratory"]]),
    ("ok", [["consent.granted", tx.CONSENT, PATIENT]]),
    ("ok", [["consent.granted", derived_id(tx.GRANT_EVERYTHING.id, 0), PATIENT]]),
    ("ok", [["consent.exclusion_ended", EXCLUSION, PATIENT]]),
    ("ok", [["access.permitted", *PERMITTED, tx.CONSENT, UNTIL_MS]]),
    ("consent.denied", [["access.denied", tx.RECORD, PATIENT, PHYSICIAN, "south", "HRESCH"], REFUSED]),
    ("ok", [["access.served", *PERMITTED]]),
    ("ok", [["proposal.made", ADMISSION, "north", "admit", "harbour"]]),
    (
        "ok",
        [
            ["proposal.made", derived_id(tx.PROPOSE_ROLE.id, 0), "south", "role", "west"],
            ["proposal.ended", derived_id(tx.PROPOSE_ROLE.id, 0), "accepted"],
            ["member.changed", "west", tx.ORGANISATION["west"].public, ["observer"]],
        ],
    ),
    (
        "ok",
        [
            ["proposal.made", derived_id(tx.PROPOSE_REMOVAL.id, 0), "east", "remove", "ministry"],
            ["member.changed", "ministry", tx.ORGANISATION["ministry"].public, []],
        ],
    ),
    (
        "ok",
        [
            ["proposal.voted", ADMISSION, "east", False],
            ["proposal.ended", ADMISSION, "rejected"],
            ["proposal.ended", ADMISSION, "expired"],
            ["proposal.ended", ADMISSION, "overtaken"],
        ],
    ),
    ("ok", [["network.equivocation", tx.EVIDENCE_ID, tx.EQUIVOCATOR.name, "north", *tx.EQUIVOCATION]]),
]
FROM_TRANSACTIONS = [
    ["transaction", made.id, code, events] for made, (code, events) in zip(tx.IN_BLOCK, SAID, strict=True)
]
URGENT_COUNT = 4
DUE = ["due", named_bytes("due work"), "ok", []]
# In the order of execution: urgent calls, then due work, then the rest.
OUTCOMES = [*FROM_TRANSACTIONS[:URGENT_COUNT], DUE, *FROM_TRANSACTIONS[URGENT_COUNT:]]
OWN_READING = [
    "transaction",
    tx.FOUR_SIGNERS.id,
    "ok",
    [["access.permitted", ACCESS, tx.RECORD, PATIENT, PATIENT, "north", "north", "PATRQT", None, UNTIL_MS]],
]

TX_LEAVES = [made.leaf for made in tx.IN_BLOCK]
OUTCOME_LEAVES = [leaf_hash(pack(outcome)) for outcome in OUTCOMES]
RESULT_FIELDS = [named_bytes("state root"), root(OUTCOME_LEAVES), len(OUTCOMES), VALIDATORS_HASH]
RESULT = pack(RESULT_FIELDS)
RESULT_DIGEST = sha256(b"CARETRACE/result/1", RESULT)

EPOCH, HEIGHT, VIEW = 0, 3, 1
# Digest and result of the blocks below; those of heights 1 and 2 stand for blocks that are not shown.
HISTORY = [
    (FIRST_DIGEST, named_bytes("result 0")),
    (named_bytes("digest 1"), named_bytes("result 1")),
    (named_bytes("digest 2"), named_bytes("result 2")),
]
HISTORY_LEAVES = [leaf_hash(digest + result) for digest, result in HISTORY]
PRIMARY = (VIEW + HEIGHT // 64) % len(VALIDATORS)
HEADER_FIELDS = {
    "version": 0,
    "chain_id": CHAIN_ID,
    "epoch": EPOCH,
    "height": HEIGHT,
    "parent": HISTORY[-1][0],
    "parent_result": HISTORY[-1][1],
    "time_ms": tx.BLOCK_TIME_MS,
    "proposer": VALIDATORS[PRIMARY].name,
    "first_view": VIEW,
    "tx_root": root(TX_LEAVES),
    "tx_count": len(TX_LEAVES),
    "tx_bytes": sum(len(made.envelope) for made in tx.IN_BLOCK),
    "validators_hash": VALIDATORS_HASH,
    "history_root": root(HISTORY_LEAVES),
}
HEADER = pack(list(HEADER_FIELDS.values()))
DIGEST = sha256(b"CARETRACE/header/1", HEADER)
PROPOSAL, PREPARE, COMMIT = 1, 2, 3


class Vote(NamedTuple):
    """One validator's signature over one statement."""

    position: int
    preimage: bytes
    signature: bytes


def vote(position: int, vote_type: int) -> Vote:
    numbers = struct.pack(">QBQQ", EPOCH, vote_type, VIEW, HEIGHT)
    result = RESULT_DIGEST if vote_type == COMMIT else ZERO_DIGEST
    preimage = b"CARETRACE/vote/1" + CHAIN_ID + numbers + DIGEST + result
    return Vote(position, preimage, VALIDATORS[position].node.sign(preimage))


def certificate(votes: list[Vote], result: bytes) -> list[Any]:
    positions, signatures = [vote.position for vote in votes], [vote.signature for vote in votes]
    return [EPOCH, VIEW, HEIGHT, DIGEST, result, positions, signatures]


PROPOSAL_VOTE = vote(PRIMARY, PROPOSAL)
PREPARED = certificate([vote(0, PREPARE), PROPOSAL_VOTE, vote(3, PREPARE)], ZERO_DIGEST)
COMMITTED = certificate([vote(1, COMMIT), vote(2, COMMIT), vote(3, COMMIT)], RESULT_DIGEST)


def receipt(made: tx.Made) -> bytes:
    tx_index = tx.IN_BLOCK.index(made)
    outcome_index = tx_index if tx_index < URGENT_COUNT else tx_index + 1
    return pack(
        [
            0,
            made.envelope,
            tx_index,
            path(tx_index, TX_LEAVES),
            OUTCOMES[outcome_index],
            outcome_index,
            path(outcome_index, OUTCOME_LEAVES),
            [named_bytes("state root"), root(OUTCOME_LEAVES), len(OUTCOMES), VALIDATORS_HASH],
            list(HEADER_FIELDS.values()),
            COMMITTED,
        ]
    )


def block() -> dict[str, Any]:
    votes = [("proposal", PROPOSAL, PROPOSAL_VOTE), ("prepare", PREPARE, vote(0, PREPARE))]
    votes.append(("commit", COMMIT, vote(2, COMMIT)))
    return {
        "transactions": [made.name for made in tx.IN_BLOCK],
        "tx_leaves": [leaf.hex() for leaf in TX_LEAVES],
        "outcomes": [
            {"fields": shown(outcome), "encoded": pack(outcome).hex(), "leaf": leaf_hash(pack(outcome)).hex()}
            for outcome in OUTCOMES
        ],
        "outcome_outside_the_block": {"fields": shown(OWN_READING), "encoded": pack(OWN_READING).hex()},
        "result": {"encoded": RESULT.hex(), "digest": RESULT_DIGEST.hex()},
        "history": [{"digest": digest.hex(), "result": result.hex()} for digest, result in HISTORY],
        "header": {"fields": shown(HEADER_FIELDS), "encoded": HEADER.hex(), "digest": DIGEST.hex()},
        "votes": [
            {
                "name": name,
                "type": number,
                "position": made.position,
                "validator": VALIDATORS[made.position].name,
                "preimage": made.preimage.hex(),
                "signature": made.signature.hex(),
            }
            for name, number, made in votes
        ],
        "prepared_certificate": pack(PREPARED).hex(),
        "commit_certificate": pack(COMMITTED).hex(),
    }
