"""The engine: one event in, the effects of the rules out (docs/spec/pbft.md)."""

from collections.abc import Mapping

from consensus.engine import (
    Advanced,
    Checked,
    Drafted,
    Effect,
    Event,
    Executed,
    Fault,
    LaterEpoch,
    Neglected,
    PeerConnected,
    Received,
    Recovered,
    TimerFired,
    ViewEntered,
    WorkWaiting,
)
from consensus.pbft import complaints, recovery, views, voting, watch
from consensus.pbft.ballots import HEIGHTS_HELD
from consensus.pbft.membership import Membership
from consensus.pbft.messages import (
    MESSAGE,
    Answer,
    Complaint,
    Hello,
    Message,
    NewView,
    Proposal,
    Status,
    ViewChange,
    Vote,
    epoch_of,
    proposal_vote,
)
from consensus.pbft.state import Head, State
from consensus.signer import Signer
from storage.schema.block import ZERO_DIGEST, VoteType
from storage.schema.codec import DecodeError
from storage.schema.validators import ValidatorSet


class Pbft:
    """One replica of PBFT, or an observer; see :class:`consensus.engine.Engine`."""

    def __init__(
        self,
        name: str,
        chain_id: bytes,
        validators: ValidatorSet,
        signer: Signer,
        *,
        rotation_blocks: int = 64,
        handover_height: int = 0,
        is_seated: bool = True,
    ) -> None:
        """Make the replica of a member, or of an observer that is none of the validators.

        ``rotation_blocks`` is the chain's parameter of that name; at ``handover_height`` these validators took over.
        ``is_seated`` is whether the set, if it names this member, names the key that ``signer`` signs with.
        """
        self._members = Membership(
            name, chain_id, validators, signer, rotation_blocks, handover_height, is_seated=is_seated
        )
        self._state: State | None = None
        self._heights: dict[str, int] = {}

    @property
    def state(self) -> State:
        """What the replica knows, to look at."""
        assert self._state is not None, "start comes before everything else"
        return self._state

    @property
    def view(self) -> int:
        """The view that this replica is in, or waits for."""
        return self.state.view

    @property
    def primary(self) -> str:
        """The member that proposes in this view at the next height."""
        return self._members.names[self.state.primary]

    @property
    def may_vote(self) -> bool:
        """Whether this replica is past the wait of its start and has not halted."""
        return self.state.may_vote

    @property
    def heights(self) -> Mapping[str, int]:
        """What each other validator says that it has committed, as far as it was heard; for people to look at."""
        return self._heights

    def start(self, now_ms: int, recovered: Recovered, start_number: bytes) -> tuple[Effect, ...]:
        """Take up where the disk says we were."""
        assert self._state is None, "a replica starts once"
        header, certificate = recovered.header, recovered.certificate
        is_own = certificate is not None and certificate.epoch == self._members.epoch
        head = Head(header.height, header.digest(), recovered.result, certificate if is_own else None)
        self._state = state = State(self._members, head, now_ms)
        recovery.restore(state, recovered)
        state.effects.append(ViewEntered(state.view, self.primary))
        recovery.greet(state, start_number)
        return self._settle()

    def step(self, now_ms: int, event: Event) -> tuple[Effect, ...]:
        """Take one event and return what the host must do, in order."""
        self.state.now_ms = now_ms
        match event:
            case Received(peer, data):
                self._on_received(peer, data)
            case TimerFired(name):
                watch.on_timer(self.state, name)
            case WorkWaiting(waiting):
                self.state.work_waiting = waiting
            case Neglected(primary):
                if primary == self.primary:
                    complaints.complain(self.state)
            case Drafted():
                voting.on_drafted(self.state, event)
            case Checked(digest, refusal):
                voting.on_checked(self.state, digest, refusal)
            case Executed(digest, result):
                voting.on_executed(self.state, digest, result)
            case Advanced():
                recovery.on_advanced(self.state, event)
            case PeerConnected(peer):
                position = self._members.positions.get(peer)
                if position is not None and position != self._members.position:
                    recovery.on_peer_connected(self.state, position)
        return self._settle()

    def _settle(self) -> tuple[Effect, ...]:
        """Do what follows from what has changed, and hand out all effects."""
        state = self.state
        voting.advance(state)
        for forger in state.ballots.forgers:
            state.fault(forger, "a vote with a bad signature")
        state.ballots.forgers.clear()
        watch.mind(state)
        effects = tuple(state.effects)
        state.effects.clear()
        return effects

    def _on_received(self, peer: str, data: bytes) -> None:
        position = self._members.positions.get(peer)
        try:
            message = MESSAGE.decode(data)
        except DecodeError as error:
            self.state.effects.append(Fault(peer, f"a message that does not decode: {error.code}"))
            return
        epoch = epoch_of(message)
        if epoch is not None and epoch != self._members.epoch:
            # Who lags is honest, and may be no validator any more; who is ahead may be one that is not known here yet.
            if epoch > self._members.epoch:
                self.state.effects.append(LaterEpoch(peer))
        elif position is None or position == self._members.position:
            if epoch is not None:  # An ANSWER may come late, from one who has ceased to validate.
                self.state.effects.append(Fault(peer, "a message from one who is no other validator"))
        else:
            self.state.heard.add(position)
            self._dispatch(position, message)

    def _dispatch(self, position: int, message: Message) -> None:
        state = self.state
        match message:
            case Vote():
                self._note_height(position, message.height - 1)
                self._on_vote(position, message)
            case Proposal():
                self._on_proposal(position, message)
            case Status():
                self._note_height(position, message.height)
                recovery.on_status(state, position, message)
            case ViewChange():
                views.on_view_change(state, position, message)
            case NewView():
                views.on_new_view(state, position, message)
            case Hello():
                recovery.on_hello(state, position, message)
            case Answer():
                recovery.on_answer(state, position, message)
            case Complaint():
                complaints.on_complaint(state, position, message)

    def _note_height(self, position: int, height: int) -> None:
        name = self._members.names[position]
        self._heights[name] = max(height, self._heights.get(name, 0))

    def _on_vote(self, position: int, vote: Vote) -> None:
        is_commit = vote.kind is VoteType.COMMIT
        primary = self._members.primary(vote.view, vote.height)
        if vote.signer != position or (vote.result != ZERO_DIGEST) != is_commit:
            self.state.fault(position, "a vote of another member, or with a result where none stands")
        elif not is_commit and (vote.kind is VoteType.PROPOSAL or position == primary):
            self.state.fault(position, "a PREPARE of the primary, or a PROPOSAL without its block")
        else:
            self._hold(vote)

    def _hold(self, vote: Vote) -> None:
        contradicted = self.state.ballots.add(vote)
        if contradicted is not None:
            views.accuse(self.state, contradicted, vote)
        views.note_ahead(self.state, vote.signer, vote.view, vote.height)

    def _on_proposal(self, position: int, proposal: Proposal) -> None:
        state, header = self.state, proposal.header
        if position != self._members.primary(proposal.view, header.height):
            state.fault(position, "a PROPOSAL from a member that is not its primary")
            return
        digest = header.digest()
        key = (header.height, position)
        held = state.proposals.get(key)
        is_newer = held is None or held[0].view < proposal.view
        if is_newer and proposal.view >= state.view and 0 <= header.height - state.height < HEIGHTS_HELD:
            state.proposals[key] = (proposal, digest)
        self._hold(proposal_vote(proposal, digest, position))
