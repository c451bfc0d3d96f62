import pytest

from node.contracts.entries import load_key, load_member, load_members
from node.execution.admission import check_payer, payer_refusal
from node.execution.includable import BlockInvalidError
from node.execution.member_views import show_member
from node.execution.views import check_consent, show_person, show_record
from storage.schema.calls import (
    EndExclusion,
    EnrolPractitioner,
    Exclude,
    Grant,
    RegisterPatient,
    RegisterRecord,
    Remove,
    ReplaceKeys,
    RequestAccess,
    Revoke,
    RevokePractitioner,
    ServeAccess,
    SetRole,
)
from storage.schema.events import MemberChanged, ValidatorsChanged
from storage.schema.transaction import derived_id
from tests.support.council import Council, card, organisation
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, of_member, service
from tests.support.story import DAY_S

TREATMENT = {"purposes": ("TREAT",)}


def council_of_six() -> Council:
    """Enough validators that north, or south, can go."""
    council = Council()
    for name in ("abbey", "harbour"):
        council.admit(name)
        council.decide_by_quorum(SetRole(name, "validator"))
    return council


def without(member: str) -> Council:
    council = council_of_six()
    council.grant(provision(members=("south",), **TREATMENT))
    council.decide_by_quorum(Remove(member))
    return council


def test_a_removed_member_has_no_role_no_vote_and_no_keys_but_keeps_its_name() -> None:
    council = council_of_six()
    before = load_member(council.ledger.state, "north")
    assert before is not None
    epoch = council.validators.epoch

    council.decide_by_quorum(Remove("north"))

    state = council.ledger.state
    after = load_member(state, "north")
    assert after is not None
    assert (after.roles, after.node_key) == ((), before.node_key)
    assert "north" not in load_members(state)
    assert "north" not in council.names()
    assert council.validators.epoch == epoch + 1
    keys = (before.organisation_key, before.node_key, before.service_key, before.encryption_key)
    entries = [load_key(state, key) for key in keys]
    assert [entry and entry.retired_ms for entry in entries] == [council.time_ms] * 4
    assert council.propose(card("north"), "south").code == "member.name_used"
    assert council.propose(Remove("north"), "south").code == "member.removed"
    assert council.propose(card("lake", node_key=before.node_key), "south").code == "member.key_used"


def test_an_observer_is_removed_without_a_new_epoch() -> None:
    council = Council()
    council.admit("harbour")
    proposal = council.decide(Remove("harbour"), "east", "north")

    outcome = council.vote(proposal, "south")

    assert outcome.events[-1] == MemberChanged("harbour", organisation("harbour").key, ())
    assert council.validators.epoch == 0


def test_nothing_that_a_removed_member_signs_is_taken_in() -> None:
    council = without("north")
    state = council.ledger.state
    by_service = council.sign(
        "record.register",
        RegisterRecord(council.pia.key, "note", (), 2020, b"c" * 32, b"p"),
        [service("north")],
    )
    by_organisation = council.sign(
        "network.replace_keys", ReplaceKeys(Actor("new").key, None, None), [organisation("north")]
    )
    with_newcomer = council.sign(
        "identity.register_patient", RegisterPatient(Actor("kim").sealing_key), [Actor("kim"), service("north")]
    )

    for transaction in (by_service, by_organisation, with_newcomer):
        assert payer_refusal(transaction.body, load_member(state, "north"), state) == "member.removed"
        with pytest.raises(BlockInvalidError, match=r"member\.removed"):
            council.ledger.append([transaction], council.time_ms + 1000)
    stranger = council.sign("consent.revoke", Revoke(b"c" * 32), [Actor("kim")])
    assert payer_refusal(stranger.body, load_member(state, "north"), state) == "tx.payer_unbound"


