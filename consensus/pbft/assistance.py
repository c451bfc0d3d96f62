"""What we tell others about where we are, and what we send to one who is behind."""

from consensus.pbft.messages import NO_SIGNATURE, Ask, Message, Proposal, Status
from consensus.pbft.state import State
from storage.schema.block import ZERO_DIGEST, VoteType


def status(state: State, ask: Ask) -> Status:
    """Return a signed STATUS: where we stand, and who should answer."""
    members, block = state.members, state.slot.block
    assert members.position is not None, "an observer has no place to tell"
    digest = ZERO_DIGEST if block is None else block.digest
    place = (state.view, state.entered, state.head.height, state.head.certificate, digest, ask)
    unsigned = Status(members.epoch, members.position, *place, NO_SIGNATURE)
    return Status(members.epoch, members.position, *place, members.sign(unsigned.preimage(members.chain_id)))


def ask_about(state: State, position: int) -> None:
    """Ask one validator for help, because it seems to be ahead of us; at most once a second each."""
    if state.members.position is not None and state.may_ask(position):
        state.send(position, status(state, Ask.HELPERS))


def votes_in_flight(state: State, proposal_held: bytes = ZERO_DIGEST) -> list[Message]:
    """Return what we have promised about the height in flight in this view, to be sent again, byte for byte.

    The proposal is left out for who holds the block of the digest ``proposal_held``.
    """
    messages: list[Message] = []
    own = state.own_vote(VoteType.PREPARE)
    if own is not None and own.kind is VoteType.PREPARE:
        messages.append(own)
    if own is not None and own.kind is VoteType.PROPOSAL and own.digest != proposal_held:
        block = state.slot.blocks.get(own.digest)
        if block is not None:
            messages.append(Proposal(own.view, block.header, block.leaves, block.bodies, own.signature))
    commit = state.own_vote(VoteType.COMMIT)
    if commit is not None:
        messages.append(commit)
    return messages


def help_along(state: State, position: int, view: int, entered: bool, proposal: bytes) -> None:
    """Send a validator at our height, whose view is not above ours, what it lacks to be where we are."""
    assert view <= state.view, "who is ahead needs no help"
    if not state.may_vote:
        return
    after = state.last_token()
    if view == state.view and entered and state.entered:
        for message in votes_in_flight(state, proposal):
            state.send(position, message, after)
    elif not state.entered:
        assert state.members.position is not None, "an observer changes no view"
        state.send(position, state.changes[state.members.position], after)
    elif state.new_view is not None:
        state.send(position, state.new_view, after)
    else:
        # Where a certificate of this view has opened it for us, it opens it for others too.
        state.send(position, status(state, Ask.NOBODY))
