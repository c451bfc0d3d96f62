from pathlib import Path

import pytest

from node.execution.trails import audit, show_transaction
from node.execution.views import (
    check_consent,
    list_consents,
    list_practitioners,
    list_records,
    show_consent,
    show_member,
    show_person,
    show_record,
)
from node.keys.did import encode_did
from storage.schema.calls import Exclude, Period, RequestAccess, Revoke, RevokePractitioner
from storage.schema.codec import typed_id
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import DAY_S, Story

AUDIT_FIELDS = {
    "time",
    "height",
    "transaction",
    "actor",
    "member",
    "action",
    "record",
    "category",
    "purpose",
    "consent",
    "outcome",
    "code",
    "served",
    "emergency",
}


@pytest.fixture(params=["in memory", "on disk"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """Every view is read from the ledger in memory and from the real one."""
    return Story(path=tmp_path / "data" if request.param == "on disk" else None)


def grant_to_ben(story: Story, **criteria: object) -> bytes:
    return story.grant(provision(practitioners=(story.ben.key,), **({"purposes": ("TREAT",)} | criteria)))


def entries(story: Story, subject: bytes, **options: int) -> list[dict[str, object]]:
    return list(audit(story.ledger, subject, story.ledger.head.height, **options))


def test_the_trail_of_a_patient_says_who_did_what_under_which_consent(story: Story) -> None:
    consent = grant_to_ben(story)
    asked = story.request()
    served = story.serve(derived_id(asked.id))
    story.do("consent.revoke", Revoke(consent), [story.pia])
    story.request()

    trail = entries(story, story.pia.key)

    assert [(entry["action"], entry["code"]) for entry in trail] == [
        ("register-patient", "ok"),
        ("add-record", "ok"),
        ("grant", "ok"),
        ("read", "ok"),
        ("revoke", "ok"),
        ("read", "consent.denied"),
    ]
    assert all(set(entry) >= AUDIT_FIELDS for entry in trail)
    reading = trail[3]
    assert reading["actor"] == encode_did(story.ben.key)
    assert (reading["member"], reading["custodian"]) == ("south", "north")
    assert reading["record"] == typed_id("r", story.record)
    assert reading["category"] == "laboratory"
    assert reading["purpose"] == "TREAT"
    assert reading["consent"] == typed_id("c", consent)
    assert (reading["served"], reading["served_transaction"]) == (True, served.id.hex())
    assert trail[1]["actor"] == "north"
    assert trail[5]["outcome"] == "refused"
    assert trail[5]["served"] is None


def test_a_permit_that_nobody_served_shows_as_not_served(story: Story) -> None:
    grant_to_ben(story)
    story.request()

    reading = entries(story, story.pia.key)[-1]

    assert (reading["action"], reading["code"], reading["served"]) == ("read", "ok", False)


def test_a_serving_that_was_refused_is_a_line_of_its_own(story: Story) -> None:
    consent = grant_to_ben(story)
    access = derived_id(story.request().id)
    story.do("consent.revoke", Revoke(consent), [story.pia])
    story.serve(access)

    trail = entries(story, story.pia.key)

    assert (trail[-3]["action"], trail[-3]["served"]) == ("read", False)
    assert (trail[-1]["action"], trail[-1]["actor"], trail[-1]["code"]) == ("serve", "north", "consent.denied")


def test_a_revoked_practitioners_attempt_stands_in_the_trail_with_its_reason(story: Story) -> None:
    grant_to_ben(story)
    arguments = RevokePractitioner(story.ben.key)
    story.do("identity.revoke_practitioner", arguments, [service("south")], "south")
    story.request()

    last = entries(story, story.pia.key)[-1]

    assert (last["action"], last["code"], last["actor"]) == ("read", "identity.revoked", encode_did(story.ben.key))
    assert last["detail"]


def test_what_a_patient_tried_in_vain_stands_in_their_trail(story: Story) -> None:
    story.do("consent.revoke", Revoke(b"?" * 32), [story.pia])

    last = entries(story, story.pia.key)[-1]

    assert (last["action"], last["code"], last["field"]) == ("revoke", "consent.not_found", "consent")
    assert (last["actor"], last["member"]) == (encode_did(story.pia.key), "north")


def test_exclusions_stand_in_the_trail_by_their_own_kind_of_id(story: Story) -> None:
    outcome = story.do("consent.exclude", Exclude(provision("deny"), False), [story.pia])

    last = entries(story, story.pia.key)[-1]

    assert (last["action"], last["consent"]) == ("exclude", typed_id("x", derived_id(outcome.id)))


def test_a_trail_can_be_cut_by_time_at_both_ends(story: Story) -> None:
    first_ms = story.time_ms
    for _ in range(4):
        story.request()

    cut = entries(story, story.pia.key, from_ms=first_ms + 2000, until_ms=first_ms + 3000)

    assert [entry["code"] for entry in cut] == ["consent.denied"] * 2


def test_the_trail_of_a_record_is_of_that_record_only(story: Story) -> None:
    other = story.add_record("note")
    story.request()
    story.request(other)

    trail = entries(story, other)

    assert [entry["action"] for entry in trail] == ["add-record", "read"]
    assert {entry["record"] for entry in trail} == {typed_id("r", other)}


def test_every_line_of_a_trail_names_a_transaction_that_the_ledger_shows(story: Story) -> None:
    grant_to_ben(story)
    story.request()
    story.request(purpose="HRESCH")

    for entry in entries(story, story.pia.key):
        shown = show_transaction(story.ledger, bytes.fromhex(str(entry["transaction"])))
        assert shown is not None
        assert (shown["status"], shown["height"], shown["time"]) == (entry["code"], entry["height"], entry["time"])


def test_a_transaction_shows_its_events_and_a_refusal_its_words(story: Story) -> None:
    consent = grant_to_ben(story)
    asked, refused = story.request(), story.request(purpose="HRESCH")

    permitted = show_transaction(story.ledger, asked.id)
    denied = show_transaction(story.ledger, refused.id)

    assert permitted is not None
    assert denied is not None
    event = permitted["events"][0]
    assert (event["kind"], event["consent"]) == ("access.permitted", typed_id("c", consent))
    assert event["until"].endswith("Z")
    assert "hint" not in permitted
    assert (denied["status"], denied["events"][0]["kind"]) == ("consent.denied", "access.denied")
    assert denied["message"]
    assert show_transaction(story.ledger, b"?" * 32) is None


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
    assert show_member(state, "moon") is None
    assert show_record(state, nobody) is None
    assert show_consent(state, nobody, 0) is None
    assert list_records(state, nobody) == list_consents(state, nobody, 0) == []


def test_people_and_members_are_shown_with_their_keys(story: Story) -> None:
    state = story.ledger.state

    patient = show_person(state, story.pia.key, story.time_s)
    late = show_person(state, story.ben.key, story.time_s + 31 * DAY_S)
    member = show_member(state, "north")

    assert patient is not None
    assert (patient["kind"], patient["sealing_key"]) == ("patient", story.pia.sealing_key.hex())
    assert late is not None
    assert (late["role"], late["status"]) == ("physician", "expired")
    assert member is not None
    assert member["service_key"] == service("north").key.hex()


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
