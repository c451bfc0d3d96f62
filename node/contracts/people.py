"""People: patients whom a member sponsors, practitioners for whom a member vouches, and whose a signature is.

A person's DID is the key they were registered with, and stays their name. The key that speaks for them now stands
in their entry: a person is found by DID, and a signature counts only if it is of the key that stands there.
"""

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import (
    MemberEntry,
    Patient,
    Practitioner,
    load_key,
    load_member,
    load_newest_practitioner,
    load_person,
    person_key,
    practitioners_key,
)
from storage.schema.calls import EnrolPractitioner, RegisterPatient, RevokePractitioner
from storage.schema.codec import encode
from storage.schema.codes import ROLES
from storage.schema.events import PatientRegistered, PractitionerEnrolled, PractitionerRevoked
from storage.schema.signatures import is_sound_sealing_key, is_sound_signing_key


def register_patient(call: Call, state: StateReader) -> Changes:
    """Take a patient in: the patient's new key signs first, then the service key of the member that sponsors."""
    arguments: RegisterPatient = call.arguments
    did = _newcomer(call, arguments.sealing_key, state)
    if load_person(state, did) is not None:
        raise ContractError("identity.already_registered", "signers", "this key is registered already")
    entry = Patient(call.payer, did, arguments.sealing_key, None, None)
    return Changes({person_key(did): encode(entry)}, (PatientRegistered(did, call.payer),))


def enrol_practitioner(call: Call, state: StateReader) -> Changes:
    """Vouch for a practitioner: the practitioner signs first, then the member's service key.

    The member that enrolled a practitioner may do it again, with another role, time or sealing key; never after it
    has revoked them: a revoked practitioner comes back under a new DID only.
    """
    arguments: EnrolPractitioner = call.arguments
    did = _newcomer(call, arguments.sealing_key, state)
    if arguments.role not in ROLES:
        raise ContractError("role.unknown", "role", f"one of {', '.join(ROLES)}")
    if arguments.valid_from_s > arguments.valid_until_s:
        raise ContractError("identity.period_reversed", "valid_until_s", "it ends before it starts")
    if arguments.valid_until_s < call.time_s:
        raise ContractError("identity.period_over", "valid_until_s", "it is over already")
    times = (arguments.valid_from_s, arguments.valid_until_s)
    before = load_person(state, did)
    if before is None:
        previous = load_newest_practitioner(state, call.payer)
        writes: dict[bytes, bytes | None] = {practitioners_key(call.payer): encode(did)}
    else:
        previous = _renewed(before, did, call).previous
        writes = {}
    entry = Practitioner(call.payer, did, arguments.sealing_key, arguments.role, *times, None, previous)
    writes[person_key(did)] = encode(entry)
    return Changes(writes, (PractitionerEnrolled(did, call.payer, arguments.role, *times),))


def _renewed(before: Patient | Practitioner, did: bytes, call: Call) -> Practitioner:
    if isinstance(before, Patient) or before.member != call.payer:
        raise ContractError("identity.already_registered", "signers", "as a patient, or at another member")
    if before.revoked_ms is not None:
        raise ContractError("identity.revoked", "signers", "a revoked practitioner needs a new DID")
    if before.signing_key != did:
        raise ContractError("identity.key_replaced", "signers", "this key has been replaced by another")
    return before


def revoke_practitioner(call: Call, state: StateReader) -> Changes:
    """Stop vouching: the service key of the member that enrolled signs. It ends open permits as well."""
    arguments: RevokePractitioner = call.arguments
    acting_member(call, state, position=0, count=1)
    person = load_person(state, arguments.practitioner)
    if not isinstance(person, Practitioner):
        raise ContractError("identity.not_practitioner", "practitioner", "nobody is enrolled under this DID")
    if person.member != call.payer:
        raise ContractError("identity.other_member", "practitioner", "another member enrolled this practitioner")
    if person.revoked_ms is not None:
        raise ContractError("identity.revoked", "practitioner", "revoked before")
    entry = Practitioner(
        person.member,
        person.signing_key,
        person.sealing_key,
        person.role,
        person.valid_from_s,
        person.valid_until_s,
        call.time_ms,
        person.previous,
    )
    event = PractitionerRevoked(arguments.practitioner, call.payer)
    return Changes({person_key(arguments.practitioner): encode(entry)}, (event,))


