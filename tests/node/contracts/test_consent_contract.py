from typing import Any

import pytest

from node.contracts.entries import (
    load_consent,
    practitioner_index_key,
)
from storage.schema.calls import (
    GRANTEES_MAX,
    PROVISIONS_MAX,
    EndExclusion,
    Exclude,
    Grant,
    Period,
    Revoke,
)
from storage.schema.events import ConsentRevoked, ExclusionEnded, ExclusionSet
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import START_MS, Story

NOW_S = START_MS // 1000
TREAT = {"purposes": ("TREAT",)}


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
