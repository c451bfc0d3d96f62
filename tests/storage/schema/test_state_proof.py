from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle.log import ProofError
from storage.merkle.state_tree import StateTree, bucket_index, entry_leaf
from storage.schema.codec import DecodeError, encode
from storage.schema.state_proof import STATE_PROOF, StateEntry, StateProof, verify_state_proof
from tests.support.vectors import vectors

PROOFS = vectors("state")["proofs"]
ROOT = bytes.fromhex(PROOFS["root"])

states = st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), max_size=30)


def prove(state: dict[bytes, bytes], key: bytes, depth: int = 1) -> tuple[StateProof, bytes]:
    entries = sorted((sha256(key).digest(), sha256(value).digest()) for key, value in state.items())
    tree = StateTree(depth, lambda _: b"")
    prepared = tree.prepare({key_hash: entry_leaf(key_hash, value_hash) for key_hash, value_hash in entries})
    tree.apply(prepared)
    index = bucket_index(sha256(key).digest(), depth)
    bucket = tuple(StateEntry(*entry) for entry in entries if bucket_index(entry[0], depth) == index)
    return StateProof(bucket, tree.families_of(index)), tree.root


@pytest.mark.parametrize("vector", PROOFS["present"])
def test_a_proof_of_the_vectors_shows_its_value_and_no_other(vector: dict[str, str]) -> None:
    proof, key = STATE_PROOF.decode(bytes.fromhex(vector["proof"])), bytes.fromhex(vector["key"])
    value = bytes.fromhex(vector["value"])

    verify_state_proof(proof, key, value, ROOT)

    for other in (None, value + b"x", b"absent"):
        with pytest.raises(ProofError):
            verify_state_proof(proof, key, other, ROOT)


@pytest.mark.parametrize("vector", PROOFS["absent"])
def test_a_proof_of_the_vectors_shows_that_a_key_is_absent(vector: dict[str, str]) -> None:
    proof, key = STATE_PROOF.decode(bytes.fromhex(vector["proof"])), bytes.fromhex(vector["key"])

    verify_state_proof(proof, key, None, ROOT)

    with pytest.raises(ProofError):
        verify_state_proof(proof, key, b"", ROOT)


@pytest.mark.parametrize("vector", [*PROOFS["present"], *PROOFS["absent"]])
def test_no_proof_with_a_changed_byte_shows_anything(vector: dict[str, str]) -> None:
    good, key = bytes.fromhex(vector["proof"]), bytes.fromhex(vector["key"])
    value = bytes.fromhex(vector["value"]) if "value" in vector else None

    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises((ProofError, DecodeError)):
            verify_state_proof(STATE_PROOF.decode(changed), key, value, ROOT)


@given(states, st.binary(max_size=4), st.integers(1, 3))
def test_every_key_is_shown_with_what_the_state_holds_and_with_nothing_else(
    state: dict[bytes, bytes], key: bytes, depth: int
) -> None:
    proof, root = prove(state, key, depth)

    verify_state_proof(STATE_PROOF.decode(encode(proof)), key, state.get(key), root)

    with pytest.raises(ProofError):
        verify_state_proof(proof, key, None if key in state else b"", root)
    with pytest.raises(ProofError):
        verify_state_proof(proof, key, state.get(key), bytes(32))


@given(st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), min_size=24, max_size=40), st.data())
def test_a_bucket_with_an_entry_left_out_added_or_moved_shows_nothing(
    state: dict[bytes, bytes], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(state)))
    proof, root = prove(state, key)
    entries, extra = proof.entries, StateEntry(sha256(b"extra key").digest(), bytes(32))
    for changed in (entries[1:], (*entries, extra), (extra, *entries), entries + entries, entries[::-1]):
        if changed == entries:
            continue
        for value in (state[key], None):
            with pytest.raises(ProofError):
                verify_state_proof(msgspec.structs.replace(proof, entries=changed), key, value, root)


def test_a_proof_of_another_depth_leads_nowhere() -> None:
    state = {b"key": b"value"}
    proof, root = prove(state, b"key", depth=3)
    for families in (proof.families[1:], proof.families[:-1], (*proof.families, bytes(512)), proof.families[::-1]):
        with pytest.raises(ProofError):
            verify_state_proof(StateProof(proof.entries, families), b"key", b"value", root)
