"""What stands in state: every key and the form of its value (docs/spec/contracts.md, State).

A key is a word, a slash, and parts of fixed width or, as the last part only, a name: so no two things share a key.
Values are canonical encodings. They come from verified reads of what this code wrote; a value that does not decode
is therefore our bug or damage, and its error is not caught.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from node.contracts.contract import StateReader
from storage.schema.calls import Provision
from storage.schema.codec import Role
from storage.schema.seen import seen_count_key
from storage.schema.validators import ValidatorSet

T = TypeVar("T")

MEMBER = b"member/"
KeyKind = Literal["organisation", "node", "service", "encryption"]


class Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A value of the state; it travels as an array of its fields, in order."""


class MemberEntry(Entry, frozen=True):
    """A member, its four keys, where its node is found, its roles (none: removed), and when it last replaced keys."""

    name: str
    organisation_key: bytes
    node_key: bytes
    service_key: bytes
    encryption_key: bytes
    addresses: tuple[str, ...]
    roles: tuple[Role, ...]
    rekeyed_ms: int | None


class KeyEntry(Entry, frozen=True):
    """Whose a member's key is, or was until the block time ``retired_ms``: it stays, so that none is used again."""

    kind: KeyKind
    member: str
    retired_ms: int | None


class Patient(Entry, frozen=True, tag="patient"):
    """A patient: sponsor, keys of now, and the newest of their consents and records, whence the chains go back."""

    member: str
    signing_key: bytes
    sealing_key: bytes
    newest_consent: bytes | None
    newest_record: bytes | None


class Practitioner(Entry, frozen=True, tag="practitioner"):
    """A practitioner: the member that vouches, keys of now, role, and the time (seconds) that it is good for.

    ``previous`` is whom the member enrolled before.
    """

    member: str
    signing_key: bytes
    sealing_key: bytes
    role: str
    valid_from_s: int
    valid_until_s: int
    revoked_ms: int | None
    previous: bytes | None


Person = Patient | Practitioner


class RecordEntry(Entry, frozen=True):
    """A record: whose, held by whom, what little is said of it in clear, and the patient's record before it."""

    patient: bytes
    custodian: str
    category: str
    tags: tuple[bytes, ...]
    year: int
    commitment: bytes
    pointer: bytes
    height: int
    time_ms: int
    previous: bytes | None


class ConsentEntry(Entry, frozen=True):
    """A consent, or with ``is_exclusion`` what is shut out whatever is granted, and the patient's one before it."""

    patient: bytes
    is_exclusion: bool
    emergency: bool
    provision: Provision
    uses: int | None
    height: int
    time_ms: int
    ended_ms: int | None
    previous: bytes | None


class Standing(Entry, frozen=True):
    """One line of a grantee's index: what has not been ended, its last second, and how many provisions it has."""

    consent: bytes
    is_exclusion: bool
    end_s: int | None
    provision_count: int


class AccessEntry(Entry, frozen=True):
    """A permit to read, which key asked for it, under which consent (None: the patient's own), and until when."""

    record: bytes
    requester: bytes
    signing_key: bytes
    member: str
    purpose: str
    consent: bytes | None
    until_ms: int
    height: int
    served_height: int | None


def members_key() -> bytes:
    """Where the names of all present members are listed, in order."""
    return b"members/"


def validators_key() -> bytes:
    """Where the validator set stands that decides the next height."""
    return b"validators/"


def member_key(name: str) -> bytes:
    """Where a member stands."""
    return MEMBER + name.encode()


def key_key(public_key: bytes) -> bytes:
    """Where it stands which member a key is of, or was."""
    return b"key/" + public_key


def person_key(did: bytes) -> bytes:
    """Where a person stands, by the inception key that their DID is made from."""
    return b"person/" + did


def practitioners_key(member: str) -> bytes:
    """Where the newest practitioner of a member is named, whence the chain goes back."""
    return b"practitioners/" + member.encode()


def record_key(record: bytes) -> bytes:
    """Where a record stands."""
    return b"record/" + record


