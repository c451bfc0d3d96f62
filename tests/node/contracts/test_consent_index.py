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
    PROVISIONS_MAX,
    PROVISIONS_PER_GRANTEE_MAX,
    Exclude,
    Grant,
    Period,
    Revoke,
)
from storage.schema.events import ConsentGranted
from storage.schema.genesis import Parameters
from storage.schema.transaction import derived_id
from tests.support.provisions import provision
from tests.support.story import Story

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


def test_what_has_not_expired_stays_in_the_index_to_its_last_second() -> None:
    story = Story()
    end_s = story.time_s + 60
    first = story.grant(provision(members=("west",), period=Period(None, end_s), **TREAT))
    story.wait(end_s - story.time_s - 1)

    second = story.grant(provision(members=("west",), **TREAT))
    in_the_last_second = index_lines(story, member_index_key(story.pia.key, "west"))
    third = story.grant(provision(members=("west",), **TREAT))
    a_second_later = index_lines(story, member_index_key(story.pia.key, "west"))

    assert in_the_last_second == [first, second]
    assert a_second_later == [second, third]


def test_a_consent_that_names_an_asker_twice_is_found_once() -> None:
    story = Story()
    consent = story.grant(provision(practitioners=(story.ben.key,), members=("south",), **TREAT))

    found = standing_consents(story.ledger.state, story.pia.key, story.ben.key, "south")

    assert [name for name, _ in found] == [consent]
