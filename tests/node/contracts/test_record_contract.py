import pytest

from node.contracts.entries import Patient, load_person, load_record
from storage.schema.calls import Period, RegisterRecord
from storage.schema.events import RecordRegistered
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story

TAG = b"t" * 16


def registration(patient: Actor, *, category: str = "laboratory", year: int = 2020) -> RegisterRecord:
    return RegisterRecord(patient.key, category, (TAG,), year, b"c" * 32, b"pointer")


def test_the_sponsor_registers_a_record_and_the_patients_chain_leads_to_it() -> None:
    story = Story()

    outcome = story.do("record.register", registration(story.pia, category="note"), [service("north")])

    record = derived_id(outcome.id)
    entry = load_record(story.ledger.state, record)
    person = load_person(story.ledger.state, story.pia.key)
    assert outcome.events == (RecordRegistered(record, story.pia.key, "north", "note"),)
    assert entry is not None
    assert (entry.custodian, entry.tags, entry.year, entry.previous) == ("north", (TAG,), 2020, story.record)
    assert isinstance(person, Patient)
    assert person.newest_record == record


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        pytest.param({"category": "gossip"}, "category.unknown", "category", id="unknown category"),
        pytest.param({"year": 1700}, "record.year_implausible", "year", id="before anybody alive was born"),
        pytest.param({"year": 2150}, "record.year_implausible", "year", id="in the future"),
        pytest.param({"patient": Actor("nobody")}, "identity.not_patient", "patient", id="unknown patient"),
        pytest.param({"patient": Actor("ben")}, "identity.not_patient", "patient", id="a practitioner's"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused(change: dict[str, object], code: str, field: str) -> None:
    story = Story()

    outcome = story.do("record.register", registration(**({"patient": story.pia} | change)), [service("north")])

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_an_unknown_year_is_accepted() -> None:
    story = Story()

    assert story.do("record.register", registration(story.pia, year=0), [service("north")]).code == "ok"


def test_only_a_service_key_registers_a_record() -> None:
    story = Story()

    assert story.do("record.register", registration(story.pia), [story.pia]).code == "signers.not_service_key"


def test_another_member_adds_only_what_a_consent_lets_it() -> None:
    story = Story()
    by_west = {"signers": [service("west")], "payer": "west"}

    before = story.do("record.register", registration(story.pia), **by_west)
    story.grant(provision(members=("west",), actions=("correct",), purposes=("TREAT",), categories=("laboratory",)))
    permitted = story.do("record.register", registration(story.pia), **by_west)
    other_category = story.do("record.register", registration(story.pia, category="note"), **by_west)
    other_member = story.do("record.register", registration(story.pia), [service("east")], "east")

    assert before.code == "record.not_permitted"
    assert permitted.code == "ok"
    assert other_category.code == "record.not_permitted"
    assert other_member.code == "record.not_permitted"


def test_a_consent_to_read_is_no_consent_to_add() -> None:
    story = Story()
    story.grant(provision(members=("west",), actions=("read",), purposes=("TREAT",)))

    outcome = story.do("record.register", registration(story.pia), [service("west")], "west")

    assert outcome.code == "record.not_permitted"


def test_a_consent_to_a_practitioner_of_a_member_is_none_to_the_member() -> None:
    story = Story()
    story.grant(provision(practitioners=(story.ben.key,), purposes=("TREAT",), period=Period(None, None)))

    outcome = story.do("record.register", registration(story.pia), [service("south")], "south")

    assert outcome.code == "record.not_permitted"
