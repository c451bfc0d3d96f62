from node.contracts.entries import load_key, load_member, load_members
from node.contracts.governance import PROPOSAL_MS
from node.contracts.proposals import (
    load_proposals,
)
from storage.schema.calls import Remove, SetRole
from storage.schema.events import MemberChanged, ProposalEnded, ProposalMade, ProposalVoted, ValidatorsChanged
from storage.schema.transaction import derived_id
from tests.support.council import Council, card
from tests.support.small_ledger import Actor

HARBOUR = card("harbour")
SMALL_ORDER = b"\x01" + bytes(31)


def test_a_hospital_is_admitted_as_an_observer_by_the_vote_that_completes_the_quorum() -> None:
    council = Council()
    proposal = council.proposed(HARBOUR)

    second = council.vote(proposal, "south")
    third = council.vote(proposal, "east")

    assert second.events == (ProposalVoted(proposal, "south", True),)
    assert third.events == (
        ProposalVoted(proposal, "east", True),
        ProposalEnded(proposal, "accepted"),
        MemberChanged("harbour", HARBOUR.organisation_key, ("observer",)),
    )
    state = council.ledger.state
    member = load_member(state, "harbour")
    assert member is not None
    assert (member.roles, member.addresses, member.node_key) == (("observer",), HARBOUR.addresses, HARBOUR.node_key)
    assert load_members(state) == ("east", "harbour", "north", "south", "west")
    key = load_key(state, HARBOUR.service_key)
    assert key is not None
    assert (key.kind, key.member, key.retired_ms) == ("service", "harbour", None)
    assert council.validators.epoch == 0


def test_a_proposal_is_told_and_carries_its_own_approval_and_what_it_rests_on() -> None:
    council = Council()

    outcome = council.propose(SetRole("west", "observer"), "south", evidence=b"e" * 32)

    assert outcome.code == "network.too_few_validators"
    council.admit("harbour")
    council.decide(SetRole("harbour", "validator"), "east", "north", "south")
    outcome = council.propose(SetRole("west", "observer"), "south", evidence=b"e" * 32)
    proposal = derived_id(outcome.id)
    assert outcome.events == (ProposalMade(proposal, "south", "role", "west"),)
    entry = council.entry(proposal)
    assert [(ballot.member, ballot.approve) for ballot in entry.ballots] == [("south", True)]
    assert (entry.evidence, entry.until_ms) == (b"e" * 32, council.time_ms + PROPOSAL_MS)


def test_a_member_that_becomes_a_validator_opens_the_next_epoch() -> None:
    council = Council()
    council.admit("harbour")

    council.decide(SetRole("harbour", "validator"), "east", "north", "south")

    assert council.validators.epoch == 1
    assert council.names() == ["east", "harbour", "north", "south", "west"]
    assert council.validators.engine == "pbft"


def test_all_decisions_of_one_block_open_one_epoch() -> None:
    council = Council()
    council.admit("harbour")
    council.admit("abbey")
    both = [council.proposed(SetRole(name, "validator"), "north") for name in ("harbour", "abbey")]
    for proposal in both:
        council.vote(proposal, "south")

    votes = [council.voting(both[0], "east"), council.voting(both[1], "east"), council.voting(both[1], "west")]

    outcomes = council.order(*votes)

    assert [outcome.events[-1] for outcome in outcomes] == [
        ValidatorsChanged(1),
        ProposalVoted(both[1], "east", True),
        ValidatorsChanged(1),
    ]
    assert council.validators.epoch == 1
    assert council.names() == ["abbey", "east", "harbour", "north", "south", "west"]


def test_a_set_that_is_again_the_one_in_force_keeps_its_epoch() -> None:
    council = five()
    out = council.proposed(SetRole("west", "observer"), "north")
    for member in ("east", "south"):
        council.vote(out, member)
    before = council.validators
    leave = council.voting(out, "harbour")
    back = council.proposing(SetRole("west", "validator"), "north")
    votes = [council.voting(derived_id(back.id), member) for member in ("east", "south")]

    outcomes = council.order(leave, back, *votes)

    assert [outcome.code for outcome in outcomes] == ["ok"] * 4
    assert council.validators == before


