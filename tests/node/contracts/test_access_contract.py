import pytest

from node.contracts.access import withheld
from node.contracts.entries import load_access, load_record, load_uses
from storage.schema.block import Outcome
from storage.schema.calls import (
    EnrolPractitioner,
    Exclude,
    Period,
    RegisterRecord,
    RequestAccess,
    Revoke,
    RevokePractitioner,
    ServeAccess,
)
from storage.schema.events import AccessDenied, AccessPermitted, AccessServed, Refused
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import DAY_S, Story

TREAT = {"purposes": ("TREAT",)}


def story_with_grant(**criteria: object) -> tuple[Story, bytes]:
    story = Story()
    return story, story.grant(provision(practitioners=(story.ben.key,), **(TREAT | criteria)))


def denied_to_ben(story: Story, purpose: str = "TREAT") -> AccessDenied:
    return AccessDenied(story.record, story.pia.key, story.ben.key, "south", purpose)


def revoke_ben(story: Story) -> Outcome:
    arguments = RevokePractitioner(story.ben.key)
    return story.do("identity.revoke_practitioner", arguments, [service("south")], "south")


def test_without_a_consent_a_request_is_denied_and_the_patient_sees_it() -> None:
    story = Story()

    outcome = story.request()

    assert outcome.code == "consent.denied"
    assert outcome.events == (denied_to_ben(story),)


def test_a_consent_permits_until_the_permit_ends() -> None:
    story, consent = story_with_grant()

    outcome = story.request()

    access = derived_id(outcome.id)
    until_ms = story.time_ms + story.genesis.parameters.permit_s * 1000
    permitted = AccessPermitted(
        access, story.record, story.pia.key, story.ben.key, "south", "north", "TREAT", consent, until_ms
    )
    assert outcome.events == (permitted,)


def test_a_permit_ends_no_later_than_its_consent() -> None:
    story = Story()
    end_s = story.time_s + 100
    story.grant(provision(practitioners=(story.ben.key,), period=Period(None, end_s), **TREAT))

    outcome = story.request()

    assert outcome.events[0].until_ms == end_s * 1000 + 999


def test_a_consent_ends_by_block_time() -> None:
    story = Story()
    story.grant(provision(practitioners=(story.ben.key,), period=Period(None, story.time_s + 60), **TREAT))

    before = story.request()
    story.wait(60)
    after = story.request()

    assert [before.code, after.code] == ["ok", "consent.denied"]


@pytest.mark.parametrize(
    ("record", "purpose", "code", "field"),
    [
        pytest.param(b"?" * 32, "TREAT", "record.not_found", "record", id="unknown record"),
        pytest.param(None, "FUN", "purpose.unknown", "purpose", id="unknown purpose"),
    ],
)
def test_a_request_that_names_what_is_not_there_is_refused(
    record: bytes | None, purpose: str, code: str, field: str
) -> None:
    story, _ = story_with_grant()

    outcome = story.request(record, purpose)

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_patients_read_their_own_records_without_consent() -> None:
    story = Story()

    outcome = story.do("access.request", RequestAccess(story.record, "PATRQT"), [story.pia])

    assert outcome.code == "ok"
    assert outcome.events[0].consent is None
    assert story.serve(derived_id(outcome.id)).code == "ok"


def test_another_patient_is_no_practitioner() -> None:
    story = Story()
    story.grant(provision(**TREAT))
    story.register(Actor("paul"))

    outcome = story.do("access.request", RequestAccess(story.record, "TREAT"), [Actor("paul")])

    assert outcome.code == "identity.not_practitioner"
    assert isinstance(outcome.events[0], AccessDenied)
    assert isinstance(outcome.events[1], Refused)


def test_a_revoked_practitioners_request_is_refused_and_told_to_the_patient() -> None:
    story, _ = story_with_grant()
    revoke_ben(story)

    outcome = story.request()

    assert outcome.code == "identity.revoked"
    assert outcome.events[0] == denied_to_ben(story)


def test_an_enrolment_holds_for_its_time_only() -> None:
    story, _ = story_with_grant()

    within = story.request()
    story.wait(31 * DAY_S)
    after = story.request()

    assert [within.code, after.code] == ["ok", "identity.expired"]


