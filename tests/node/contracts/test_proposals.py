import pytest

from node.contracts.proposals import (
    OPEN_MAX,
    OPEN_PER_MEMBER_MAX,
    ProposalEntry,
    Proposals,
    load_proposals,
    proposal_key,
    proposals_key,
)
from storage.schema.block import Outcome
from storage.schema.calls import Change, Propose, Remove, SetRole, VoteOn
from storage.schema.codec import encode
from storage.schema.events import ProposalEnded
from storage.schema.transaction import derived_id
from storage.schema.validators import VALIDATORS_MAX, faults_tolerated
from tests.support.council import Council, card, organisation
from tests.support.small_ledger import Actor, of_member, service

HARBOUR = card("harbour")
SMALL_ORDER = b"\x01" + bytes(31)


def test_a_vote_is_cast_once_by_who_validates_on_what_is_open() -> None:
    council = Council()
    council.admit("harbour")
    proposal = council.proposed(card("abbey"))

    refusals = {
        "twice": council.vote(proposal, "north", approve=False),
        "observer": council.vote(proposal, "harbour"),
        "observer proposes": council.propose(card("lake"), "harbour"),
        "unknown": council.vote(b"u" * 32, "south"),
        "service key": council.do("network.vote", VoteOn(proposal, True), [service("south")], "south"),
        "two signers": council.do(
            "network.vote", VoteOn(proposal, True), [organisation("south"), service("south")], "south"
        ),
        "node key proposes": council.order(
            council.sign(
                "network.propose",
                Propose(card("lake"), None),
                [of_member("south", "node"), organisation("south")],
                "south",
            )
        )[0],
    }

    assert {name: outcome.code for name, outcome in refusals.items()} == {
        "twice": "proposal.already_voted",
        "observer": "network.not_validator",
        "observer proposes": "network.not_validator",
        "unknown": "proposal.not_found",
        "service key": "signers.not_organisation_key",
        "two signers": "signers.count",
        "node key proposes": "signers.count",
    }


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        (card("north"), "member.name_used", "change.name"),
        (card("harbour", node_key=SMALL_ORDER), "member.key_unsound", "change.node_key"),
        (card("harbour", encryption_key=bytes(32)), "member.key_unsound", "change.encryption_key"),
        (card("harbour", service_key=service("west").key), "member.key_used", "change.service_key"),
        (card("harbour", service_key=Actor("pia").key), "member.key_used", "change.service_key"),
        (card("harbour", service_key=HARBOUR.node_key), "member.key_used", "change.node_key"),
        (
            card("harbour", encryption_key=of_member("west", "encryption").sealing_key),
            "member.key_used",
            "change.encryption_key",
        ),
        (SetRole("harbour", "validator"), "member.unknown", "change.name"),
        (SetRole("west", "validator"), "member.role_same", "change.role"),
        (SetRole("west", "observer"), "network.too_few_validators", "change"),
        (Remove("harbour"), "member.unknown", "change.name"),
        (Remove("west"), "network.too_few_validators", "change"),
    ],
)
def test_what_cannot_be_done_is_not_proposed(change: Change, code: str, field: str) -> None:
    council = Council()

    outcome = council.propose(change)

    assert outcome.code == code
    assert outcome.events[0].field == field


def test_a_change_is_proposed_once_and_a_member_has_few_proposals_open() -> None:
    council = Council()
    first = council.propose(HARBOUR, "north")

    same = council.propose(HARBOUR, "south")
    others = [council.propose(card(f"clinic-{number}"), "north") for number in range(OPEN_PER_MEMBER_MAX)]

    assert first.code == "ok"
    assert same.code == "proposal.already_open"
    assert [outcome.code for outcome in others] == ["ok"] * (OPEN_PER_MEMBER_MAX - 1) + ["proposal.too_many"]
    assert council.propose(card("abbey"), "south").code == "ok"


def test_no_faulty_minority_can_fill_the_places_for_proposals() -> None:
    assert faults_tolerated(VALIDATORS_MAX) * OPEN_PER_MEMBER_MAX < OPEN_MAX


def with_over(council: Council, count: int) -> list[bytes]:
    """So many proposals that are over, and stand first in the list of what is open."""
    names = [b"%032d" % number for number in range(count)]
    over = ProposalEntry("east", Remove("moon"), None, 1, 0, 1, (), None, None, None)
    listed = load_proposals(council.ledger.state)
    council.ledger.state.values |= {proposal_key(name): encode(over) for name in names}
    council.ledger.state.values[proposals_key()] = encode(Proposals(listed.newest, (*names, *listed.open)))
    return names


def ended(outcome: Outcome) -> list[bytes]:
    return [event.proposal for event in outcome.events if isinstance(event, ProposalEnded)]


def test_one_call_ends_sixteen_proposals_at_the_most_and_the_next_goes_on() -> None:
    council = Council()
    names = with_over(council, 20)

    first = council.propose(HARBOUR)
    second = council.vote(derived_id(first.id), "south")

    assert (ended(first), ended(second)) == (names[:16], names[16:])
    assert load_proposals(council.ledger.state).open == (derived_id(first.id),)


def test_a_decision_waits_behind_nothing_that_has_ended_otherwise() -> None:
    council = Council()
    proposal = council.proposed(HARBOUR)
    council.vote(proposal, "south")
    names = with_over(council, 20)

    outcome = council.vote(proposal, "east")

    assert ended(outcome) == [proposal, *names[:15]]
    assert council.entry(proposal).ending == "accepted"


@pytest.mark.parametrize(("late_ms", "code"), [(0, "ok"), (1, "proposal.closed")])
def test_a_proposal_may_be_decided_up_to_its_last_millisecond(late_ms: int, code: str) -> None:
    council = Council()
    proposal = council.proposed(HARBOUR)
    council.vote(proposal, "south")
    council.time_ms = council.entry(proposal).until_ms + late_ms - 1000

    assert council.vote(proposal, "east").code == code
    assert council.entry(proposal).ending == ("accepted" if code == "ok" else None)
