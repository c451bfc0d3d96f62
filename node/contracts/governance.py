"""Governance: members propose, and the validators of now decide by their quorum who belongs to the network.

A decision falls, and is carried out, in the call by which the approvals reach the quorum: a vote, or a change of the
set that leaves fewer to ask. So after every call each open proposal is looked at again.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import MemberEntry, load_validators, members_key, validators_key
from node.contracts.membership import carry_out, check_change, check_sound, member_state
from node.contracts.overlay import Overlay
from node.contracts.people import acting_organisation
from node.contracts.proposals import (
    OPEN_MAX,
    OPEN_PER_MEMBER_MAX,
    Ballot,
    ProposalEntry,
    Proposals,
    load_proposal,
    load_proposals,
    proposal_key,
    proposals_key,
)
from storage.schema.calls import Admit, Propose, VoteOn
from storage.schema.codec import encode
from storage.schema.events import Ending, Event, ProposalEnded, ProposalMade, ProposalVoted
from storage.schema.genesis import Genesis
from storage.schema.transaction import derived_id
from storage.schema.validators import ValidatorSet

PROPOSAL_MS = 14 * 24 * 3600 * 1000
# An outcome has 8 KiB, and an ending up to 200 bytes of events.
ENDINGS_MAX = 16


def genesis_state(genesis: Genesis) -> dict[bytes, bytes]:
    """Return the state of height 0: the founders, and whose each of their keys is; sorted by key."""
    state = {
        members_key(): encode(tuple(member.name for member in genesis.body.members)),
        validators_key(): encode(genesis.validators),
    }
    for member in genesis.body.members:
        state |= member_state(
            MemberEntry(
                member.name,
                member.organisation_key,
                member.node_key,
                member.service_key,
                member.encryption_key,
                member.addresses,
                member.roles,
                None,
            )
        )
    return dict(sorted(state.items()))


def propose(call: Call, state: StateReader) -> Changes:
    """Propose a change of the members; the proposer's own approval is counted at once."""
    arguments: Propose = call.arguments
    member = _voter(call, state)
    if isinstance(arguments.change, Admit):
        check_sound(arguments.change, "change.")
    check_change(arguments.change, state)
    standing = [entry for _, entry in _open(state) if entry.until_ms >= call.time_ms]
    if any(entry.change == arguments.change for entry in standing):
        raise ContractError("proposal.already_open", "change", "the same change is proposed already")
    own = sum(entry.member == member.name for entry in standing)
    if own >= OPEN_PER_MEMBER_MAX or len(standing) >= OPEN_MAX:
        limit = f"at most {OPEN_PER_MEMBER_MAX} of one member and {OPEN_MAX} of all may be open"
        raise ContractError("proposal.too_many", "change", limit)
    listed, proposal = load_proposals(state), derived_id(call.tx_id)
    entry = ProposalEntry(
        member.name,
        arguments.change,
        arguments.evidence,
        call.height,
        call.time_ms,
        call.time_ms + PROPOSAL_MS,
        (Ballot(member.name, True),),
        None,
        None,
        listed.newest,
    )
    draft = Overlay(state)
    draft.apply({proposal_key(proposal): encode(entry)})
    draft.apply({proposals_key(): encode(Proposals(proposal, (*listed.open, proposal)))})
    return _settled(draft, call, ProposalMade(proposal, member.name, arguments.change.kind, arguments.change.name))


def vote(call: Call, state: StateReader) -> Changes:
    """Approve or reject an open proposal; each member that validates now has one vote, and may not change it."""
    arguments: VoteOn = call.arguments
    member = _voter(call, state)
    entry = load_proposal(state, arguments.proposal)
    if entry is None:
        raise ContractError("proposal.not_found", "proposal", "the ledger holds no such proposal")
    if entry.ending is not None or entry.until_ms < call.time_ms:
        raise ContractError("proposal.closed", "proposal", f"it ended: {entry.ending or 'expired'}")
    if any(ballot.member == member.name for ballot in entry.ballots):
        raise ContractError("proposal.already_voted", "proposal", "a vote may not be changed")
    draft = Overlay(state)
    voted = replace(entry, ballots=(*entry.ballots, Ballot(member.name, arguments.approve)))
    draft.apply({proposal_key(arguments.proposal): encode(voted)})
    return _settled(draft, call, ProposalVoted(arguments.proposal, member.name, arguments.approve))


def _voter(call: Call, state: StateReader) -> MemberEntry:
    member = acting_organisation(call, state)
    if load_validators(state).position(member.name) is None:
        raise ContractError("network.not_validator", "signers", "only members that validate now decide")
    return member


def _open(state: StateReader) -> Iterator[tuple[bytes, ProposalEntry]]:
    for proposal in load_proposals(state).open:
        entry = load_proposal(state, proposal)
        assert entry is not None, "what is listed as open stands"
        yield proposal, entry


def _settled(draft: Overlay, call: Call, *told: Event) -> Changes:
    """End what has ended and carry out what is decided: each change may decide, or undo, another proposal."""
    events = list(told)
    for _ in range(ENDINGS_MAX):
        ended = _next_ending(draft, call)
        if ended is None:
            break
        proposal, entry, ending = ended
        draft.apply({proposal_key(proposal): encode(replace(entry, ending=ending, ended_ms=call.time_ms))})
        listed = load_proposals(draft)
        still_open = tuple(other for other in listed.open if other != proposal)
        draft.apply({proposals_key(): encode(Proposals(listed.newest, still_open))})
        events.append(ProposalEnded(proposal, ending))
        if ending == "accepted":
            done = carry_out(entry.change, call, draft)
            draft.apply(done.writes)
            events += done.events
    return Changes(draft.writes(), tuple(events))


def _next_ending(draft: Overlay, call: Call) -> tuple[bytes, ProposalEntry, Ending] | None:
    """Find what is decided, or else the first that has ended otherwise: a decision never waits behind those."""
    first: tuple[bytes, ProposalEntry, Ending] | None = None
    validators = load_validators(draft)
    for proposal, entry in _open(draft):
        ending = _ending(entry, validators, call, draft)
        if ending == "accepted":
            return proposal, entry, ending
        if ending is not None and first is None:
            first = (proposal, entry, ending)
    return first


def _ending(entry: ProposalEntry, validators: ValidatorSet, call: Call, state: StateReader) -> Ending | None:
    if entry.until_ms < call.time_ms:
        return "expired"
    if not _is_possible(entry, state):
        return "overtaken"
    voters = frozenset(validator.name for validator in validators.validators)
    if entry.supporters(voters) >= validators.quorum:
        return "accepted"
    return "rejected" if len(voters) - entry.opponents(voters) < validators.quorum else None


def _is_possible(entry: ProposalEntry, state: StateReader) -> bool:
    try:
        check_change(entry.change, state)
    except ContractError:
        return False
    return True
