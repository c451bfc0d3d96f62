from hashlib import sha256

import pytest
from msgspec.structs import replace

from storage.schema.block import Certificate
from storage.schema.codec import encode
from storage.schema.invite import (
    INVITE_BYTES_MAX,
    Contact,
    Invite,
    InviteError,
    SignedInvite,
    invite_preimage,
    load_invite,
    sign_invite,
)
from tests.support.vectors import seed_of, vector_bytes, vectors

FILE = vector_bytes("invite.bin")
STATED = vectors("invite")


def invite() -> Invite:
    return load_invite(FILE).invite


def changed(**fields: object) -> bytes:
    """The invite with other fields, signed anew by the key that it names."""
    return sign_invite(replace(invite(), **fields), seed_of("north/service"))


def test_an_invite_is_written_and_read_as_the_vectors_have_it() -> None:
    found = load_invite(FILE)

    assert (found.invite.name, found.invite.inviter) == ("harbour", "north")
    assert sign_invite(found.invite, seed_of("north/service")) == FILE
    assert invite_preimage(encode(found.invite)).hex() == STATED["preimage"]
    assert STATED["preimage"].endswith(sha256(encode(found.invite)).hexdigest())
    assert found.genesis.body.name == "vectors"
    assert found.epochs.newest.epoch == 2
    assert [contact.name for contact in found.invite.members] == ["east", "ministry", "north", "south", "west"]


@pytest.mark.parametrize("place", range(0, len(FILE), 997))
def test_an_invite_with_any_byte_changed_does_not_hold(place: int) -> None:
    data = bytearray(FILE)
    data[place] ^= 0x20

    with pytest.raises(InviteError):
        load_invite(bytes(data))


def other_certificate() -> Certificate:
    certificate = invite().certificate
    return replace(certificate, signatures=(bytes(64), *certificate.signatures[1:]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 1}, "version 1 is not known"),
        ({"genesis": b"{}"}, "not a genesis file"),
        ({"epochs": b""}, "not a file of epochs"),
        ({"inviter": "harbour"}, "not among the members"),
        ({"members": (Contact("south", b"k" * 32, ()),)}, "not among the members"),
        ({"header": replace(invite().header, time_ms=1)}, "another block"),
        ({"header": replace(invite().header, chain_id=bytes(32))}, "another network"),
        ({"result": replace(invite().result, outcome_count=1)}, "another block"),
        ({"certificate": other_certificate()}, "does not verify|does not hold|signature"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_its_network_did_not_sign_does_not_hold_whoever_signed_the_invite(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(InviteError, match=words):
        load_invite(changed(**fields))


def test_a_signature_by_another_key_does_not_hold() -> None:
    body = encode(invite())
    forged = SignedInvite(body, load_signature("south"))

    with pytest.raises(InviteError):
        load_invite(encode(forged))


def load_signature(member: str) -> bytes:
    signed = sign_invite(invite(), seed_of(f"{member}/service"))
    return signed[-64:]


def test_an_invite_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InviteError, match="at most"):
        load_invite(bytes(INVITE_BYTES_MAX + 1))
