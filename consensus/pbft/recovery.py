"""Coming back: what the vote log says, the wait before the first vote, and how those who lag are found and helped.

A disk can be restored from an old copy without anyone's knowledge. So a replica that starts asks the others for the
newest statements of its own key, and votes only when a quorum less itself has answered (protocol, "Agreement").
"""

from consensus.engine import Advanced, Recovered
from consensus.pbft.assistance import ask_about, help_along, status, votes_in_flight
from consensus.pbft.messages import Answer, Ask, Hello, Prepared, Status
from consensus.pbft.records import RECORD, HaltRecord, PreparedRecord, Record, ViewRecord, VoteRecord
from consensus.pbft.slot import Block
from consensus.pbft.state import FORGETFUL, State
from consensus.pbft.timers import HELLO
from consensus.pbft.views import announce, enter_proven, learn, recognise
from consensus.pbft.voting import arrive
from storage.schema.block import VoteType
from storage.schema.codec import DecodeError

HELLO_INTERVAL_MS = 1_000
AHEAD = "the vote log is ahead of the ledger: the ledger was restored from an older copy"


def restore(state: State, recovered: Recovered) -> None:
    """Take up the promises of the vote log. What it holds of committed heights is spent."""
    if not recovered.log_whole:
        state.halt(
            "the vote log was lost or damaged, so what this node has promised is unknown. It only follows from now "
            "on; to vote again it needs a new node key, appointed by the organisation key"
        )
        return
    if recovered.log_height > recovered.header.height:
        state.halt(
            f"the ledger was set back to block {recovered.header.height}, and the vote log knows of block "
            f"{recovered.log_height}. This node only follows until it has caught up with that, and then votes again"
        )
        return
    try:
        records = [RECORD.decode(record) for record in recovered.records]
    except DecodeError as error:
        state.halt(f"the vote log holds a record that this version does not understand: {error}")
        return
    for record in records:
        _restore_record(state, record)
    own = state.own_vote(VoteType.PREPARE)
    state.slot.forget_proposals(None if own is None else own.digest)
    if state.head.certificate is not None:
        enter_proven(state, state.head.certificate)


def _restore_record(state: State, record: Record) -> None:
    slot = state.slot
    epoch = _epoch_of(record)
    if epoch is not None and epoch != state.members.epoch:
        # What was promised in an epoch that is over is spent with it.
        if epoch > state.members.epoch:
            state.halt(AHEAD)
        return
    if isinstance(record, ViewRecord):
        state.view, state.entered = record.view, record.entered
        state.base, state.selected, state.new_view = record.base, record.selected, record.new_view
        return
    if isinstance(record, HaltRecord):
        state.halt(FORGETFUL)
        return
    height = record.vote.height if isinstance(record, VoteRecord) else record.certificate.height
    if height > state.height:
        state.halt(AHEAD)
    if height != state.height:
        return
    if isinstance(record, VoteRecord):
        vote = record.vote
        state.votes[(vote.kind is VoteType.COMMIT, vote.view, vote.height)] = vote
        state.ballots.add(vote, verified=True)
        if record.header is not None:
            slot.blocks[vote.digest] = Block(record.header, vote.digest, record.leaves, b"")
            slot.bodies_logged.add(vote.digest)
    elif isinstance(record, PreparedRecord):
        digest = record.certificate.digest
        slot.prepared = Prepared(record.certificate, record.header)
        slot.prepared_logged = True
        slot.bodies_logged.add(digest)
        slot.blocks.setdefault(digest, Block(record.header, digest, record.leaves, b""))


def _epoch_of(record: Record) -> int | None:
    match record:
        case VoteRecord(vote, _, _):
            return vote.epoch
        case PreparedRecord(certificate, _, _):
            return certificate.epoch
        case ViewRecord():
            return record.epoch
    return None


def greet(state: State, start_number: bytes) -> None:
    """Begin the wait of the start; alone, a replica has nobody to wait for."""
    state.start_number = start_number
    if state.members.position is None or state.halted:
        return
    if state.members.quorum == 1:
        state.started = True
    else:
        say_hello(state)


