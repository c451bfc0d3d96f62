"""The proof that a key of the state has a value, or has none, under a root that the verifier trusts.

It shows the key's whole bucket, so that absence is as plain as presence, and the groups of 16 siblings from there to
the root: about 2 KiB at depth 4, with 64 bytes for each entry of the bucket (docs/spec/state.md).
"""

from hashlib import sha256
from itertools import pairwise
from typing import Annotated

import msgspec

from storage.merkle.log import HASH_BYTES, ProofError
from storage.merkle.state_tree import (
    DEPTH_MAX,
    FANOUT,
    bucket_index,
    bucket_root,
    entry_leaf,
    make_bucket,
    node_hash,
)
from storage.schema.codec import Bytes32, Form, Value

# A bucket holds one or two entries unless someone searches for keys that meet in it, at 16 ** depth hashes each.
PROOF_ENTRIES_MAX = 4096
_FAMILY_BYTES = FANOUT * HASH_BYTES
_Family = Annotated[bytes, msgspec.Meta(min_length=_FAMILY_BYTES, max_length=_FAMILY_BYTES)]


class StateEntry(Value, frozen=True):
    """What the tree knows of one key: the hashes of key and value."""

    key_hash: Bytes32
    value_hash: Bytes32


class StateProof(Value, frozen=True):
    """A bucket's entries in order of their key hashes, and the sibling groups from the bucket's own upwards."""

    entries: Annotated[tuple[StateEntry, ...], msgspec.Meta(max_length=PROOF_ENTRIES_MAX)]
    families: Annotated[tuple[_Family, ...], msgspec.Meta(min_length=1, max_length=DEPTH_MAX)]


STATE_PROOF: Form[StateProof] = Form(StateProof, 64 + DEPTH_MAX * (_FAMILY_BYTES + 3) + PROOF_ENTRIES_MAX * 69)


def verify_state_proof(proof: StateProof, key: bytes, value: bytes | None, root: bytes) -> None:
    """Check that ``key`` has ``value``, or is absent if that is None, in the state of a trusted root.

    The prefixes of the hashes keep the levels of the tree apart, so that a proof of another depth leads nowhere.

    Raises:
        ProofError: the proof does not show this.
    """
    key_hash = sha256(key).digest()
    keys = [entry.key_hash for entry in proof.entries]
    if any(a >= b for a, b in pairwise(keys)):
        raise ProofError("the bucket's entries are not distinct and in order")
    values = {entry.key_hash: entry.value_hash for entry in proof.entries}
    if values.get(key_hash) != (None if value is None else sha256(value).digest()):
        raise ProofError("the bucket holds another value for this key")
    if _reached_root(proof, key_hash) != root:
        raise ProofError("the bucket is not part of this state")


def _reached_root(proof: StateProof, key_hash: bytes) -> bytes:
    index = bucket_index(key_hash, len(proof.families))
    current = bucket_root(make_bucket({e.key_hash: entry_leaf(e.key_hash, e.value_hash) for e in proof.entries}))
    for family in proof.families:
        at = (index % FANOUT) * HASH_BYTES
        if family[at : at + HASH_BYTES] != current:
            raise ProofError("a node is not among its siblings")
        current = node_hash(family)
        index //= FANOUT
    return current
