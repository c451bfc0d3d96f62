"""Records: who holds what of whom, and the little that is said of it in clear; never any content."""

from node.contracts.consent import standing_consents
from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import Patient, RecordEntry, load_person, person_key, record_key
from node.contracts.people import acting_member
from node.contracts.policy import Request, decide
from storage.schema.calls import RegisterRecord
from storage.schema.codec import encode
from storage.schema.codes import CATEGORIES
from storage.schema.events import RecordRegistered
from storage.schema.transaction import derived_id

YEAR_MIN = 1850
YEAR_SECONDS = 31_556_952


def register(call: Call, state: StateReader) -> Changes:
    """Say that the member who signs holds a record of a patient.

    The patient's sponsor may. Another member may if a consent lets it, as a member, do ``correct`` for treatment:
    adding to a file is the part of FHIR's consent action ``correct`` that exists so far.
    """
    arguments: RegisterRecord = call.arguments
    acting_member(call, state, position=0, count=1)
    if arguments.category not in CATEGORIES:
        raise ContractError("category.unknown", "category", f"one of {', '.join(CATEGORIES)}")
    # By mean years, so a day off at New Year; what is dated a little ahead is let in with the next year.
    this_year = 1970 + call.time_s // YEAR_SECONDS
    if arguments.year and not YEAR_MIN <= arguments.year <= this_year + 1:
        raise ContractError("record.year_implausible", "year", f"0 if unknown, else {YEAR_MIN} to {this_year + 1}")
    patient = load_person(state, arguments.patient)
    if not isinstance(patient, Patient):
        raise ContractError("identity.not_patient", "patient", "no patient is registered under this DID")
    if patient.member != call.payer and not _may_add(call, arguments, state):
        raise ContractError("record.not_permitted", "patient", "neither the sponsor nor permitted by the patient")
    record = derived_id(call.tx_id)
    entry = RecordEntry(
        arguments.patient,
        call.payer,
        arguments.category,
        arguments.tags,
        arguments.year,
        arguments.commitment,
        arguments.pointer,
        call.height,
        call.time_ms,
        patient.newest_record,
    )
    newest = Patient(patient.member, patient.signing_key, patient.sealing_key, patient.newest_consent, record)
    writes: dict[bytes, bytes | None] = {
        record_key(record): encode(entry),
        person_key(arguments.patient): encode(newest),
    }
    return Changes(writes, (RecordRegistered(record, arguments.patient, call.payer, arguments.category),))


def _may_add(call: Call, arguments: RegisterRecord, state: StateReader) -> bool:
    request = Request(
        practitioner=None,
        member=call.payer,
        role="",
        action="correct",
        purpose="TREAT",
        record=None,
        category=arguments.category,
        tags=arguments.tags,
        year=arguments.year,
        time_s=call.time_s,
    )
    return decide(standing_consents(state, arguments.patient, None, call.payer), request).is_permitted
