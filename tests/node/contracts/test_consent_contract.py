from typing import Any

import pytest

from node.contracts.consent import standing_consents
from node.contracts.entries import (
    Patient,
    everyone_index_key,
    load_consent,
    load_person,
    load_standing,
    member_index_key,
    practitioner_index_key,
)
from storage.schema.calls import (
    GRANTEES_MAX,
    PROVISIONS_MAX,
    PROVISIONS_PER_GRANTEE_MAX,
    EndExclusion,
    Exclude,
    Grant,
    Period,
    Revoke,
)
from storage.schema.events import ConsentGranted, ConsentRevoked, ExclusionEnded, ExclusionSet
from storage.schema.genesis import Parameters
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import START_MS, Story

NOW_S = START_MS // 1000
TREAT = {"purposes": ("TREAT",)}


def index_lines(story: Story, key: bytes) -> list[bytes]:
    return [line.consent for line in load_standing(story.ledger.state, key)]


def test_a_grant_stands_under_each_of_its_grantees() -> None:
    story = Story()
    root = provision(practitioners=(story.ben.key,), members=("west",), roles=("east/nurse", "west/nurse"), **TREAT)

    consent = story.grant(root, uses=4)

    entry = load_consent(story.ledger.state, consent)
    patient = story.pia.key
    assert entry is not None
    assert (entry.patient, entry.provision, entry.uses, entry.is_exclusion) == (patient, root, 4, False)
    for key in (
        practitioner_index_key(patient, story.ben.key),
        member_index_key(patient, "west"),
        member_index_key(patient, "east"),
    ):
        assert index_lines(story, key) == [consent]
    assert index_lines(story, everyone_index_key(patient)) == []


def test_a_grant_that_names_nobody_stands_under_everyone() -> None:
    story = Story()

    consent = story.grant(provision(**TREAT))

    assert index_lines(story, everyone_index_key(story.pia.key)) == [consent]


def test_the_patients_chain_leads_from_the_newest_consent_back() -> None:
    story = Story()
    first = story.grant(provision(**TREAT))

    second = story.grant(provision(**TREAT))

    person = load_person(story.ledger.state, story.pia.key)
    entry = load_consent(story.ledger.state, second)
    assert isinstance(person, Patient)
    assert person.newest_consent == second
    assert entry is not None
    assert entry.previous == first


@pytest.mark.parametrize(
    ("criteria", "code", "field"),
    [
        pytest.param({"purposes": ()}, "consent.purpose_empty", "provision.purposes", id="no purpose"),
        pytest.param({"purposes": ("TREAT", "FUN")}, "purpose.unknown", "provision.purposes[1]", id="purpose"),
        pytest.param({"categories": ("gossip",)}, "category.unknown", "provision.categories[0]", id="category"),
        pytest.param({"actions": ("sell",)}, "action.unknown", "provision.actions[0]", id="action"),
        pytest.param({"roles": ("north/wizard",)}, "role.unknown", "provision.roles[0]", id="role"),
        pytest.param({"roles": ("moon/nurse",)}, "member.unknown", "provision.roles[0]", id="role's member"),
        pytest.param({"members": ("north", "moon")}, "member.unknown", "provision.members[1]", id="member"),
        pytest.param({"records": (b"r" * 32,)}, "record.not_found", "provision.records[0]", id="record"),
        pytest.param(
            {"period": Period(NOW_S + 9, NOW_S + 8)},
            "consent.period_over",
            "provision.period.end",
            id="over already",
        ),
        pytest.param(
            {"period": Period(NOW_S + 10**6, NOW_S + 10**5)},
            "consent.period_reversed",
            "provision.period.end",
            id="reversed",
        ),
        pytest.param(
            {"years": Period(2021, 2020)}, "consent.period_reversed", "provision.years.end", id="years reversed"
        ),
        pytest.param(
            {"provisions": (provision("deny"), provision("deny", categories=("gossip",)))},
            "category.unknown",
            "provision.provisions[1].categories[0]",
            id="in a provision below",
        ),
        pytest.param(
            {"effect": "deny", "provisions": (provision("deny"),)},
            "consent.grants_nothing",
            "provision.effect",
            id="permits nothing",
        ),
        pytest.param(
            {"provisions": tuple(provision("deny") for _ in range(PROVISIONS_MAX))},
            "consent.too_many_provisions",
            "provision",
            id="too many provisions",
        ),
        pytest.param(
            {
                "practitioners": tuple(bytes([number]) * 32 for number in range(GRANTEES_MAX)),
                "members": ("north",),
            },
            "consent.too_many_grantees",
            "provision",
            id="too many grantees",
        ),
    ],
)
def test_a_grant_that_cannot_be_meant_is_refused_by_field(criteria: dict[str, Any], code: str, field: str) -> None:
    story = Story()
    story.wait(100)

    outcome = story.do("consent.grant", Grant(provision(**(TREAT | criteria)), None), [story.pia])

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_a_root_that_denies_and_a_provision_that_permits_is_a_grant() -> None:
    story = Story()

    story.grant(provision("deny", provisions=(provision("permit", categories=("laboratory",)),), **TREAT))

    assert story.request().code == "ok"


def test_a_grant_of_no_uses_is_refused() -> None:
    story = Story()

    assert story.do("consent.grant", Grant(provision(**TREAT), 0), [story.pia]).code == "consent.uses_zero"


