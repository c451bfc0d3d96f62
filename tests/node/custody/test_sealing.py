import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey

from node.custody.sealing import (
    Location,
    Release,
    SealError,
    open_at_rest,
    open_data_key,
    open_pointer,
    seal_at_rest,
    seal_data_key,
    seal_pointer,
)
from storage.schema.calls import POINTER_BYTES_MAX

SECRET = bytes(PrivateKey(b"r" * 32))
PUBLIC = bytes(PrivateKey(SECRET).public_key)
OTHER = bytes(PrivateKey(b"o" * 32))
DATA_KEY = b"k" * 32
RELEASE = Release(b"c" * 32, b"a" * 32, b"x" * 32, 0, b"d" * 32, PUBLIC, "TREAT", b"m" * 32)
LOCATION = Location(0, b"b" * 16, 2**40, "2026-11-03")


def test_a_reader_opens_the_data_key_that_was_sealed_for_this_access() -> None:
    sealed = seal_data_key(DATA_KEY, RELEASE)

    assert len(sealed) == 80
    assert open_data_key(SECRET, sealed, RELEASE) == DATA_KEY


def test_a_key_sealed_by_hand_as_the_specification_says_opens() -> None:
    bound = [b"c" * 32, b"a" * 32, b"x" * 32, 0, b"d" * 32, PUBLIC, "TREAT", b"m" * 32]
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    info = b"CARETRACE/release/1" + msgpack.packb(bound)

    sealed = suite.encrypt(DATA_KEY, X25519PublicKey.from_public_bytes(PUBLIC), info)

    assert open_data_key(SECRET, sealed, RELEASE) == DATA_KEY


@pytest.mark.parametrize("name", Release.__struct_fields__)
def test_a_data_key_opens_for_nothing_but_what_it_was_sealed_for(name: str) -> None:
    was = getattr(RELEASE, name)
    other = {int: 1, str: "ETREAT", bytes: bytes(32)}[type(was)]

    with pytest.raises(SealError):
        open_data_key(SECRET, seal_data_key(DATA_KEY, RELEASE), msgspec.structs.replace(RELEASE, **{name: other}))


def test_nobody_else_opens_a_readers_data_key() -> None:
    with pytest.raises(SealError):
        open_data_key(OTHER, seal_data_key(DATA_KEY, RELEASE), RELEASE)


@given(position=st.integers(0, 79), bit=st.integers(0, 7))
def test_every_changed_bit_of_a_sealed_key_is_an_error(position: int, bit: int) -> None:
    sealed = bytearray(seal_data_key(DATA_KEY, RELEASE))
    sealed[position] ^= 1 << bit

    with pytest.raises(SealError):
        open_data_key(SECRET, bytes(sealed), RELEASE)


@given(sealed=st.binary(max_size=100))
def test_bytes_that_nobody_sealed_do_not_open(sealed: bytes) -> None:
    with pytest.raises(SealError):
        open_data_key(SECRET, sealed, RELEASE)


@pytest.mark.parametrize("public_key", [bytes(32), b"\x01" + bytes(31), b"short"])
def test_nothing_is_sealed_to_a_key_that_everyone_could_open(public_key: bytes) -> None:
    with pytest.raises(SealError):
        seal_data_key(DATA_KEY, msgspec.structs.replace(RELEASE, sealing_key=public_key))


def test_a_secret_at_rest_opens_only_as_what_it_was_kept_for() -> None:
    sealed = seal_at_rest(PUBLIC, DATA_KEY, b"record 1")

    assert open_at_rest((SECRET,), sealed, b"record 1") == DATA_KEY
    with pytest.raises(SealError):
        open_at_rest((SECRET,), sealed, b"record 2")


def test_a_pointer_leads_its_custodian_to_the_blob_and_fits_the_ledger() -> None:
    pointer = seal_pointer(PUBLIC, LOCATION, RELEASE.commitment)

    assert open_pointer((SECRET,), pointer, RELEASE.commitment) == LOCATION
    assert len(pointer) <= POINTER_BYTES_MAX


def test_a_pointer_copied_beside_another_commitment_leads_nowhere() -> None:
    pointer = seal_pointer(PUBLIC, LOCATION, RELEASE.commitment)

    with pytest.raises(SealError):
        open_pointer((SECRET,), pointer, bytes(32))


def test_a_pointer_is_not_a_sealed_key_nor_the_other_way_round() -> None:
    with pytest.raises(SealError):
        open_pointer((SECRET,), seal_at_rest(PUBLIC, DATA_KEY, RELEASE.commitment), RELEASE.commitment)


def test_a_pointer_that_holds_no_location_leads_nowhere() -> None:
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    info = b"CARETRACE/pointer/1" + RELEASE.commitment

    rubbish = suite.encrypt(b"rubbish", X25519PublicKey.from_public_bytes(PUBLIC), info)

    with pytest.raises(SealError, match="no location"):
        open_pointer((SECRET,), rubbish, RELEASE.commitment)
