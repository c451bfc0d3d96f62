"""What happened, from the ledger's trail: a transaction with its outcome, and the audit of a patient or a record.

A reading is one line: who asked, and whether the record was served after the permit. Its serving is found by the
same line; a permit without it shows as permitted, not served.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from node.contracts.contract import StateReader
from node.contracts.entries import load_access, load_person, load_record
from node.execution.rendering import show_event, show_id, show_time_ms
from storage.schema import events
from storage.schema.block import Header, Outcome
from storage.schema.refusals import REFUSALS
from storage.schema.transaction import Transaction, decode_transaction

Shown = dict[str, Any]
ENTRIES_MAX = 10_000

_ACTIONS = {
    "identity.register_patient": "register-patient",
    "identity.enrol_practitioner": "enrol-practitioner",
    "identity.revoke_practitioner": "revoke-practitioner",
    "record.register": "add-record",
    "consent.grant": "grant",
    "consent.revoke": "revoke",
    "consent.exclude": "exclude",
    "consent.end_exclusion": "end-exclusion",
    "access.request": "read",
    "access.served": "serve",
    "network.propose": "propose",
    "network.vote": "vote",
    "network.replace_keys": "replace-keys",
    "network.evidence": "report-equivocation",
}
# Of what was done, the event says what and by whom: a person, by the field named, or a member by a key of its own.
_DONE: dict[type, tuple[str, str]] = {
    events.PatientRegistered: ("register-patient", "patient"),
    events.PractitionerEnrolled: ("enrol-practitioner", "member"),
    events.PractitionerRevoked: ("revoke-practitioner", "member"),
    events.RecordRegistered: ("add-record", "custodian"),
    events.ConsentGranted: ("grant", "patient"),
    events.ConsentRevoked: ("revoke", "patient"),
    events.ExclusionSet: ("exclude", "patient"),
    events.ExclusionEnded: ("end-exclusion", "patient"),
    events.AccessPermitted: ("read", "requester"),
    events.ProposalMade: ("propose", "member"),
    events.ProposalVoted: ("vote", "member"),
    events.KeysReplaced: ("replace-keys", "member"),
    events.EquivocationProven: ("report-equivocation", "reporter"),
}
_BY_MEMBERS = frozenset(
    {
        "record.register",
        "access.served",
        "identity.revoke_practitioner",
        "network.propose",
        "network.vote",
        "network.replace_keys",
        "network.evidence",
    }
)


class _Block(Protocol):
    @property
    def envelopes(self) -> tuple[bytes, ...]:
        """The block's transactions, in order."""
        ...


class LedgerReader(Protocol):
    """The ledger, as trails are read from it."""

    @property
    def state(self) -> StateReader:
        """The state after the head."""
        ...

    @property
    def history_from(self) -> int:
        """The lowest block that is here; 1 if all are."""
        ...

    def check_history(self) -> None:
        """Raise ``HistoryError`` unless all blocks are here."""
        ...

    def header(self, height: int) -> Header:
        """Return the header of a block."""
        ...

    def block(self, height: int) -> _Block:
        """Return a block."""
        ...

    def outcome(self, height: int, index: int) -> Outcome:
        """Return one outcome of a block."""
        ...

    def locate(self, tx_id: bytes) -> tuple[int, int] | None:
        """Return height and index of a transaction, or None."""
        ...

    def trail(self, subject: bytes, *, from_height: int = 0, limit: int) -> Iterable[tuple[int, int]]:
        """Return height and outcome index of what concerns a subject, oldest first."""
        ...


def show_transaction(ledger: LedgerReader, tx_id: bytes) -> Shown | None:
    """Show where a transaction stands and what came of it; None if no block holds it."""
    place = ledger.locate(tx_id)
    if place is None:
        return None
    height, index = place
    outcome = ledger.outcome(height, index)
    shown = {
        "transaction": tx_id.hex(),
        "height": height,
        "index": index,
        "status": outcome.code,
        "time": show_time_ms(ledger.header(height).time_ms),
        "method": _transaction(ledger, height, index).body.method,
        "events": [show_event(event) for event in outcome.events],
    }
    if outcome.code == "ok":
        return shown
    return shown | {"message": REFUSALS[outcome.code].words, "hint": REFUSALS[outcome.code].hint}


