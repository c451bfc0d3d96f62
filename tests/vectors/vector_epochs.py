"""A chain of two links: the ministry becomes a validator, then east ceases to be one (docs/spec/epochs.md)."""

import struct
from typing import Any

from vector_blocks import DIGEST, HISTORY_LEAVES, RESULT_DIGEST
from vector_genesis import CHAIN_ID, FOUNDERS, VALIDATOR_SET, VALIDATORS, VALIDATORS_HASH, Founder
from vector_primitives import leaf_hash, named_bytes, pack, root, sha256

COMMIT = 3
TIME_MS = 1_767_225_601_000


def validator_set(epoch: int, members: list[Founder]) -> list[Any]:
    return [epoch, "pbft", [[member.name, member.node.public] for member in members]]


def set_hash(value: list[Any]) -> bytes:
    return sha256(b"CARETRACE/validators/1", pack(value))


ALL = validator_set(1, FOUNDERS)
WITHOUT_EAST = validator_set(2, FOUNDERS[1:])


def link(
    epoch: int,
    height: int,
    members: list[Founder],
    below: tuple[bytes, bytes],
    validators_hash: bytes,
    after: list[Any],
) -> list[Any]:
    """A block of no transactions, whose parent and history stand for what is not shown, signed by all but the last."""
    history = [*HISTORY_LEAVES, leaf_hash(b"".join(below))]
    place = [0, CHAIN_ID, epoch, height, *below, TIME_MS + height, members[0].name, 0]
    header = [*place, root([]), 0, 0, validators_hash, root(history)]
    result = [named_bytes(f"state root {height}"), root([]), 0, set_hash(after)]
    digest, result_digest = sha256(b"CARETRACE/header/1", pack(header)), sha256(b"CARETRACE/result/1", pack(result))
    numbers = struct.pack(">QBQQ", epoch, COMMIT, 0, height)
    preimage = b"CARETRACE/vote/1" + CHAIN_ID + numbers + digest + result_digest
    signatures = [member.node.sign(preimage) for member in members[:-1]]
    certificate = [epoch, 0, height, digest, result_digest, list(range(len(signatures))), signatures]
    return ["voted", header, result, certificate, after]


LINKS = [
    link(0, 4, VALIDATORS, (DIGEST, RESULT_DIGEST), VALIDATORS_HASH, ALL),
    link(1, 9, FOUNDERS, (named_bytes("digest 8"), named_bytes("result 8")), set_hash(ALL), WITHOUT_EAST),
]
FILE = pack([0, CHAIN_ID, LINKS])


def epochs() -> dict[str, Any]:
    return {
        "sets": [VALIDATOR_SET.hex(), pack(ALL).hex(), pack(WITHOUT_EAST).hex()],
        "digests": [VALIDATORS_HASH.hex(), set_hash(ALL).hex(), set_hash(WITHOUT_EAST).hex()],
        "links": [pack(each).hex() for each in LINKS],
    }
