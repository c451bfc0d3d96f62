"""How a network begins: the founders, their keys and the rules, in a file that every founder signed.

The file is the one canonical rendering of its content, so that a changed byte anywhere makes it invalid; what it
says readably is derived from the signed bytes and never trusted by itself (docs/spec/genesis.md).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

import msgspec

from storage.merkle.log import EMPTY_ROOT
from storage.schema.block import BLOCK_BYTES_MAX, BLOCK_TX_MAX, BLOCK_VERSION, ZERO_DIGEST, Header
from storage.schema.codec import (
    Addresses,
    Bytes32,
    DecodeError,
    Form,
    MemberName,
    Role,
    Uint,
    Value,
    encode,
    tagged_digest,
)
from storage.schema.signatures import (
    SIGNATURE_RULE,
    SignatureError,
    is_sound_sealing_key,
    is_sound_signing_key,
    verify_signature,
)
from storage.schema.transaction import ENVELOPE_BYTES_MAX
from storage.schema.validators import VALIDATORS_MAX, Validator, ValidatorSet

GENESIS_VERSION = 0
GENESIS_BYTES_MAX = 1 << 20
SCHEMA = "caretrace.genesis/1"


class GenesisError(ValueError):
    """A genesis file is not what its founders signed, or states rules that this version does not know."""

    code = "genesis.invalid"


PARAMETER_BOUNDS = {
    "block_bytes_max": (ENVELOPE_BYTES_MAX, BLOCK_BYTES_MAX),
    "block_tx_max": (1, BLOCK_TX_MAX),
    "clock_ahead_ms_max": (1, 3_600_000),
    "clock_behind_ms_max": (1, 3_600_000),
    "consents_per_grantee_max": (1, 1_000),
    "idle_block_s": (1, 86_400),
    "payer_tx_per_block_max": (1, BLOCK_TX_MAX),
    "permit_s": (1, 86_400),
    "rotation_blocks": (0, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """The limits that every validator applies alike; all stand in genesis, by name (PARAMETER_BOUNDS).

    Raises:
        GenesisError: a value outside its bounds.
    """

    block_bytes_max: int = 512 * 1024
    block_tx_max: int = 500
    clock_ahead_ms_max: int = 5000
    clock_behind_ms_max: int = 5000
    consents_per_grantee_max: int = 64
    idle_block_s: int = 300
    payer_tx_per_block_max: int = 500
    permit_s: int = 600
    rotation_blocks: int = 64

    def __post_init__(self) -> None:
        """Refuse values under which no network could work, or a node would have to hold too much."""
        for name, value in self.pairs():
            least, most = PARAMETER_BOUNDS[name]
            if not least <= value <= most:
                raise GenesisError(f"{name} must be between {least} and {most}")

    def pairs(self) -> tuple[tuple[str, int], ...]:
        """Return the parameters as genesis holds them, sorted by name."""
        return tuple(sorted(asdict(self).items()))


class Member(Value, frozen=True):
    """A founding member and its four keys (docs/spec/genesis.md, Keys); addresses are multiaddrs."""

    name: MemberName
    organisation_key: Bytes32
    node_key: Bytes32
    service_key: Bytes32
    encryption_key: Bytes32
    addresses: Addresses
    roles: Annotated[tuple[Role, ...], msgspec.Meta(max_length=2)]


class GenesisBody(Value, frozen=True):
    """What the founders sign."""

    name: MemberName
    version: Uint
    engine: Literal["pbft"]
    sigrule: Annotated[str, msgspec.Meta(max_length=32)]
    tree_depth: Annotated[int, msgspec.Meta(ge=1, le=5)]
    parameters: Annotated[
        tuple[tuple[Annotated[str, msgspec.Meta(max_length=64)], Uint], ...], msgspec.Meta(max_length=64)
    ]
    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=VALIDATORS_MAX)]


BODY: Form[GenesisBody] = Form(GenesisBody, GENESIS_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Genesis:
    """A checked genesis: its rules, its first validator set, and the header of height 0."""

    body: GenesisBody
    chain_id: bytes
    parameters: Parameters
    validators: ValidatorSet
    header: Header

    def member(self, name: str) -> Member | None:
        """Return a founding member by its name."""
        return next((member for member in self.body.members if member.name == name), None)


def chain_id_of(body: bytes) -> bytes:
    """Return the network's identity: the digest of the genesis body's bytes."""
    return tagged_digest(b"CARETRACE/genesis/1", body)


def founding_preimage(chain_id: bytes) -> bytes:
    """Return what each founder's organisation key signs."""
    return b"CARETRACE/founding/1" + chain_id


