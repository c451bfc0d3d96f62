import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.keys.did import DidError, base58_decode, base58_encode, encode_did, parse_did
from storage.schema.signatures import public_key_of

PUBLISHED_VECTORS = Path(__file__).parents[4] / "shared" / "data" / "vectors" / "ed25519-x25519.json"

# Of the test vectors of the did:key method (W3C): seeds as big-endian numbers, and their DIDs.
VECTORS = {
    0: "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
    1: "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG",
    2: "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf",
    3: "did:key:z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ",
    5: "did:key:z6MkwYMhwTvsq376YBAcJHy3vyRWzBgn5vKfVqqDCgm7XVKU",
}


@pytest.mark.parametrize(("number", "did"), VECTORS.items())
def test_a_key_has_the_did_that_the_method_gives_it(number: int, did: str) -> None:
    key = public_key_of(number.to_bytes(32, "big"))

    assert encode_did(key) == did
    assert parse_did(did) == key


def test_the_published_vectors_hold() -> None:
    if not PUBLISHED_VECTORS.exists():
        pytest.skip(f"the published did:key vectors are not here: {PUBLISHED_VECTORS}")
    vectors = json.loads(PUBLISHED_VECTORS.read_text())

    made = {encode_did(public_key_of(bytes.fromhex(vector["seed"]))) for vector in vectors.values()}

    assert made == set(vectors)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\x00", "1"),
        (b"\x00\x00\x01", "112"),
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
    ],
)
def test_base58_is_that_of_the_internet_draft(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text) == data


@given(st.binary(max_size=64))
def test_base58_gives_back_what_it_was_given(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_every_key_comes_back_from_its_did(key: bytes) -> None:
    assert parse_did(encode_did(key)) == key


GOOD = VECTORS[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:key:",
        "did:key:z",
        "did:web:north.example",
        GOOD.removeprefix("did:key:"),
        GOOD.upper(),
        GOOD + "1",
        GOOD[:-1],
        GOOD + " ",
        GOOD.replace("did:key:z", "did:key:z1"),
        GOOD[:-1] + "0",
        GOOD[:-1] + "é",
        "did:key:z" + base58_encode(b"\xec\x01" + bytes(32)),
        "did:key:z" + base58_encode(b"\xed\x01" + bytes(31)),
        "did:key:z" + base58_encode(b"\xed\x01" + bytes(33)),
        "did:key:z" + base58_encode(b"\xed\x01" * 2 + bytes(32)),
        "did:key:z" + "z" * 100_000,
    ],
)
def test_what_is_no_did_of_an_ed25519_key_is_refused(text: str) -> None:
    with pytest.raises(DidError) as caught:
        parse_did(text)

    assert caught.value.code == "did.malformed"
