"""Consent: what a patient grants, ends, shuts out, and lets in again. Only the patient's own signature counts."""

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import (
    ConsentEntry,
    Patient,
    Standing,
    consent_key,
    everyone_index_key,
    load_consent,
    load_standing,
    load_uses,
    member_index_key,
    person_key,
    practitioner_index_key,
)
from node.contracts.people import signing_patient
from node.contracts.provisions import check_provisions, count_provisions, permits_anything
from storage.schema.calls import (
    GRANTEES_MAX,
    PROVISIONS_PER_GRANTEE_MAX,
    EndExclusion,
    Exclude,
    Grant,
    Provision,
    Revoke,
)
from storage.schema.codec import encode
from storage.schema.events import ConsentGranted, ConsentRevoked, ExclusionEnded, ExclusionSet
from storage.schema.transaction import derived_id


def grant(call: Call, state: StateReader) -> Changes:
    """Let somebody do something with records of the patient who signs."""
    arguments: Grant = call.arguments
    patient = signing_patient(call, state)
    provision = arguments.provision
    # A grant without a purpose would be one for every purpose; that must be said, not left out.
    if not provision.purposes:
        raise ContractError("consent.purpose_empty", "provision.purposes", "at least one purpose of use")
    if arguments.uses == 0:
        raise ContractError("consent.uses_zero", "uses", "at least 1, or no limit")
    check_provisions(provision, call, state)
    if not permits_anything(provision):
        raise ContractError("consent.grants_nothing", "provision.effect", "no provision of it permits anything")
    consent = derived_id(call.tx_id)
    writes = _place(consent, provision, patient, call, state, is_exclusion=False, uses=arguments.uses)
    return Changes(writes, (ConsentGranted(consent, call.signers[0]),))


def exclude(call: Call, state: StateReader) -> Changes:
    """Shut something out for the patient who signs, whatever is granted; ``emergency`` also against emergencies."""
    arguments: Exclude = call.arguments
    patient = signing_patient(call, state)
    if arguments.provision.effect != "deny":
        raise ContractError("consent.excludes_nothing", "provision.effect", "the root of an exclusion is a deny")
    check_provisions(arguments.provision, call, state)
    exclusion = derived_id(call.tx_id)
    writes = _place(
        exclusion, arguments.provision, patient, call, state, is_exclusion=True, emergency=arguments.emergency
    )
    return Changes(writes, (ExclusionSet(exclusion, call.signers[0]),))


def revoke(call: Call, state: StateReader) -> Changes:
    """End a consent. It stays, marked, so that the trail shows both acts; open permits end with it."""
    arguments: Revoke = call.arguments
    writes = _end(arguments.consent, call, state, is_exclusion=False)
    return Changes(writes, (ConsentRevoked(arguments.consent, call.signers[0]),))


def end_exclusion(call: Call, state: StateReader) -> Changes:
    """End an exclusion."""
    arguments: EndExclusion = call.arguments
    writes = _end(arguments.exclusion, call, state, is_exclusion=True)
    return Changes(writes, (ExclusionEnded(arguments.exclusion, call.signers[0]),))


def standing_consents(
    state: StateReader, patient: bytes, practitioner: bytes | None, member: str
) -> list[tuple[bytes, ConsentEntry]]:
    """Return what a patient has granted to, or shut out for, this practitioner, their member, or everyone.

    Bounded: each of the three lists holds at most ``consents_per_grantee_max`` grants, and as many exclusions.
    """
    lines = load_standing(state, practitioner_index_key(patient, practitioner)) if practitioner else ()
    lines += load_standing(state, member_index_key(patient, member))
    lines += load_standing(state, everyone_index_key(patient))
    found: dict[bytes, ConsentEntry] = {}
    for line in lines:
        if line.consent not in found:
            entry = load_consent(state, line.consent)
            assert entry is not None, "the index names only what stands"
            found[line.consent] = entry
    return list(found.items())