def acting_member(call: Call, state: StateReader, *, position: int, count: int) -> MemberEntry:
    """Return the member that acts by this call: its payer, whose service key must be the signer at ``position``.

    Raises:
        ContractError: another number of signers than ``count``, another key, or a member that has been removed.
    """
    require_signers(call, count)
    member = load_member(state, call.payer)
    if member is None or call.signers[position] != member.service_key:
        place = f"signer {position + 1} must be the service key of the paying member"
        raise ContractError("signers.not_service_key", "signers", place)
    return _present(member)


def acting_organisation(call: Call, state: StateReader) -> MemberEntry:
    """Return the member that acts by this call: its payer, whose organisation key must have signed alone.

    Raises:
        ContractError: another number of signers, another key, or a member that has been removed.
    """
    require_signers(call, 1)
    member = load_member(state, call.payer)
    if member is None or call.signers[0] != member.organisation_key:
        place = "the signer must be the organisation key of the paying member"
        raise ContractError("signers.not_organisation_key", "signers", place)
    return _present(member)


def is_removed(member: str, state: StateReader) -> bool:
    """Tell whether a member, which people and records still name, has been removed."""
    entry = load_member(state, member)
    assert entry is not None, "a member's entry stays when it is removed"
    return not entry.roles


def _present(member: MemberEntry) -> MemberEntry:
    if not member.roles:
        raise ContractError("member.removed", "payer", "keys of a member that has been removed sign nothing")
    return member


def require_signers(call: Call, count: int) -> None:
    """Refuse a call that carries more or fewer signatures than it has parties."""
    if len(call.signers) != count:
        raise ContractError("signers.count", "signers", f"this call takes {count}, not {len(call.signers)}")


def signing_person(call: Call, state: StateReader) -> Patient | Practitioner:
    """Return the person who alone signed; their DID is the signer, for as long as no key has been replaced.

    Raises:
        ContractError: nobody is registered under the key, or it has been replaced.
    """
    require_signers(call, 1)
    person = load_person(state, call.signers[0])
    if person is None:
        raise ContractError("identity.unknown", "signers", "nobody is registered under this key")
    if person.signing_key != call.signers[0]:
        raise ContractError("identity.key_replaced", "signers", "this key has been replaced by another")
    return person


def signing_patient(call: Call, state: StateReader) -> Patient:
    """Return the patient who alone signed.

    Raises:
        ContractError: the signer is no patient.
    """
    person = signing_person(call, state)
    if not isinstance(person, Patient):
        raise ContractError("identity.not_patient", "signers", "only a patient may do this, for themselves")
    return person


def validity(person: Practitioner, time_s: int, state: StateReader) -> str:
    """Return why a practitioner's enrolment does not hold at this block time, as a code; empty if it does."""
    if person.revoked_ms is not None:
        return "identity.revoked"
    if is_removed(person.member, state):
        return "member.removed"
    if time_s > person.valid_until_s:
        return "identity.expired"
    return "identity.not_yet_valid" if time_s < person.valid_from_s else ""


def _newcomer(call: Call, sealing_key: bytes, state: StateReader) -> bytes:
    acting_member(call, state, position=1, count=2)
    did = call.signers[0]
    # A key of small order would let anyone sign, or open, in this person's name.
    if not is_sound_signing_key(did):
        raise ContractError("identity.signing_key_unsound", "signers", "no sound Ed25519 key")
    if not is_sound_sealing_key(sealing_key):
        raise ContractError("identity.sealing_key_unsound", "sealing_key", "no sound X25519 key")
    if load_key(state, did) is not None:
        raise ContractError("identity.key_in_use", "signers", "this key is a member's")
    return did
