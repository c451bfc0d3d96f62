"""What interfaces read from the state: people, records, consents, and whether a reading would be permitted.

Lists go from the newest back, and end at a limit: chains in state are followed by exact keys, never scanned.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from node.contracts.access import read_request
from node.contracts.consent import spent_consents, standing_consents
from node.contracts.contract import StateReader
from node.contracts.entries import (
    ConsentEntry,
    Patient,
    Practitioner,
    RecordEntry,
    load_consent,
    load_newest_practitioner,
    load_person,
    load_record,
)
from node.contracts.evidence import EvidenceEntry, load_evidence, load_newest_evidence
from node.contracts.people import is_removed, validity
from node.contracts.policy import BECAUSE_OWN, OWN, Decision, decide, explain, provision_name
from node.execution.rendering import show_id, show_provision, show_time_ms, show_time_s
from storage.schema.codes import PURPOSES
from storage.schema.refusals import REFUSALS

LIST_LENGTH_MAX = 1000
Shown = dict[str, Any]
T = TypeVar("T", Practitioner, RecordEntry, ConsentEntry, EvidenceEntry)


def show_person(state: StateReader, did: bytes, time_s: int) -> Shown | None:
    """Show who stands under a DID, and whether an enrolment holds at this time; None if nobody does."""
    person = load_person(state, did)
    if person is None:
        return None
    shown: Shown = {
        "did": show_id("patient", did),
        "kind": "patient",
        "member": person.member,
        "signing_key": person.signing_key.hex(),
        "sealing_key": person.sealing_key.hex(),
    }
    if isinstance(person, Patient):
        return shown
    return shown | {
        "kind": "practitioner",
        "role": person.role,
        "valid_from": show_time_s(person.valid_from_s),
        "valid_until": show_time_s(person.valid_until_s),
        "revoked": None if person.revoked_ms is None else show_time_ms(person.revoked_ms),
        "status": (validity(person, time_s, state) or "identity.valid").partition(".")[2],
    }


def list_practitioners(state: StateReader, member: str, time_s: int, limit: int = LIST_LENGTH_MAX) -> list[Shown]:
    """List those whom a member has enrolled, the newest first."""

    def load(did: bytes) -> Practitioner | None:
        person = load_person(state, did)
        assert not isinstance(person, Patient), "the chain holds practitioners only"
        return person

    newest = load_newest_practitioner(state, member)
    listed = (show_person(state, did, time_s) for did, _ in _chain(newest, load, limit))
    return [shown for shown in listed if shown is not None]


def show_record(state: StateReader, record: bytes) -> Shown | None:
    """Show what the ledger says of a record; None if there is none."""
    entry = load_record(state, record)
    if entry is None:
        return None
    return {
        "record": show_id("record", record),
        "patient": show_id("patient", entry.patient),
        "custodian": entry.custodian,
        "servable": not is_removed(entry.custodian, state),
        "category": entry.category,
        "tags": [tag.hex() for tag in entry.tags],
        "year": entry.year or None,
        "commitment": entry.commitment.hex(),
        "height": entry.height,
        "time": show_time_ms(entry.time_ms),
    }


def list_records(state: StateReader, patient: bytes, limit: int = LIST_LENGTH_MAX) -> list[Shown]:
    """List a patient's records, the newest first; empty if nobody is registered there."""
    person = load_person(state, patient)
    newest = person.newest_record if isinstance(person, Patient) else None
    chain = _chain(newest, lambda record: load_record(state, record), limit)
    return [shown for record, _ in chain if (shown := show_record(state, record)) is not None]


def show_consent(state: StateReader, consent: bytes, time_s: int) -> Shown | None:
    """Show a consent or an exclusion; None if there is none."""
    entry = load_consent(state, consent)
    if entry is None:
        return None
    kind = "exclusion" if entry.is_exclusion else "consent"
    return {
        "consent": show_id(kind, consent),
        "kind": kind,
        "patient": show_id("patient", entry.patient),
        "status": _status(entry, time_s),
        "emergency": entry.emergency,
        "provision": show_provision(entry.provision),
        "uses": entry.uses,
        "height": entry.height,
        "time": show_time_ms(entry.time_ms),
        "ended": None if entry.ended_ms is None else show_time_ms(entry.ended_ms),
    }