def test_an_enrolment_that_begins_later_does_not_hold_yet() -> None:
    story, _ = story_with_grant()
    times = (story.time_s + 100, story.time_s + DAY_S)
    later = EnrolPractitioner(story.ben.sealing_key, "physician", *times)
    story.do("identity.enrol_practitioner", later, [story.ben, service("south")], "south")

    early = story.request()
    story.wait(100)
    in_time = story.request()

    assert [early.code, in_time.code] == ["identity.not_yet_valid", "ok"]


def test_a_permit_that_a_replaced_key_asked_for_is_not_served() -> None:
    # Whoever stole the key may have asked before it was replaced.
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    story.replace_key(story.ben)

    assert story.serve(access).code == "identity.key_replaced"


def test_an_exclusion_denies_what_is_granted() -> None:
    story, _ = story_with_grant()

    story.do("consent.exclude", Exclude(provision("deny", categories=("laboratory",)), False), [story.pia])

    assert story.request().code == "consent.denied"


@pytest.mark.parametrize("uses", [1, 3])
def test_a_grant_of_n_uses_permits_each_practitioner_n_times(uses: int) -> None:
    story = Story()
    eve = Actor("eve")
    story.enrol(eve, role="nurse")
    consent = story.grant(provision(members=("south",), **TREAT), uses=uses)
    request = RequestAccess(story.record, "TREAT")

    transactions = [
        story.sign("access.request", request, [asker], "south") for asker in (story.ben, eve) for _ in range(uses + 2)
    ]
    codes = [outcome.code for outcome in story.order(*transactions)]

    each = ["ok"] * uses + ["consent.denied"] * 2
    assert codes == each + each
    assert load_uses(story.ledger.state, consent, story.ben.key) == uses


def test_serving_counts_as_reading_once() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    served = story.serve(access)
    again = story.serve(access)

    event = AccessServed(access, story.record, story.pia.key, story.ben.key, "south", "north", "TREAT")
    assert served.events == (event,)
    assert again.code == "access.already_served"


def test_only_the_custodian_serves() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    assert story.serve(access, "south").code == "access.not_custodian"
    assert story.serve(b"?" * 32).code == "access.not_found"


def test_the_requester_cannot_serve_themselves() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    outcome = story.do("access.served", ServeAccess(access), [story.ben], "south")

    assert outcome.code == "signers.not_service_key"


def test_a_permit_that_is_over_is_not_served() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)
    story.wait(story.genesis.parameters.permit_s)

    outcome = story.serve(access)

    assert outcome.code == "access.permit_ended"
    assert outcome.events[0] == denied_to_ben(story)


def test_a_revocation_ends_open_permits_even_where_another_grant_would_permit() -> None:
    story, consent = story_with_grant()
    access = derived_id(story.request().id)
    story.grant(provision(members=("south",), **TREAT))

    story.do("consent.revoke", Revoke(consent), [story.pia])

    assert story.serve(access).code == "consent.denied"
    assert story.serve(derived_id(story.request().id)).code == "ok"


def test_an_exclusion_ends_open_permits() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    story.do("consent.exclude", Exclude(provision("deny", practitioners=(story.ben.key,)), False), [story.pia])

    assert story.serve(access).events == (denied_to_ben(story),)


def test_the_revocation_of_a_practitioner_ends_open_permits() -> None:
    story, _ = story_with_grant()
    access = derived_id(story.request().id)

    revoke_ben(story)

    assert story.serve(access).code == "identity.revoked"


def test_spent_uses_do_not_end_the_permit_that_spent_them() -> None:
    story = Story()
    story.grant(provision(practitioners=(story.ben.key,), **TREAT), uses=1)

    assert story.serve(derived_id(story.request().id)).code == "ok"


def test_the_custodian_who_knows_the_year_may_withhold_what_the_ledger_permits() -> None:
    story = Story()

    undated = story.do(
        "record.register",
        RegisterRecord(story.pia.key, "laboratory", (), 0, b"c" * 32, b"pointer"),
        [service("north")],
    )
    story.grant(provision(practitioners=(story.ben.key,), years=Period(2019, 2020), **TREAT))
    outcome = story.request(derived_id(undated.id))

    state = story.ledger.state
    access = load_access(state, derived_id(outcome.id))
    record = load_record(state, derived_id(undated.id))
    assert access is not None
    assert record is not None
    assert withheld(state, access, record, story.time_ms, 2020) == ""
    assert withheld(state, access, record, story.time_ms, 2021) == "consent.denied"