def test_a_record_of_another_patient_cannot_be_granted() -> None:
    story = Story()
    story.register(Actor("paul"))

    outcome = story.do("consent.grant", Grant(provision(records=(story.record,), **TREAT), None), [Actor("paul")])

    assert outcome.code == "record.not_found"


@pytest.mark.parametrize(
    ("signers", "payer", "code"),
    [
        pytest.param([Actor("ben")], "south", "identity.not_patient", id="a practitioner"),
        pytest.param([service("north")], "north", "identity.unknown", id="the sponsor"),
        pytest.param([Actor("pia"), service("north")], "north", "signers.count", id="patient and sponsor"),
    ],
)
def test_nobody_but_the_patient_grants(signers: list[Actor], payer: str, code: str) -> None:
    story = Story()

    assert story.do("consent.grant", Grant(provision(**TREAT), None), signers, payer).code == code


def test_a_revocation_ends_a_consent_and_keeps_it() -> None:
    story = Story()
    consent = story.grant(provision(practitioners=(story.ben.key,), **TREAT))

    outcome = story.do("consent.revoke", Revoke(consent), [story.pia])

    entry = load_consent(story.ledger.state, consent)
    assert outcome.events == (ConsentRevoked(consent, story.pia.key),)
    assert entry is not None
    assert entry.ended_ms == story.time_ms
    assert story.ledger.state.get(practitioner_index_key(story.pia.key, story.ben.key)) is None


def test_only_the_patient_who_granted_revokes_and_only_once() -> None:
    story = Story()
    story.register(Actor("paul"))
    consent = story.grant(provision(**TREAT))

    by_another = story.do("consent.revoke", Revoke(consent), [Actor("paul")])
    unknown = story.do("consent.revoke", Revoke(b"?" * 32), [story.pia])
    as_exclusion = story.do("consent.end_exclusion", EndExclusion(consent), [story.pia])
    first = story.do("consent.revoke", Revoke(consent), [story.pia])
    second = story.do("consent.revoke", Revoke(consent), [story.pia])

    assert by_another.code == "consent.not_yours"
    assert unknown.code == "consent.not_found"
    assert as_exclusion.code == "consent.not_found"
    assert first.code == "ok"
    assert second.code == "consent.already_revoked"


def test_an_exclusion_is_set_and_ended_by_the_patient() -> None:
    story = Story()

    shut = story.do("consent.exclude", Exclude(provision("deny", categories=("note",)), True), [story.pia])
    exclusion = derived_id(shut.id)
    as_consent = story.do("consent.revoke", Revoke(exclusion), [story.pia])
    ended = story.do("consent.end_exclusion", EndExclusion(exclusion), [story.pia])
    again = story.do("consent.end_exclusion", EndExclusion(exclusion), [story.pia])

    entry = load_consent(story.ledger.state, exclusion)
    assert shut.events == (ExclusionSet(exclusion, story.pia.key),)
    assert entry is not None
    assert (entry.is_exclusion, entry.emergency) == (True, True)
    assert as_consent.code == "consent.not_found"
    assert ended.events == (ExclusionEnded(exclusion, story.pia.key),)
    assert again.code == "consent.exclusion_already_ended"


def test_an_exclusion_is_a_deny() -> None:
    story = Story()

    outcome = story.do("consent.exclude", Exclude(provision("permit"), False), [story.pia])

    assert outcome.code == "consent.excludes_nothing"


def test_so_many_grants_may_stand_for_one_grantee_and_as_many_exclusions() -> None:
    story = Story(Parameters(consents_per_grantee_max=2))
    root = provision(members=("west",), **TREAT)
    first = story.grant(root)
    story.grant(root)

    one_too_many = story.do("consent.grant", Grant(root, None), [story.pia])
    exclusion = story.do("consent.exclude", Exclude(provision("deny", members=("west",)), False), [story.pia])
    story.do("consent.revoke", Revoke(first), [story.pia])
    after_a_revocation = story.do("consent.grant", Grant(root, None), [story.pia])

    assert one_too_many.code == "consent.too_many"
    assert exclusion.code == "ok"
    assert after_a_revocation.events == (ConsentGranted(derived_id(after_a_revocation.id), story.pia.key),)


def test_so_many_provisions_may_stand_for_one_grantee() -> None:
    story = Story()
    below = tuple(provision("deny", categories=("note",)) for _ in range(PROVISIONS_MAX - 1))
    large = provision(members=("west",), provisions=below, **TREAT)
    for _ in range(PROVISIONS_PER_GRANTEE_MAX // PROVISIONS_MAX):
        story.grant(large)

    small = Grant(provision(members=("west",), **TREAT), None)
    to_the_same = story.do("consent.grant", small, [story.pia])
    story.grant(provision(members=("east",), **TREAT))

    assert to_the_same.code == "consent.too_many"
    assert "320 provisions" in to_the_same.events[0].detail


def test_what_has_expired_leaves_the_index_when_it_is_written_next() -> None:
    story = Story(Parameters(consents_per_grantee_max=1))
    story.grant(provision(members=("west",), period=Period(None, story.time_s + 60), **TREAT))
    story.wait(120)

    second = story.grant(provision(members=("west",), **TREAT))

    assert index_lines(story, member_index_key(story.pia.key, "west")) == [second]


def test_a_consent_that_names_an_asker_twice_is_found_once() -> None:
    story = Story()
    consent = story.grant(provision(practitioners=(story.ben.key,), members=("south",), **TREAT))

    found = standing_consents(story.ledger.state, story.pia.key, story.ben.key, "south")

    assert [name for name, _ in found] == [consent]
