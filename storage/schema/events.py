"""What an outcome says happened, one closed form for each kind; the trail is made of these.

An event is an array whose first element names its kind. Identifiers are raw 32 bytes; a DID stands as the
inception key it is made from. No event says which provision decided: that is shown to the patient only.
"""

from typing import Annotated, Literal

import msgspec

from storage.schema.codec import Bytes32, MemberName, Role, Uint

Code = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9-]{0,31}\Z")]
Detail = Annotated[str, msgspec.Meta(max_length=256)]
Ending = Literal["accepted", "rejected", "expired", "overtaken"]
"""How a proposal ends; ``overtaken``: what it rests on has changed."""


class _Event(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One thing that happened."""


class PatientRegistered(_Event, frozen=True, tag="patient.registered"):
    """A member sponsors a patient."""

    patient: Bytes32
    member: MemberName


class PractitionerEnrolled(_Event, frozen=True, tag="practitioner.enrolled"):
    """A member vouches for a practitioner, in a role, for a time (seconds since 1970)."""

    practitioner: Bytes32
    member: MemberName
    role: Code
    valid_from_s: Uint
    valid_until_s: Uint


class PractitionerRevoked(_Event, frozen=True, tag="practitioner.revoked"):
    """The member no longer vouches for the practitioner."""

    practitioner: Bytes32
    member: MemberName


class RecordRegistered(_Event, frozen=True, tag="record.registered"):
    """A custodian holds a record of the patient."""

    record: Bytes32
    patient: Bytes32
    custodian: MemberName
    category: Code


class ConsentGranted(_Event, frozen=True, tag="consent.granted"):
    """The patient granted a consent."""

    consent: Bytes32
    patient: Bytes32


class ConsentRevoked(_Event, frozen=True, tag="consent.revoked"):
    """The patient ended a consent."""

    consent: Bytes32
    patient: Bytes32


class ExclusionSet(_Event, frozen=True, tag="consent.excluded"):
    """The patient shut something out, whatever is granted."""

    exclusion: Bytes32
    patient: Bytes32


class ExclusionEnded(_Event, frozen=True, tag="consent.exclusion_ended"):
    """The patient ended an exclusion."""

    exclusion: Bytes32
    patient: Bytes32


class AccessPermitted(_Event, frozen=True, tag="access.permitted"):
    """A read was permitted, until ``until_ms``; ``consent`` is absent when patients read their own record."""

    access: Bytes32
    record: Bytes32
    patient: Bytes32
    requester: Bytes32
    member: MemberName
    custodian: MemberName
    purpose: Code
    consent: Bytes32 | None
    until_ms: Uint


class AccessDenied(_Event, frozen=True, tag="access.denied"):
    """A read was refused by consent."""

    record: Bytes32
    patient: Bytes32
    requester: Bytes32
    member: MemberName
    purpose: Code


class AccessServed(_Event, frozen=True, tag="access.served"):
    """The custodian may hand the record's key over: from here on it counts as read."""

    access: Bytes32
    record: Bytes32
    patient: Bytes32
    requester: Bytes32
    member: MemberName
    custodian: MemberName
    purpose: Code


class ProposalMade(_Event, frozen=True, tag="proposal.made"):
    """A member proposes to admit a hospital, to change a member's role, or to remove one."""

    proposal: Bytes32
    member: MemberName
    change: Code
    name: MemberName


class ProposalVoted(_Event, frozen=True, tag="proposal.voted"):
    """A member votes on a proposal."""

    proposal: Bytes32
    member: MemberName
    approve: bool


class ProposalEnded(_Event, frozen=True, tag="proposal.ended"):
    """A proposal is decided, or has lost its time or its ground."""

    proposal: Bytes32
    ending: Ending


class MemberChanged(_Event, frozen=True, tag="member.changed"):
    """A member joins, has another role, or, with no role left, is removed."""

    member: MemberName
    organisation_key: Bytes32
    roles: Annotated[tuple[Role, ...], msgspec.Meta(max_length=2)]


class KeysReplaced(_Event, frozen=True, tag="member.keys_replaced"):
    """A member's organisation key appoints other keys; None stands for one that stays."""

    member: MemberName
    organisation_key: Bytes32
    node_key: Bytes32 | None
    service_key: Bytes32 | None
    encryption_key: Bytes32 | None


class ValidatorsChanged(_Event, frozen=True, tag="validators.changed"):
    """From the next height on a set of this epoch decides, unless a later call of the block changes it again."""

    epoch: Uint


class EquivocationProven(_Event, frozen=True, tag="network.equivocation"):
    """A member's node key signed two votes that contradict each other; ``reporter`` laid them before the network."""

    evidence: Bytes32
    member: MemberName
    reporter: MemberName
    epoch: Uint
    view: Uint
    height: Uint


class Refused(_Event, frozen=True, tag="refused"):
    """Why a call was refused: the argument at fault, where there is one, and the rule in words."""

    field: Detail
    detail: Detail


Event = (
    PatientRegistered
    | PractitionerEnrolled
    | PractitionerRevoked
    | RecordRegistered
    | ConsentGranted
    | ConsentRevoked
    | ExclusionSet
    | ExclusionEnded
    | AccessPermitted
    | AccessDenied
    | AccessServed
    | ProposalMade
    | ProposalVoted
    | ProposalEnded
    | MemberChanged
    | KeysReplaced
    | ValidatorsChanged
    | Refused
    | EquivocationProven
)