def consent_key(consent: bytes) -> bytes:
    """Where a consent or an exclusion stands."""
    return b"consent/" + consent


def practitioner_index_key(patient: bytes, practitioner: bytes) -> bytes:
    """Where the standing consents of a patient that name this practitioner are listed."""
    return b"for-practitioner/" + patient + practitioner


def member_index_key(patient: bytes, member: str) -> bytes:
    """Where the standing consents of a patient that name this member, or a role in it, are listed."""
    return b"for-member/" + patient + member.encode()


def everyone_index_key(patient: bytes) -> bytes:
    """Where the standing consents of a patient that name nobody, and so speak of everyone, are listed."""
    return b"for-everyone/" + patient


def uses_key(consent: bytes, practitioner: bytes) -> bytes:
    """Where it is counted how often a practitioner has been permitted under a consent with limited uses."""
    return b"uses/" + consent + practitioner


def access_key(access: bytes) -> bytes:
    """Where a permit stands."""
    return b"access/" + access


def reader(value_type: Any) -> Callable[[bytes], Any]:
    """Return what decodes the values of one form."""
    return msgspec.msgpack.Decoder(value_type).decode


_MEMBER = reader(MemberEntry)
_KEY = reader(KeyEntry)
_PERSON = reader(Person)
_RECORD = reader(RecordEntry)
_CONSENT = reader(ConsentEntry)
_ACCESS = reader(AccessEntry)
_STANDING = reader(tuple[Standing, ...])
_COUNT = reader(int)
_NAME = reader(bytes)
_NAMES = reader(tuple[str, ...])
_VALIDATORS = reader(ValidatorSet)


def load(decode: Callable[[bytes], T], state: StateReader, key: bytes) -> T | None:
    """Read the value under a key; None if nothing stands there."""
    value = state.get(key)
    return None if value is None else decode(value)


def load_members(state: StateReader) -> tuple[str, ...]:
    """Read the names of all present members, in order."""
    return load(_NAMES, state, members_key()) or ()


def load_validators(state: StateReader) -> ValidatorSet:
    """Read the validator set that decides the next height."""
    validators: ValidatorSet | None = load(_VALIDATORS, state, validators_key())
    assert validators is not None, "height 0 holds the first set, and no rule removes it"
    return validators


def load_member(state: StateReader, name: str) -> MemberEntry | None:
    """Read a member."""
    return load(_MEMBER, state, member_key(name))


def load_key(state: StateReader, public_key: bytes) -> KeyEntry | None:
    """Read which member a key is of, or was."""
    return load(_KEY, state, key_key(public_key))


def load_person(state: StateReader, did: bytes) -> Patient | Practitioner | None:
    """Read a person."""
    return load(_PERSON, state, person_key(did))


def load_newest_practitioner(state: StateReader, member: str) -> bytes | None:
    """Read the DID of the practitioner whom a member enrolled last."""
    return load(_NAME, state, practitioners_key(member))


def load_record(state: StateReader, record: bytes) -> RecordEntry | None:
    """Read a record."""
    return load(_RECORD, state, record_key(record))


def load_consent(state: StateReader, consent: bytes) -> ConsentEntry | None:
    """Read a consent or an exclusion."""
    return load(_CONSENT, state, consent_key(consent))


def load_access(state: StateReader, access: bytes) -> AccessEntry | None:
    """Read a permit."""
    return load(_ACCESS, state, access_key(access))


def load_standing(state: StateReader, index_key: bytes) -> tuple[Standing, ...]:
    """Read the list under one of the three index keys; empty where nothing stands."""
    return load(_STANDING, state, index_key) or ()


def load_seen_count(state: StateReader) -> int:
    """Read how many lists of seen ids stand."""
    return load(_COUNT, state, seen_count_key()) or 0


def load_uses(state: StateReader, consent: bytes, practitioner: bytes) -> int:
    """Read how many permits a practitioner has had under a consent."""
    return load(_COUNT, state, uses_key(consent, practitioner)) or 0