def say_hello(state: State) -> None:
    """Ask everybody which newest statements of our key they hold, until enough have said so."""
    state.broadcast(Hello(state.members.epoch, state.start_number))
    state.timers.set(HELLO, state.now_ms + HELLO_INTERVAL_MS)


def on_hello(state: State, position: int, message: Hello) -> None:
    """Tell one who starts what we hold of its key, and where we are."""
    change = state.changes.get(position)
    state.send(
        position, Answer(message.start, state.ballots.newest(position), None if change is None else change.signed)
    )
    if state.members.position is not None:
        state.send(position, status(state, Ask.NOBODY))


def on_answer(state: State, position: int, message: Answer) -> None:
    """Count an answer to our start; halt if it shows a statement of ours that our log lacks."""
    if message.start != state.start_number or state.members.position is None:
        return
    if _is_forgotten(state, message):
        state.halt_forgetful()
        return
    state.answers.add(position)
    if not state.started and not state.halted and len(state.answers) >= state.members.quorum - 1:
        state.started = True
        state.timers.clear(HELLO)
        resume(state)


def _is_forgotten(state: State, message: Answer) -> bool:
    members, vote = state.members, message.vote
    if vote is not None and vote.signer == members.position and vote.height > state.head.height:
        own = state.votes.get((vote.kind is VoteType.COMMIT, vote.view, vote.height))
        if own != vote and members.has_signed(vote.signer, vote):
            return True
    signed = message.change
    if signed is not None and signed.change.signer == members.position and signed.change.view > state.view:
        return members.has_signed(signed.change.signer, signed)
    return False


def resume(state: State) -> None:
    """Say again, byte for byte, what we had promised before the start."""
    state.stirred = True
    if not state.entered:
        announce(state)
    for message in votes_in_flight(state):
        state.broadcast(message)
    state.broadcast(status(state, Ask.HELPERS))


def on_status(state: State, position: int, message: Status) -> None:
    """Learn from one who is ahead, help one who is behind."""
    certificate = message.certificate
    if message.signer != position or not state.members.has_signed(position, message):
        state.fault(position, "a STATUS that its sender did not sign")
        return
    if state.members.certified_height(certificate) != message.height:
        state.fault(position, "a STATUS without the certificate of its height")
        return
    if certificate is not None and _is_news(state, message):
        if not state.members.is_certificate(certificate, VoteType.COMMIT):
            state.fault(position, "a STATUS with a bad certificate")
            return
        learn(state, certificate, position)
    if message.view > state.view:
        ask_about(state, position)
    if message.ask is not Ask.NOBODY and state.members.position is not None:
        answer(state, position, message)


def _is_news(state: State, message: Status) -> bool:
    assert message.certificate is not None
    view = message.certificate.view
    is_later_view = view > state.view or (view == state.view and not state.entered)
    return message.height > state.head.height or (message.height == state.head.height and is_later_view)


def answer(state: State, position: int, message: Status) -> None:
    """Help the sender of a STATUS if it is behind, or tell it where we are if it wants to know that we live."""
    if message.height < state.head.height or message.ask is Ask.EVERYBODY:
        state.send(position, status(state, Ask.NOBODY))
    if message.height == state.head.height and message.view <= state.view:
        help_along(state, position, message.view, message.entered, message.proposal)


def on_advanced(state: State, event: Advanced) -> None:
    """Stand where the host has come by catching up."""
    certificate = event.certificate
    assert certificate.height == event.header.height, "a certificate is of the block that it comes with"
    if certificate.height > state.head.height:
        recognise(state, certificate, VoteType.COMMIT)
        arrive(state, certificate)


def on_peer_connected(state: State, position: int) -> None:
    """Tell a member that is there again what it may have missed."""
    if state.members.position is None:
        return
    if not state.started and not state.halted and position not in state.answers:
        state.send(position, Hello(state.members.epoch, state.start_number))
    state.send(position, status(state, Ask.HELPERS))
    own = state.changes.get(state.members.position)
    if not state.entered and state.may_vote and own is not None:
        state.send(position, own, after=state.last_token())