def spent_consents(
    state: StateReader, consents: list[tuple[bytes, ConsentEntry]], practitioner: bytes
) -> tuple[bytes, ...]:
    """Return those of the consents whose limited uses this practitioner has had."""
    return tuple(
        consent
        for consent, entry in consents
        if entry.uses is not None and load_uses(state, consent, practitioner) >= entry.uses
    )


def _place(
    consent: bytes,
    provision: Provision,
    patient: Patient,
    call: Call,
    state: StateReader,
    *,
    is_exclusion: bool,
    emergency: bool = False,
    uses: int | None = None,
) -> dict[bytes, bytes | None]:
    did = call.signers[0]
    entry = ConsentEntry(
        did, is_exclusion, emergency, provision, uses, call.height, call.time_ms, None, patient.newest_consent
    )
    newest = Patient(patient.member, patient.signing_key, patient.sealing_key, consent, patient.newest_record)
    writes: dict[bytes, bytes | None] = {consent_key(consent): encode(entry), person_key(did): encode(newest)}
    line = Standing(consent, is_exclusion, provision.period.end, count_provisions(provision))
    for key in _index_keys(did, provision):
        lines = (*_unexpired(load_standing(state, key), call.time_s), line)
        _check_limits(lines, is_exclusion=is_exclusion, count_max=call.parameters.consents_per_grantee_max)
        writes[key] = encode(lines)
    return writes


def _check_limits(lines: tuple[Standing, ...], *, is_exclusion: bool, count_max: int) -> None:
    """Bound what one request makes every validator read and decide; grants never crowd an exclusion out."""
    provision_counts = [line.provision_count for line in lines if line.is_exclusion is is_exclusion]
    if len(provision_counts) > count_max:
        raise ContractError("consent.too_many", "provision", f"at most {count_max} may stand for one grantee")
    if sum(provision_counts) > PROVISIONS_PER_GRANTEE_MAX:
        limit = f"at most {PROVISIONS_PER_GRANTEE_MAX} provisions may stand for one grantee"
        raise ContractError("consent.too_many", "provision", limit)


def _end(consent: bytes, call: Call, state: StateReader, *, is_exclusion: bool) -> dict[bytes, bytes | None]:
    signing_patient(call, state)
    field = "exclusion" if is_exclusion else "consent"
    entry = load_consent(state, consent)
    if entry is None or entry.is_exclusion is not is_exclusion:
        raise ContractError("consent.not_found", field, f"the ledger holds no such {field}")
    if entry.patient != call.signers[0]:
        raise ContractError("consent.not_yours", field, "only the patient who made it may end it")
    if entry.ended_ms is not None:
        code = "consent.exclusion_already_ended" if is_exclusion else "consent.already_revoked"
        raise ContractError(code, field, "it was ended before")
    ended = ConsentEntry(
        entry.patient,
        entry.is_exclusion,
        entry.emergency,
        entry.provision,
        entry.uses,
        entry.height,
        entry.time_ms,
        call.time_ms,
        entry.previous,
    )
    writes: dict[bytes, bytes | None] = {consent_key(consent): encode(ended)}
    for key in _index_keys(entry.patient, entry.provision):
        before = _unexpired(load_standing(state, key), call.time_s)
        lines = tuple(line for line in before if line.consent != consent)
        writes[key] = encode(lines) if lines else None
    return writes


def _unexpired(lines: tuple[Standing, ...], time_s: int) -> tuple[Standing, ...]:
    return tuple(line for line in lines if line.end_s is None or line.end_s >= time_s)


def _index_keys(patient: bytes, provision: Provision) -> list[bytes]:
    """Return where a consent is listed: by the grantees of its root, since nothing below matches without it."""
    members = dict.fromkeys((*provision.members, *(role.partition("/")[0] for role in provision.roles)))
    keys = [practitioner_index_key(patient, practitioner) for practitioner in dict.fromkeys(provision.practitioners)]
    keys += [member_index_key(patient, member) for member in members]
    if len(keys) > GRANTEES_MAX:
        raise ContractError("consent.too_many_grantees", "provision", f"at most {GRANTEES_MAX} of all kinds")
    return keys or [everyone_index_key(patient)]
