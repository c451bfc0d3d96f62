"""The calls: each method's arguments, as a closed struct that never changes once version 1 is out.

A new form of a call is a new name (``consent.grant/2``). What a call means and who may make it stands in
``node/contracts``; here stands only what may be written, and how large.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from storage.schema.codec import Addresses, Bytes32, Bytes64, Form, MemberName, Role, Uint, Value
from storage.schema.events import Code

ARGUMENTS_BYTES_MAX = 12 * 1024
LIST_LENGTH_MAX = 64
POINTER_BYTES_MAX = 1024
PROVISION_DEPTH_MAX = 3
PROVISIONS_MAX = 32
PROVISIONS_PER_GRANTEE_MAX = 320
GRANTEES_MAX = 64

Tag = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
MemberRole = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,31}/[A-Za-z0-9][A-Za-z0-9-]{0,31}\Z")]
_Few = msgspec.Meta(max_length=LIST_LENGTH_MAX)


class Period(Value, frozen=True):
    """A time, or a range of years, whose ends may be open; both ends belong to it."""

    start: Uint | None
    end: Uint | None


class Provision(Value, frozen=True):
    """One rule of a consent (FHIR R4 ``Consent.provision``); an empty list does not restrict.

    Actors stand in three lists, and any of them matches: ``practitioners`` (DIDs), ``members``, and ``roles``
    within a member (``north/physician``); no actor at all means everyone in the network (IHE PCF). ``period`` is
    in seconds of block time, ``years`` the clinical year of a record, ``tags`` keyed labels of 16 bytes.
    """

    effect: Literal["permit", "deny"]
    period: Period
    practitioners: Annotated[tuple[Bytes32, ...], _Few]
    members: Annotated[tuple[MemberName, ...], _Few]
    roles: Annotated[tuple[MemberRole, ...], _Few]
    actions: Annotated[tuple[Code, ...], _Few]
    purposes: Annotated[tuple[Code, ...], _Few]
    categories: Annotated[tuple[Code, ...], _Few]
    tags: Annotated[tuple[Tag, ...], _Few]
    records: Annotated[tuple[Bytes32, ...], _Few]
    years: Period
    provisions: Annotated[tuple["Provision", ...], _Few]

    def __post_init__(self) -> None:
        """Refuse a tree of more than PROVISION_DEPTH_MAX levels, as it is built from its leaves upwards.

        Without a limit of ours the decoder's recursion limit would decide, which differs from node to node.
        """
        if self.depth() > PROVISION_DEPTH_MAX:
            raise ValueError(f"provisions nest at most {PROVISION_DEPTH_MAX} deep")

    def depth(self) -> int:
        """Return how many levels of provisions this one is the top of, itself counted."""
        return 1 + max((child.depth() for child in self.provisions), default=0)


class RegisterPatient(Value, frozen=True):
    """``identity.register_patient``: the patient signs, then the sponsoring member's service key."""

    sealing_key: Bytes32


class EnrolPractitioner(Value, frozen=True):
    """``identity.enrol_practitioner``: the practitioner signs, then the member's service key. Times in seconds."""

    sealing_key: Bytes32
    role: Code
    valid_from_s: Uint
    valid_until_s: Uint


class RevokePractitioner(Value, frozen=True):
    """``identity.revoke_practitioner``: the enrolling member's service key signs."""

    practitioner: Bytes32


class RegisterRecord(Value, frozen=True):
    """``record.register``: the custodian's service key signs. ``year`` is the clinical year, 0 when unknown."""

    patient: Bytes32
    category: Code
    tags: Annotated[tuple[Tag, ...], msgspec.Meta(max_length=16)]
    year: Uint
    commitment: Bytes32
    pointer: Annotated[bytes, msgspec.Meta(min_length=1, max_length=POINTER_BYTES_MAX)]


class Grant(Value, frozen=True):
    """``consent.grant``: the patient signs. ``uses`` limits permits for each practitioner; None does not."""

    provision: Provision
    uses: Uint | None


