"""What validators say to each other about the block of the vectors, and what their vote logs keep (pbft.md)."""

import struct
from typing import Any

from vector_blocks import (
    COMMIT,
    COMMITTED,
    DIGEST,
    EPOCH,
    HEADER_FIELDS,
    HEIGHT,
    HISTORY,
    PREPARE,
    PREPARED,
    PROPOSAL_VOTE,
    RESULT_DIGEST,
    TX_LEAVES,
    VIEW,
    Vote,
    vote,
)
from vector_genesis import CHAIN_ID, VALIDATORS
from vector_primitives import ZERO_DIGEST, named_bytes, pack, shown

HEADER_LIST = list(HEADER_FIELDS.values())
NEXT_VIEW = 2
NEXT_PRIMARY = NEXT_VIEW + HEIGHT // 64
BODIES = b"the bodies, opaque to agreement"
START = named_bytes("start number", 16)
PARENT_DIGEST, PARENT_RESULT = HISTORY[-1]


def sign(position: int, tag: bytes, packed: bytes) -> bytes:
    return VALIDATORS[position].node.sign(tag + CHAIN_ID + packed)


def parent_certificate() -> list[Any]:
    """The commit certificate of the block below, in view 0."""
    positions = [0, 1, 3]
    numbers = struct.pack(">QBQQ", EPOCH, COMMIT, 0, HEIGHT - 1)
    preimage = b"CARETRACE/vote/1" + CHAIN_ID + numbers + PARENT_DIGEST + PARENT_RESULT
    signatures = [VALIDATORS[position].node.sign(preimage) for position in positions]
    return [EPOCH, 0, HEIGHT - 1, PARENT_DIGEST, PARENT_RESULT, positions, signatures]


def vote_message(kind: int, made: Vote) -> list[Any]:
    result = RESULT_DIGEST if kind == COMMIT else ZERO_DIGEST
    return [2, kind, EPOCH, VIEW, HEIGHT, DIGEST, result, made.position, made.signature]


def signed_change(position: int, prepared: list[Any] | None) -> list[Any]:
    change = [EPOCH, position, NEXT_VIEW, HEIGHT - 1, parent_certificate(), prepared]
    return [change, sign(position, b"CARETRACE/view-change/1", pack(change))]


def new_view() -> list[Any]:
    changes = [signed_change(0, [PREPARED, HEADER_LIST]), signed_change(2, None), signed_change(3, None)]
    opening = [EPOCH, NEXT_PRIMARY, NEXT_VIEW, changes]
    return [4, *opening, sign(NEXT_PRIMARY, b"CARETRACE/new-view/1", pack(opening))]


def status() -> list[Any]:
    place = [EPOCH, 3, VIEW, True, HEIGHT, COMMITTED, ZERO_DIGEST, 1]
    return [5, *place, sign(3, b"CARETRACE/status/1", pack(place))]


def agreement() -> dict[str, Any]:
    messages = {
        "proposal": [1, VIEW, HEADER_LIST, TX_LEAVES, BODIES, PROPOSAL_VOTE.signature],
        "prepare": vote_message(PREPARE, vote(0, PREPARE)),
        "commit": vote_message(COMMIT, vote(2, COMMIT)),
        "view-change": [3, signed_change(0, [PREPARED, HEADER_LIST]), TX_LEAVES],
        "new-view": new_view(),
        "status": status(),
        "hello": [6, EPOCH, START],
        "answer": [7, START, vote_message(COMMIT, vote(2, COMMIT)), signed_change(2, None)],
        "answer of nothing": [7, START, None, None],
        "complaint": [8, EPOCH, VIEW, HEIGHT],
    }
    records = {
        "proposal": [1, vote_message(1, PROPOSAL_VOTE), HEADER_LIST, TX_LEAVES],
        "commit": [1, vote_message(COMMIT, vote(2, COMMIT)), None, []],
        "prepared": [2, PREPARED, HEADER_LIST, TX_LEAVES],
        "view": [3, EPOCH, NEXT_VIEW, True, HEIGHT - 1, DIGEST, new_view()],
        "halt": [4],
    }
    return {
        "messages": [shown_with_bytes(name, fields) for name, fields in messages.items()],
        "records": [shown_with_bytes(name, fields) for name, fields in records.items()],
    }


def shown_with_bytes(name: str, fields: list[Any]) -> dict[str, Any]:
    return {"name": name, "fields": shown(fields), "encoded": pack(fields).hex()}