def audit(
    ledger: LedgerReader,
    subject: bytes,
    head_height: int,
    *,
    from_ms: int = 0,
    until_ms: int | None = None,
    limit: int = ENTRIES_MAX,
) -> Iterator[Shown]:
    """Yield what concerns a patient (by DID) or a record (by id), oldest first, between two block times, inclusive.

    Fields as in docs/spec/contracts.md, Audit; ``limit`` bounds how much of the trail is read.
    """
    lowest = ledger.history_from if ledger.history_from > 1 else 0
    heights = range(lowest, head_height + 1)
    start = lowest + bisect_left(heights, from_ms, key=lambda height: ledger.header(height).time_ms)
    if start == lowest:
        ledger.check_history()  # Something may stand below the blocks that are here.
    for height, index in ledger.trail(subject, from_height=start, limit=limit):
        time_ms = ledger.header(height).time_ms
        if until_ms is not None and time_ms > until_ms:
            return
        outcome = ledger.outcome(height, index)
        if outcome.code == "ok" and isinstance(outcome.events[0], events.AccessServed):
            continue
        yield _entry(ledger, height, index, time_ms, outcome)


def _entry(ledger: LedgerReader, height: int, index: int, time_ms: int, outcome: Outcome) -> Shown:
    event = outcome.events[0]
    record = getattr(event, "record", None)
    entry = None if record is None else load_record(ledger.state, record)
    refused = next((told for told in outcome.events if isinstance(told, events.Refused)), None)
    consent = getattr(event, "consent", None)
    return {
        "time": show_time_ms(time_ms),
        "height": height,
        "transaction": outcome.id.hex(),
        **(_done(ledger, event) if outcome.code == "ok" else _tried(ledger, height, index)),
        "record": show_id("record", record),
        "category": None if entry is None else entry.category,
        "purpose": getattr(event, "purpose", None),
        "consent": show_id("consent", consent) or show_id("exclusion", getattr(event, "exclusion", None)),
        "outcome": "ok" if outcome.code == "ok" else "refused",
        "code": outcome.code,
        "emergency": False,
        **_serving(ledger, event),
        **({"proposal": show_id("proposal", event.proposal)} if hasattr(event, "proposal") else {}),
        **({} if refused is None else {"field": refused.field, "detail": refused.detail}),
    }


def _done(ledger: LedgerReader, event: events.Event) -> Shown:
    action, field = _DONE[type(event)]
    actor = getattr(event, field)
    if isinstance(actor, str):
        return {"actor": actor, "member": actor, "action": action}
    member = getattr(event, "member", None)
    if member is None:
        patient = load_person(ledger.state, actor)
        assert patient is not None, "whoever acted is registered"
        member = patient.member
    return {"actor": show_id("patient", actor), "member": member, "action": action}


def _tried(ledger: LedgerReader, height: int, index: int) -> Shown:
    """Say who tried what: of a refusal only the transaction itself tells."""
    body = _transaction(ledger, height, index).body
    actor = body.payer if body.method in _BY_MEMBERS else show_id("patient", body.signers[0])
    return {"actor": actor, "member": body.payer, "action": _ACTIONS[body.method]}


def _serving(ledger: LedgerReader, event: events.Event) -> Shown:
    """Say of a permitted reading whether, when and by which transaction it was served; of all else, nothing."""
    if not isinstance(event, events.AccessPermitted):
        return {"served": None}
    shown: Shown = {"access": show_id("access", event.access), "custodian": event.custodian, "served": False}
    access = load_access(ledger.state, event.access)
    assert access is not None, "what was permitted stands in state"
    if access.served_height is None:
        return shown
    for height, index in ledger.trail(event.access, from_height=access.served_height, limit=ENTRIES_MAX):
        outcome = ledger.outcome(height, index)
        if outcome.code == "ok":
            time = show_time_ms(ledger.header(height).time_ms)
            return shown | {"served": True, "served_transaction": outcome.id.hex(), "served_time": time}
    raise AssertionError("a serving stands in the trail of its access")


def _transaction(ledger: LedgerReader, height: int, index: int) -> Transaction:
    return decode_transaction(ledger.block(height).envelopes[index])