def list_consents(state: StateReader, patient: bytes, time_s: int, limit: int = LIST_LENGTH_MAX) -> list[Shown]:
    """List a patient's consents and exclusions, ended ones among them, the newest first."""
    person = load_person(state, patient)
    newest = person.newest_consent if isinstance(person, Patient) else None
    chain = _chain(newest, lambda consent: load_consent(state, consent), limit)
    return [shown for consent, _ in chain if (shown := show_consent(state, consent, time_s)) is not None]


def check_consent(
    state: StateReader,
    requester: bytes,
    record_id: bytes,
    purpose: str,
    time_s: int,
    *,
    action: str = "read",
    is_for_patient: bool = False,
) -> Shown:
    """Say whether this would be permitted at this time, by the very rules of a request, binding nobody.

    ``is_for_patient``: also say which consent and which provision decide, and why, which is theirs alone to know.
    """
    person = load_person(state, requester)
    record = load_record(state, record_id)
    if record is None:
        return _checked("record.not_found")
    if is_removed(record.custodian, state):
        return _checked("record.unservable")
    if purpose not in PURPOSES:
        return _checked("purpose.unknown")
    if person is None:
        return _checked("identity.unknown")
    if requester == record.patient:
        decision, because = OWN, BECAUSE_OWN
    elif isinstance(person, Patient):
        return _checked("identity.not_practitioner")
    elif code := validity(person, time_s, state):
        return _checked(code)
    else:
        asked = read_request(requester, person, record_id, record, purpose, time_s, action=action)
        consents = standing_consents(state, record.patient, requester, person.member)
        decision = decide(consents, asked, spent_consents(state, consents, requester))
        because = explain(decision, consents, asked)
    shown = _checked(decision.code)
    return shown | _reasons(state, decision, because) if is_for_patient else shown


def show_evidence(state: StateReader, evidence: bytes) -> Shown | None:
    """Show who signed what twice, and by which transaction it stands proved; None if there is no such evidence."""
    entry = load_evidence(state, evidence)
    if entry is None:
        return None
    return {
        "evidence": show_id("evidence", evidence),
        "member": entry.member,
        "node_key": entry.node_key.hex(),
        "reporter": entry.reporter,
        "epoch": entry.epoch,
        "view": entry.view,
        "height": entry.height,
        "transaction": entry.transaction.hex(),
        "time": show_time_ms(entry.time_ms),
    }


def list_evidence(state: StateReader, limit: int = LIST_LENGTH_MAX) -> list[Shown]:
    """List all evidence, the newest first."""
    chain = _chain(load_newest_evidence(state), lambda evidence: load_evidence(state, evidence), limit)
    return [shown for evidence, _ in chain if (shown := show_evidence(state, evidence)) is not None]


def _checked(code: str) -> Shown:
    shown = {"decision": "permit" if code == "ok" else "deny", "code": code}
    return shown if code == "ok" else shown | {"message": REFUSALS[code].words, "hint": REFUSALS[code].hint}


def _reasons(state: StateReader, decision: Decision, because: str) -> Shown:
    if decision.consent is None:
        return {"because": because}
    entry = load_consent(state, decision.consent)
    assert entry is not None, "what decided stands in state"
    return {
        "consent": show_id("exclusion" if entry.is_exclusion else "consent", decision.consent),
        "provision": provision_name(decision.path),
        "because": because,
    }


def _status(entry: ConsentEntry, time_s: int) -> str:
    period = entry.provision.period
    if entry.ended_ms is not None:
        return "ended" if entry.is_exclusion else "revoked"
    if period.end is not None and time_s > period.end:
        return "expired"
    return "pending" if period.start is not None and time_s < period.start else "active"


def _chain(newest: bytes | None, load: Callable[[bytes], T | None], limit: int) -> Iterator[tuple[bytes, T]]:
    for _ in range(limit):
        if newest is None:
            return
        entry = load(newest)
        assert entry is not None, "a chain leads to what stands"
        yield newest, entry
        newest = entry.previous