def check_body(body: bytes) -> Genesis:
    """Check the rules and members of a genesis body, signatures aside.

    Raises:
        GenesisError: names what is wrong.
    """
    try:
        value = BODY.decode(body)
    except DecodeError as error:
        raise GenesisError(f"the body is not canonical: {error}") from None
    if value.version != GENESIS_VERSION or value.sigrule != SIGNATURE_RULE:
        raise GenesisError(f"version {value.version} with {value.sigrule!r} is not known here")
    _check_members(value.members)
    voting = tuple(Validator(m.name, m.node_key) for m in value.members if "validator" in m.roles)
    validators = ValidatorSet(0, value.engine, voting)
    if not validators.validators:
        raise GenesisError("no member is a validator")
    chain_id = chain_id_of(body)
    return Genesis(value, chain_id, _parameters(value), validators, _first_header(chain_id, validators))


def _parameters(body: GenesisBody) -> Parameters:
    known = sorted(field.name for field in fields(Parameters))
    if [name for name, _ in body.parameters] != known:
        raise GenesisError(f"parameters must be exactly {', '.join(known)}, in this order")
    return Parameters(**dict(body.parameters))


def _check_members(members: tuple[Member, ...]) -> None:
    names = [member.name for member in members]
    if names != sorted(set(names)):
        raise GenesisError("members must have distinct names, in order")
    signing = [key for m in members for key in (m.organisation_key, m.node_key, m.service_key)]
    every = {*signing, *(member.encryption_key for member in members)}
    if len(every) != 4 * len(members):
        raise GenesisError("no key may serve twice")
    if not all(map(is_sound_signing_key, signing)):
        raise GenesisError("a signing key is not a sound Ed25519 key")
    if not all(is_sound_sealing_key(member.encryption_key) for member in members):
        raise GenesisError("an encryption key is not a sound X25519 key")
    if any(list(m.roles) != sorted(set(m.roles)) or not m.roles for m in members):
        raise GenesisError("roles must be distinct, in order, at least one")


def _first_header(chain_id: bytes, validators: ValidatorSet) -> Header:
    return Header(
        version=BLOCK_VERSION,
        chain_id=chain_id,
        epoch=0,
        height=0,
        parent=ZERO_DIGEST,
        parent_result=ZERO_DIGEST,
        time_ms=0,
        proposer=validators.validators[0].name,
        first_view=0,
        tx_root=EMPTY_ROOT,
        tx_count=0,
        tx_bytes=0,
        validators_hash=validators.digest(),
        history_root=EMPTY_ROOT,
    )


def render_file(body: bytes, signatures: Mapping[str, bytes]) -> bytes:
    """Write the genesis file: the signed bytes, the founders' signatures, and the same content readably."""
    value = BODY.decode(body)
    content = {
        "schema": SCHEMA,
        "chain_id": chain_id_of(body).hex(),
        "body": body.hex(),
        "signatures": {name: signatures[name].hex() for name in sorted(signatures)},
        "readable": _named(value),
    }
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def _named(value: GenesisBody) -> dict[str, Any]:
    return {
        "name": value.name,
        "engine": value.engine,
        "sigrule": value.sigrule,
        "tree_depth": value.tree_depth,
        "parameters": dict(value.parameters),
        "members": [
            {
                "name": member.name,
                "organisation_key": member.organisation_key.hex(),
                "node_key": member.node_key.hex(),
                "service_key": member.service_key.hex(),
                "encryption_key": member.encryption_key.hex(),
                "addresses": list(member.addresses),
                "roles": list(member.roles),
            }
            for member in value.members
        ],
    }


def load_file(data: bytes) -> Genesis:
    """Read a genesis file and check every founder's signature over it.

    Raises:
        GenesisError: any byte of it is not as the founders signed it, or a founder has not signed.
    """
    body, signatures = _parse_file(data)
    genesis = check_body(body)
    if set(signatures) != {member.name for member in genesis.body.members}:
        raise GenesisError("not every founder has signed, or another has")
    preimage = founding_preimage(genesis.chain_id)
    for member in genesis.body.members:
        try:
            verify_signature(member.organisation_key, preimage, signatures[member.name])
        except SignatureError:
            raise GenesisError(f"the signature of {member.name} does not verify") from None
    return genesis


def _parse_file(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    if len(data) > GENESIS_BYTES_MAX:
        raise GenesisError("the file is too large")
    try:
        content = json.loads(data)
        body = bytes.fromhex(content["body"])
        signatures = {str(name): bytes.fromhex(value) for name, value in content["signatures"].items()}
        rendered = render_file(body, signatures)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GenesisError(f"not a genesis file: {type(error).__name__}") from None
    if rendered != data:
        raise GenesisError("the file is not the canonical rendering of what was signed")
    return body, signatures


def encode_body(
    name: str,
    parameters: Parameters,
    members: tuple[Member, ...],
    *,
    engine: Literal["pbft"] = "pbft",
    tree_depth: int = 4,
) -> bytes:
    """Write the genesis body of a new network; members are put in order of their names."""
    ordered = tuple(sorted(members, key=lambda member: member.name))
    return encode(GenesisBody(name, GENESIS_VERSION, engine, SIGNATURE_RULE, tree_depth, parameters.pairs(), ordered))
