"""The invite: what a hospital needs to find a network and to tell it from another (docs/spec/invite.md).

It lets nobody in: that is the members' vote. It says where they are, and one block that was certified when it was
made, so that whoever follows it later cannot be led along another chain.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec

from storage.schema.block import Certificate, CertificateError, Header, Result, VoteType, certified, verify_certificate
from storage.schema.codec import Addresses, Bytes32, Bytes64, DecodeError, Form, MemberName, Uint, Value, encode
from storage.schema.epochs import EPOCHS_BYTES_MAX, EpochError, Epochs, load_epochs
from storage.schema.genesis import GENESIS_BYTES_MAX, Genesis, GenesisError, load_file
from storage.schema.signatures import SignatureError, sign, verify_signature
from storage.schema.validators import VALIDATORS_MAX

INVITE_VERSION = 0
INVITE_BYTES_MAX = EPOCHS_BYTES_MAX + 2 * GENESIS_BYTES_MAX


class InviteError(Exception):
    """An invite does not hold: malformed, changed, or about a block that its network has not certified."""

    code = "invite.invalid"


class Contact(Value, frozen=True):
    """A member's node: the key that it proves to hold, and where it may be found."""

    name: MemberName
    node_key: Bytes32
    addresses: Addresses


class Invite(Value, frozen=True):
    """What the inviter's service key signs; ``name`` is whom it is for, ``time_s`` when it was made."""

    version: Uint
    name: MemberName
    inviter: MemberName
    service_key: Bytes32
    time_s: Uint
    genesis: Annotated[bytes, msgspec.Meta(max_length=GENESIS_BYTES_MAX)]
    epochs: Annotated[bytes, msgspec.Meta(max_length=EPOCHS_BYTES_MAX)]
    members: Annotated[tuple[Contact, ...], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]
    header: Header
    result: Result
    certificate: Certificate


class SignedInvite(Value, frozen=True):
    """The file: the invite's bytes, and the signature over them."""

    invite: Annotated[bytes, msgspec.Meta(max_length=INVITE_BYTES_MAX)]
    signature: Bytes64


_INVITE: Form[Invite] = Form(Invite, INVITE_BYTES_MAX)
_SIGNED: Form[SignedInvite] = Form(SignedInvite, INVITE_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite that holds, with the network that it leads to."""

    invite: Invite
    genesis: Genesis
    epochs: Epochs


def invite_preimage(invite: bytes) -> bytes:
    """Return what the inviter's service key signs."""
    return b"CARETRACE/invite/1" + sha256(invite).digest()


def sign_invite(invite: Invite, service_seed: bytes) -> bytes:
    """Write the file of an invite."""
    data = encode(invite)
    return encode(SignedInvite(data, sign(service_seed, invite_preimage(data))))


def load_invite(data: bytes) -> Invitation:
    """Read an invite's file and check all that it states but whose the service key is: that is compared by voice.

    Raises:
        InviteError: names what does not hold.
    """
    try:
        signed = _SIGNED.decode(data)
        invite = _INVITE.decode(signed.invite)
        if invite.version != INVITE_VERSION:
            raise InviteError(f"invite version {invite.version} is not known here")
        verify_signature(invite.service_key, invite_preimage(signed.invite), signed.signature)
        genesis = load_file(invite.genesis)
        epochs = load_epochs(invite.epochs, genesis)
        _check_block(invite, genesis, epochs)
    except (DecodeError, SignatureError, GenesisError, EpochError, CertificateError) as error:
        raise InviteError(str(error)) from None
    if invite.inviter not in {member.name for member in invite.members}:
        raise InviteError("whoever invites is not among the members that it states")
    return Invitation(invite, genesis, epochs)


def _check_block(invite: Invite, genesis: Genesis, epochs: Epochs) -> None:
    header, validators = invite.header, epochs.of(invite.header.epoch)
    if (header.chain_id, header.validators_hash) != (genesis.chain_id, validators.digest()):
        raise InviteError("its block is of another network or of other validators")
    if not certified(header, invite.result, invite.certificate):
        raise InviteError("its certificate is about another block or another result")
    verify_certificate(invite.certificate, VoteType.COMMIT, genesis.chain_id, validators)