def test_what_a_member_signed_before_its_removal_in_the_same_block_counts_and_what_follows_does_not() -> None:
    council = council_of_six()
    others = [name for name in council.names() if name != "north"]
    proposal = council.decide(Remove("north"), *others[:3])
    record = RegisterRecord(council.pia.key, "note", (), 2020, b"c" * 32, b"p")

    outcomes = council.order(
        council.sign("record.register", record, [service("north")]),
        council.voting(proposal, others[3]),
        council.sign("record.register", record, [service("north")]),
        council.proposing(card("lake"), "north"),
    )

    assert [outcome.code for outcome in outcomes] == ["ok", "ok", "member.removed", "member.removed"]
    assert isinstance(outcomes[1].events[-1], ValidatorsChanged)


def test_every_call_that_takes_a_service_key_is_refused_to_a_removed_member() -> None:
    council = without("south")
    until_s = council.time_s + DAY_S
    calls = [
        ("identity.register_patient", RegisterPatient(Actor("kim").sealing_key), [Actor("kim"), service("south")]),
        (
            "identity.enrol_practitioner",
            EnrolPractitioner(Actor("eve").sealing_key, "nurse", 0, until_s),
            [Actor("eve"), service("south")],
        ),
        ("identity.revoke_practitioner", RevokePractitioner(council.ben.key), [service("south")]),
        (
            "record.register",
            RegisterRecord(council.pia.key, "note", (), 2020, b"c" * 32, b"p"),
            [service("south")],
        ),
        ("access.served", ServeAccess(b"a" * 32), [service("south")]),
    ]

    for method, arguments, signers in calls:
        transaction = council.sign(method, arguments, signers, "south")
        assert council.refusal(transaction) == "member.removed", method


def test_patients_of_a_removed_member_still_grant_revoke_and_exclude() -> None:
    council = without("north")

    grant = council.do("consent.grant", Grant(provision(members=("west",), **TREATMENT), None), [council.pia])
    revoke = council.do("consent.revoke", Revoke(derived_id(grant.id)), [council.pia])
    exclude = council.do("consent.exclude", Exclude(provision("deny"), False), [council.pia])
    end = council.do("consent.end_exclusion", EndExclusion(derived_id(exclude.id)), [council.pia])

    assert [outcome.code for outcome in (grant, revoke, exclude, end)] == ["ok"] * 4


def test_practitioners_of_a_removed_member_read_nothing_more() -> None:
    council = council_of_six()
    council.grant(provision(practitioners=(council.ben.key,), **TREATMENT))
    access = derived_id(council.request().id)
    request = council.sign("access.request", RequestAccess(council.record, "TREAT"), [council.ben], "south")

    council.decide_by_quorum(Remove("south"))

    assert council.refusal(request) == "member.removed"
    assert council.serve(access).code == "member.removed"
    with pytest.raises(Exception, match="removed"):
        check_payer(request, council.ledger.state)
    shown = show_person(council.ledger.state, council.ben.key, council.time_s)
    assert shown is not None
    assert shown["status"] == "removed"
    check = check_consent(council.ledger.state, council.ben.key, council.record, "TREAT", council.time_s)
    assert check["code"] == "member.removed"


def test_records_of_a_removed_member_cannot_be_served_and_say_so() -> None:
    council = council_of_six()
    grant = provision(practitioners=(council.ben.key,), **TREATMENT)
    council.grant(grant, uses=1)
    before = show_record(council.ledger.state, council.record)

    council.decide_by_quorum(Remove("north"))
    refused = council.request()

    after = show_record(council.ledger.state, council.record)
    assert before is not None
    assert after is not None
    assert (before["servable"], after["servable"]) == (True, False)
    assert refused.code == "record.unservable"
    assert "north" in refused.events[0].detail
    check = check_consent(council.ledger.state, council.ben.key, council.record, "TREAT", council.time_s)
    assert check["code"] == "record.unservable"
    assert show_member(council.ledger.state, "north")["roles"] == []


def test_another_key_of_a_removed_member_binds_nobody_either() -> None:
    council = without("north")
    node = council.sign("access.served", ServeAccess(b"a" * 32), [of_member("north", "node")])

    assert payer_refusal(node.body, load_member(council.ledger.state, "north"), council.ledger.state) == (
        "tx.payer_unbound"
    )
