from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import BadSignatureError

from storage.schema.signatures import (
    SIGNATURE_RULE,
    SignatureError,
    SignatureRuleError,
    is_sound_sealing_key,
    is_sound_signing_key,
    public_key_of,
    self_test,
    sign,
    verify_signature,
)
from tests.support.twin import second_signature
from tests.support.vectors import vectors

EDGES = vectors("signatures")


def test_the_vectors_are_of_this_rule() -> None:
    assert EDGES["rule"] == SIGNATURE_RULE


@pytest.mark.parametrize("case", EDGES["signatures"], ids=lambda case: case["why"])
def test_a_signature_on_the_edge_is_judged_by_the_chains_rule(case: dict[str, Any]) -> None:
    public, message, signature = (bytes.fromhex(case[part]) for part in ("public", "message", "signature"))

    if case["valid"]:
        verify_signature(public, message, signature)
    else:
        with pytest.raises(SignatureError):
            verify_signature(public, message, signature)


@pytest.mark.parametrize(("key_size", "signature_size"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)])
def test_sizes_are_checked_before_libsodium_reads_memory(key_size: int, signature_size: int) -> None:
    # PyNaCl hands both over by their address and does not look at the size of the key.
    with pytest.raises(SignatureError, match="32 bytes"):
        verify_signature(bytes(key_size), b"message", bytes(signature_size))


@pytest.mark.parametrize("case", EDGES["signing_keys"], ids=lambda case: case["why"])
def test_a_signing_key_is_sound_or_not(case: dict[str, Any]) -> None:
    assert is_sound_signing_key(bytes.fromhex(case["key"])) is case["sound"]


@pytest.mark.parametrize("case", EDGES["sealing_keys"], ids=lambda case: case["why"])
def test_a_sealing_key_is_sound_or_not(case: dict[str, Any]) -> None:
    assert is_sound_sealing_key(bytes.fromhex(case["key"])) is case["sound"]


@pytest.mark.parametrize("key", vectors("keys")["signing"], ids=lambda key: key["name"])
def test_a_public_key_follows_from_its_seed(key: dict[str, str]) -> None:
    assert public_key_of(bytes.fromhex(key["seed"])).hex() == key["public"]


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_what_is_signed_verifies_and_for_no_other_message(seed: bytes, message: bytes) -> None:
    public, signature = public_key_of(seed), sign(seed, message)

    verify_signature(public, message, signature)
    with pytest.raises(SignatureError):
        verify_signature(public, message + b"\x00", signature)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 511))
def test_a_signature_with_any_bit_flipped_does_not_verify(seed: bytes, bit: int) -> None:
    signature = bytearray(sign(seed, b"message"))
    signature[bit // 8] ^= 1 << (bit % 8)

    with pytest.raises(SignatureError):
        verify_signature(public_key_of(seed), b"message", bytes(signature))


def test_signing_is_deterministic_but_a_signer_can_make_a_second_signature() -> None:
    seed = bytes(range(32))

    assert sign(seed, b"message") == sign(seed, b"message") != second_signature(seed, b"message")
    verify_signature(public_key_of(seed), b"message", second_signature(seed, b"message"))


def test_the_library_in_use_keeps_the_rule() -> None:
    self_test()


def test_a_library_that_accepts_an_edge_case_keeps_a_node_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "crypto_sign_open", lambda signed, _: signed[64:])

    with pytest.raises(SignatureRuleError):
        self_test()


@pytest.mark.parametrize("odd", range(7))
def test_a_library_that_judges_any_one_edge_case_otherwise_keeps_a_node_from_starting(
    monkeypatch: pytest.MonkeyPatch, odd: int
) -> None:
    genuine, calls = bindings.crypto_sign_open, iter(range(7))

    def otherwise(signed: bytes, public: bytes) -> bytes:
        is_odd = next(calls) == odd
        try:
            message = genuine(signed, public)
        except BadSignatureError:
            if is_odd:
                return signed[64:]
            raise
        if is_odd:
            raise BadSignatureError
        return bytes(message)

    monkeypatch.setattr(bindings, "crypto_sign_open", otherwise)

    with pytest.raises(SignatureRuleError):
        self_test()
