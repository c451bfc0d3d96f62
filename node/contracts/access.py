"""Access: a read is asked for, decided by consent, and counted as done once its custodian has served it."""

from node.contracts.consent import spent_consents, standing_consents
from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import (
    AccessEntry,
    ConsentEntry,
    Patient,
    Practitioner,
    RecordEntry,
    access_key,
    load_access,
    load_consent,
    load_person,
    load_record,
    load_uses,
    uses_key,
)
from node.contracts.people import acting_member, is_removed, signing_person, validity
from node.contracts.policy import OWN, Decision, Request, decide
from storage.schema.calls import RequestAccess, ServeAccess
from storage.schema.codec import encode
from storage.schema.codes import PURPOSES
from storage.schema.events import AccessDenied, AccessPermitted, AccessServed, Refused
from storage.schema.transaction import derived_id


def request(call: Call, state: StateReader) -> Changes:
    """Ask to read a record. A permit lives until the earlier of the consent's end and ``permit_s``.

    A refusal of a known person's request for a known record is told to the patient's trail as well.
    """
    arguments: RequestAccess = call.arguments
    did = call.signers[0]
    person = signing_person(call, state)
    record = load_record(state, arguments.record)
    if record is None:
        raise ContractError("record.not_found", "record", "the ledger holds no such record")
    if arguments.purpose not in PURPOSES:
        raise ContractError("purpose.unknown", "purpose", "no purpose of use of HL7 has this code")
    if is_removed(record.custodian, state):
        raise ContractError("record.unservable", "record", f"its custodian {record.custodian} has been removed")
    denied = AccessDenied(arguments.record, record.patient, did, person.member, arguments.purpose)
    if did == record.patient:
        decision, consents = OWN, []
    else:
        if isinstance(person, Patient):
            raise _told(denied, "identity.not_practitioner", "only practitioners, or the record's own patient")
        invalid = validity(person, call.time_s, state)
        if invalid:
            raise _told(denied, invalid, "the enrolment does not hold at this time")
        asked = read_request(did, person, arguments.record, record, arguments.purpose, call.time_s)
        consents = standing_consents(state, record.patient, did, person.member)
        decision = decide(consents, asked, spent_consents(state, consents, did))
        if not decision.is_permitted:
            raise ContractError("consent.denied", events=(denied,))
    return _permit(call, state, person.member, record, decision, consents)


def _permit(
    call: Call,
    state: StateReader,
    member: str,
    record: RecordEntry,
    decision: Decision,
    consents: list[tuple[bytes, ConsentEntry]],
) -> Changes:
    arguments: RequestAccess = call.arguments
    did, consent = call.signers[0], decision.consent
    until_ms = call.time_ms + call.parameters.permit_s * 1000
    if decision.end_s is not None:
        until_ms = min(until_ms, decision.end_s * 1000 + 999)
    access = derived_id(call.tx_id)
    entry = AccessEntry(arguments.record, did, did, member, arguments.purpose, consent, until_ms, call.height, None)
    writes: dict[bytes, bytes | None] = {access_key(access): encode(entry)}
    if consent is not None and dict(consents)[consent].uses is not None:
        writes[uses_key(consent, did)] = encode(load_uses(state, consent, did) + 1)
    event = AccessPermitted(
        access,
        arguments.record,
        record.patient,
        did,
        member,
        record.custodian,
        arguments.purpose,
        consent,
        until_ms,
    )
    return Changes(writes, (event,))


def served(call: Call, state: StateReader) -> Changes:
    """Let the custodian hand the record's key over: from here on it counts as read.

    Everything is decided anew at this block's time, so that a revocation ordered before ends the permit. Its uses
    were counted when it was given, and are not asked again.
    """
    arguments: ServeAccess = call.arguments
    acting_member(call, state, position=0, count=1)
    access = load_access(state, arguments.access)
    if access is None:
        raise ContractError("access.not_found", "access", "the ledger holds no such permit")
    record = load_record(state, access.record)
    assert record is not None, "a permit is for a record that stands"
    if record.custodian != call.payer:
        raise ContractError("access.not_custodian", "access", "another member holds this record")
    if access.served_height is not None:
        raise ContractError("access.already_served", "access", f"at height {access.served_height}")
    denied = AccessDenied(access.record, record.patient, access.requester, access.member, access.purpose)
    code = withheld(state, access, record, call.time_ms)
    if code == "consent.denied":
        raise ContractError(code, events=(denied,))
    if code:
        raise _told(denied, code, "the permit does not hold any more")
    entry = AccessEntry(
        access.record,
        access.requester,
        access.signing_key,
        access.member,
        access.purpose,
        access.consent,
        access.until_ms,
        access.height,
        call.height,
    )
    event = AccessServed(
        arguments.access,
        access.record,
        record.patient,
        access.requester,
        access.member,
        record.custodian,
        access.purpose,
    )
    return Changes({access_key(arguments.access): encode(entry)}, (event,))


def withheld(state: StateReader, access: AccessEntry, record: RecordEntry, time_ms: int, year: int = 0) -> str:
    """Return why a permit no longer holds at a time, as a code; empty if it does.

    The custodian asks this again when it releases a key, with its own clock if that is ahead of the block's, and
    with the record's ``year``, which it knows where the ledger does not.
    """
    if time_ms > access.until_ms:
        return "access.permit_ended"
    person = load_person(state, access.requester)
    assert person is not None, "a permit is for a person who is registered"
    # Whoever replaced their key because it was stolen must not be read for by the thief's open permits.
    if person.signing_key != access.signing_key:
        return "identity.key_replaced"
    if access.requester == record.patient:
        return ""
    assert isinstance(person, Practitioner), "only practitioners read for others"
    invalid = validity(person, time_ms // 1000, state)
    if invalid:
        return invalid
    assert access.consent is not None, "only patients read without a consent"
    consent = load_consent(state, access.consent)
    assert consent is not None, "a consent stays, also when it has been ended"
    asked = read_request(access.requester, person, access.record, record, access.purpose, time_ms // 1000, year=year)
    others = standing_consents(state, record.patient, access.requester, person.member)
    # Not any grant will do, only the one that the permit was given under; exclusions count all the same.
    consents = [(access.consent, consent), *((name, entry) for name, entry in others if entry.is_exclusion)]
    return decide(consents, asked).code.replace("ok", "")


def read_request(
    did: bytes,
    person: Practitioner,
    record_id: bytes,
    record: RecordEntry,
    purpose: str,
    time_s: int,
    *,
    year: int = 0,
    action: str = "read",
) -> Request:
    """Put a practitioner's wish as the policy takes it; ``year`` counts where the ledger knows none."""
    return Request(
        practitioner=did,
        member=person.member,
        role=f"{person.member}/{person.role}",
        action=action,
        purpose=purpose,
        record=record_id,
        category=record.category,
        tags=record.tags,
        year=record.year or year,
        time_s=time_s,
    )


def _told(denied: AccessDenied, code: str, detail: str) -> ContractError:
    return ContractError(code, "signers", detail, events=(denied, Refused("signers", detail)))
