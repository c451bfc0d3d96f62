from node.execution.views import (
    check_consent,
    list_consents,
    list_practitioners,
    list_records,
    show_consent,
    show_person,
    show_record,
)
from node.keys.did import encode_did
from storage.schema.calls import Exclude, Period, RequestAccess, Revoke
from storage.schema.codec import typed_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor
from tests.support.story import DAY_S, Story


def grant_to_ben(story: Story, **criteria: object) -> bytes:
    return story.grant(provision(practitioners=(story.ben.key,), **({"purposes": ("TREAT",)} | criteria)))


def test_consents_are_listed_from_the_newest_back_with_what_became_of_them(story: Story) -> None:
    now = story.time_s
    revoked = grant_to_ben(story)
    story.do("consent.revoke", Revoke(revoked), [story.pia])
    expired = grant_to_ben(story, period=Period(None, now + 100))
    pending = grant_to_ben(story, period=Period(now + 10**6, None))
    active = grant_to_ben(story)
    story.do("consent.exclude", Exclude(provision("deny", categories=("note",)), True), [story.pia])

    listed = list_consents(story.ledger.state, story.pia.key, now + 1000)

    assert [(entry["kind"], entry["status"]) for entry in listed] == [
        ("exclusion", "active"),
        ("consent", "active"),
        ("consent", "pending"),
        ("consent", "expired"),
        ("consent", "revoked"),
    ]
    ids = [typed_id("c", consent) for consent in (active, pending, expired, revoked)]
    assert [entry["consent"] for entry in listed[1:]] == ids
    assert listed[1]["provision"]["practitioners"] == [encode_did(story.ben.key)]
    assert list_consents(story.ledger.state, story.pia.key, now, limit=2) == listed[:2]


def test_records_and_practitioners_are_listed_from_the_newest_back(story: Story) -> None:
    note = story.add_record("note")
    story.enrol(Actor("eve"), role="nurse")
    story.enrol(story.ben, role="nurse")

    records = list_records(story.ledger.state, story.pia.key)
    people = list_practitioners(story.ledger.state, "south", story.time_s)

    assert [record["record"] for record in records] == [typed_id("r", note), typed_id("r", story.record)]
    assert [person["did"] for person in people] == [encode_did(Actor("eve").key), encode_did(story.ben.key)]
    assert {person["status"] for person in people} == {"valid"}
    assert list_practitioners(story.ledger.state, "west", story.time_s) == []


def test_nothing_is_shown_of_what_is_not_there(story: Story) -> None:
    state, nobody = story.ledger.state, b"?" * 32

    assert show_person(state, nobody, 0) is None
    assert show_record(state, nobody) is None
    assert show_consent(state, nobody, 0) is None
    assert list_records(state, nobody) == list_consents(state, nobody, 0) == []


def test_people_are_shown_with_their_keys(story: Story) -> None:
    state = story.ledger.state

    patient = show_person(state, story.pia.key, story.time_s)
    late = show_person(state, story.ben.key, story.time_s + 31 * DAY_S)

    assert patient is not None
    assert (patient["kind"], patient["sealing_key"]) == ("patient", story.pia.sealing_key.hex())
    assert late is not None
    assert (late["role"], late["status"]) == ("physician", "expired")


def test_a_check_answers_as_the_request_that_follows_it(story: Story) -> None:
    story.register(Actor("paul"))
    grant_to_ben(story, categories=("laboratory",))
    note = story.add_record("note")

    for asker, payer in ((story.ben, "south"), (Actor("paul"), "north"), (story.pia, "north"), (Actor("eve"), "south")):
        for record in (story.record, note, b"?" * 32):
            for purpose in ("TREAT", "HRESCH", "FUN"):
                said = check_consent(story.ledger.state, asker.key, record, purpose, story.time_s + 1)
                if asker.name == "eve":
                    assert said["decision"] == "deny"
                    continue
                asked = story.do("access.request", RequestAccess(record, purpose), [asker], payer)
                assert said["code"] == asked.code
                assert said["decision"] == ("permit" if asked.code == "ok" else "deny")


def test_only_the_patient_is_told_which_provision_decided(story: Story) -> None:
    consent = grant_to_ben(story, provisions=(provision("deny", categories=("laboratory",)),))
    question = (story.ledger.state, story.ben.key, story.record, "TREAT", story.time_s)

    for_the_asker = check_consent(*question)
    for_the_patient = check_consent(*question, is_for_patient=True)

    assert set(for_the_asker) == {"decision", "code", "message", "hint"}
    assert for_the_patient["consent"] == typed_id("c", consent)
    assert for_the_patient["provision"] == "provision 1"
    assert "laboratory" in for_the_patient["because"]


def test_a_check_of_another_action_asks_for_that_action(story: Story) -> None:
    grant_to_ben(story, actions=("read",))
    question = (story.ledger.state, story.ben.key, story.record, "TREAT", story.time_s)

    assert check_consent(*question)["decision"] == "permit"
    assert check_consent(*question, action="share")["decision"] == "deny"


def test_a_time_beyond_the_calendar_is_shown_as_its_last_moment(story: Story) -> None:
    consent = grant_to_ben(story, period=Period(None, 2**62))

    shown = show_consent(story.ledger.state, consent, story.time_s)

    assert shown is not None
    assert shown["provision"]["period"]["end"] == "9999-12-31T23:59:59Z"


def test_a_check_counts_the_uses_that_are_spent(story: Story) -> None:
    story.grant(provision(practitioners=(story.ben.key,), purposes=("TREAT",)), uses=1)
    story.request()

    said = check_consent(story.ledger.state, story.ben.key, story.record, "TREAT", story.time_s, is_for_patient=True)

    assert said["code"] == "consent.denied"
    assert "spent" in said["because"]