def five() -> Council:
    """A council of five, harbour the newest; its quorum is four."""
    council = Council()
    council.admit("harbour")
    council.decide(SetRole("harbour", "validator"), "east", "north", "south")
    return council


def test_a_proposal_is_rejected_once_the_others_are_no_quorum() -> None:
    council = five()
    proposal = council.proposed(Remove("west"))
    council.vote(proposal, "west", approve=False)

    outcome = council.vote(proposal, "south", approve=False)

    assert outcome.events[-1] == ProposalEnded(proposal, "rejected")
    assert council.entry(proposal).ending == "rejected"
    assert council.entry(proposal).ended_ms == council.time_ms
    assert load_proposals(council.ledger.state).open == ()
    assert council.vote(proposal, "east").code == "proposal.closed"


def test_votes_of_members_that_left_do_not_count_and_those_of_who_stays_may_be_enough() -> None:
    council = five()
    council.admit("abbey")
    council.decide_by_quorum(SetRole("abbey", "validator"))
    waiting = council.proposed(card("meadow"), "harbour")
    for member in ("east", "north"):
        council.vote(waiting, member)
    lost = council.proposed(card("lake"), "abbey")
    council.vote(lost, "harbour")
    leave = council.proposed(Remove("abbey"), "east")
    for member in ("north", "south"):
        council.vote(leave, member)
    council.vote(waiting, "abbey", approve=False)

    outcome = council.vote(leave, "west")

    assert council.validators.quorum == 4
    assert outcome.events[1] == ProposalEnded(leave, "accepted")
    assert council.entry(waiting).ending is None
    assert council.vote(lost, "east").code == "ok"
    assert council.vote(lost, "north").code == "ok"
    assert council.entry(lost).ending is None
    assert council.vote(lost, "south").events[1] == ProposalEnded(lost, "accepted")
    assert council.vote(waiting, "south").events[1] == ProposalEnded(waiting, "accepted")


def test_a_smaller_set_decides_what_a_larger_had_not_in_the_call_that_makes_it_smaller() -> None:
    council = Council()
    for name in ("abbey", "harbour", "lake"):
        council.admit(name)
    for name in ("abbey", "harbour", "lake"):
        council.decide_by_quorum(SetRole(name, "validator"))
    assert council.validators.quorum == 5
    waiting = council.proposed(card("meadow"), "north")
    for member in ("east", "south", "west"):
        council.vote(waiting, member)
    leave = council.decide(Remove("lake"), "abbey", "harbour", "north", "east")

    outcome = council.vote(leave, "south")

    assert [event for event in outcome.events if isinstance(event, ProposalEnded)] == [
        ProposalEnded(leave, "accepted"),
        ProposalEnded(waiting, "accepted"),
    ]
    assert load_member(council.ledger.state, "meadow") is not None


def test_a_proposal_that_is_not_decided_in_time_ends() -> None:
    council = Council()
    proposal = council.proposed(HARBOUR)
    council.vote(proposal, "south")
    council.wait(PROPOSAL_MS // 1000)

    late = council.vote(proposal, "east")
    again = council.propose(HARBOUR)

    assert late.code == "proposal.closed"
    assert again.code == "ok"
    assert again.events[1:] == (ProposalEnded(proposal, "expired"),)
    assert council.entry(proposal).ending == "expired"


def test_a_proposal_ends_when_its_ground_has_gone() -> None:
    council = five()
    one, other = council.proposed(Remove("west"), "north"), council.proposed(Remove("south"), "east")
    for member in ("east", "south"):
        council.vote(one, member)

    outcome = council.vote(one, "harbour")

    assert outcome.events[-1] == ProposalEnded(other, "overtaken")
    assert council.entry(other).ending == "overtaken"
    assert council.names() == ["east", "harbour", "north", "south"]


def test_a_card_whose_key_a_person_took_meanwhile_is_not_admitted() -> None:
    council = Council()
    proposal = council.proposed(card("harbour", node_key=Actor("pat").key))
    council.vote(proposal, "south")
    council.register(Actor("pat"), "north")

    outcome = council.vote(proposal, "east")

    assert outcome.events[-1] == ProposalEnded(proposal, "overtaken")
    assert load_member(council.ledger.state, "harbour") is None
