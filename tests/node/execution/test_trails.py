from node.execution.trails import audit, show_transaction
from node.keys.did import encode_did
from storage.schema.calls import Exclude, Revoke, RevokePractitioner
from storage.schema.codec import typed_id
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import service
from tests.support.story import Story

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