class Revoke(Value, frozen=True):
    """``consent.revoke``: the patient signs."""

    consent: Bytes32


class Exclude(Value, frozen=True):
    """``consent.exclude``: the patient signs. ``emergency``: also against emergency access."""

    provision: Provision
    emergency: bool


class EndExclusion(Value, frozen=True):
    """``consent.end_exclusion``: the patient signs."""

    exclusion: Bytes32


class RequestAccess(Value, frozen=True):
    """``access.request``: the reader signs."""

    record: Bytes32
    purpose: Code


class ServeAccess(Value, frozen=True):
    """``access.served``: the custodian's service key signs, before it hands over any key."""

    access: Bytes32


class _Change(Value, frozen=True):
    """What a proposal would change; it travels with its kind before its fields."""

    @property
    def kind(self) -> str:
        """Its kind: ``admit``, ``role`` or ``remove``."""
        return str(self.__struct_config__.tag)


class Admit(_Change, frozen=True, tag="admit"):
    """A hospital joins with what its card says, as an observer."""

    name: MemberName
    organisation_key: Bytes32
    node_key: Bytes32
    service_key: Bytes32
    encryption_key: Bytes32
    addresses: Addresses


class SetRole(_Change, frozen=True, tag="role"):
    """A member begins to validate, or only observes from now on."""

    name: MemberName
    role: Role


class Remove(_Change, frozen=True, tag="remove"):
    """A member leaves for good."""

    name: MemberName


Change = Admit | SetRole | Remove


class Propose(Value, frozen=True):
    """``network.propose``: a validating member's organisation key signs. ``evidence`` names what it rests on."""

    change: Change
    evidence: Bytes32 | None


class VoteOn(Value, frozen=True):
    """``network.vote``: a validating member's organisation key signs."""

    proposal: Bytes32
    approve: bool


class ReplaceKeys(Value, frozen=True):
    """``network.replace_keys``: the member's organisation key signs; None leaves a key as it is."""

    node_key: Bytes32 | None
    service_key: Bytes32 | None
    encryption_key: Bytes32 | None


class SignedVote(Value, frozen=True):
    """One of two votes at one place: its type, what it is for, and the signature under ``vote_preimage``."""

    kind: Literal[1, 2, 3]
    digest: Bytes32
    result: Bytes32
    signature: Bytes64


class Evidence(Value, frozen=True):
    """``network.evidence``: any member's service key signs. Two votes by one node key at one place, to verify alone."""

    node_key: Bytes32
    epoch: Uint
    view: Uint
    height: Uint
    first: SignedVote
    second: SignedVote


@dataclass(frozen=True, slots=True)
class Method:
    """A call's name and form. Urgent calls stand first in a block, so that a primary cannot put its own before."""

    name: str
    arguments: type[Value]
    form: Form[Any]
    urgent: bool = False


def _method(name: str, arguments: type[Value], *, urgent: bool = False) -> tuple[str, Method]:
    return name, Method(name, arguments, Form(arguments, ARGUMENTS_BYTES_MAX), urgent)


METHODS: dict[str, Method] = dict(
    (
        _method("identity.register_patient", RegisterPatient),
        _method("identity.enrol_practitioner", EnrolPractitioner),
        _method("identity.revoke_practitioner", RevokePractitioner, urgent=True),
        _method("record.register", RegisterRecord),
        _method("consent.grant", Grant),
        _method("consent.revoke", Revoke, urgent=True),
        _method("consent.exclude", Exclude, urgent=True),
        _method("consent.end_exclusion", EndExclusion),
        _method("access.request", RequestAccess),
        _method("access.served", ServeAccess),
        _method("network.propose", Propose),
        _method("network.vote", VoteOn),
        _method("network.replace_keys", ReplaceKeys, urgent=True),
        _method("network.evidence", Evidence),
    )
)
