"""Leaving a view and entering the next: VIEW-CHANGE, NEW-VIEW, and views that a certificate proves.

A view only grows. Once a replica has asked for a later view it votes in no earlier one again, in this life or after
a restart; it still takes commit certificates of any view.
"""

from dataclasses import replace

from consensus.engine import Accuse, ViewEntered
from consensus.pbft.assistance import ask_about, help_along
from consensus.pbft.messages import NO_SIGNATURE, Change, NewView, SignedChange, ViewChange, Vote
from consensus.pbft.selection import change_objection, new_view_objection, select, selected_digest
from consensus.pbft.state import State
from consensus.pbft.timers import BLOCK, NEW_VIEW, RESEND
from storage.schema.block import ZERO_DIGEST, Certificate, VoteType, transactions_root
from storage.schema.codec import encode


def leave(state: State, view: int) -> None:
    """Give up the current view and ask for a later one, with everything that was prepared."""
    assert state.may_vote, "a VIEW-CHANGE is a promise"
    assert view > state.view, "views only grow"
    state.view, state.entered, state.new_view = view, False, None
    state.complaints.clear()
    state.patience.failed += 1
    state.slot.forget_proposals()
    prepared = state.slot.prepared
    bodies_of = None if prepared is None else prepared.certificate.digest
    state.persist(*state.prepared_records(), state.view_record(), bodies_of=bodies_of)
    state.timers.clear(BLOCK)
    state.timers.clear(NEW_VIEW)
    announce(state)


def announce(state: State) -> None:
    """Send our VIEW-CHANGE, as it is now, to everybody, and again after half the timeout."""
    state.broadcast(own_change(state), after=state.last_token())
    state.timers.set(RESEND, state.now_ms + state.patience.timeout_ms() // 2)


def own_change(state: State) -> ViewChange:
    """Return our VIEW-CHANGE into the view that we wait for, made anew when a block was committed since."""
    assert state.may_vote, "a VIEW-CHANGE is a promise"
    assert not state.entered, "a view that was entered is asked for no more"
    members, head, prepared = state.members, state.head, state.slot.prepared
    assert members.position is not None, "an observer changes no view"
    change = Change(members.epoch, members.position, state.view, head.height, head.certificate, prepared)
    held = state.changes.get(members.position)
    if held is None or held.signed.change != change:
        preimage = SignedChange(change, NO_SIGNATURE).preimage(members.chain_id)
        leaves = () if prepared is None else state.slot.blocks[prepared.certificate.digest].leaves
        held = ViewChange(SignedChange(change, members.sign(preimage)), leaves)
        state.changes[members.position] = held
        state.stirred = True
    return held


def enter(state: State, view: int, base: int, selected: bytes, new_view: NewView | None) -> None:
    """Take part in a view that a NEW-VIEW, or a commit certificate of this view, has opened."""
    state.view, state.entered, state.new_view = view, True, new_view
    state.base, state.selected = base, selected
    state.complaints.clear()
    state.slot.forget_proposals()
    state.stirred = True
    state.asked = False
    for timer in (BLOCK, NEW_VIEW, RESEND):
        state.timers.clear(timer)
    state.effects.append(ViewEntered(view, state.members.names[state.primary]))


def enter_proven(state: State, certificate: Certificate) -> bool:
    """Enter the view of our head's certificate, if it is ahead of us; True if so. The caller logs it.

    That a block was committed in a view means that this view allowed it: whatever an earlier view had committed at
    the next height would have made every NEW-VIEW of this view start above the block.
    """
    assert certificate.height == state.head.height
    if certificate.view < state.view or (certificate.view == state.view and state.entered):
        return False
    # Of two certificates of the head, the later shows others the way too.
    state.head = replace(state.head, certificate=certificate)
    enter(state, certificate.view, certificate.height, ZERO_DIGEST, None)
    return True


def recognise(state: State, certificate: Certificate, kind: VoteType) -> None:
    """Look whose votes a certificate that holds shows: ours that our log lacks, or another's that we know otherwise."""
    state.recognise(certificate, kind)
    for held, shown in state.ballots.contradicted(certificate, kind):
        accuse(state, held, shown)


def learn(state: State, certificate: Certificate, witness: int) -> None:
    """Use a commit certificate that holds, shown by a validator: to commit, to catch up, or to enter its view."""
    recognise(state, certificate, VoteType.COMMIT)
    state.witness(certificate, (witness,))
    if certificate.height > state.head.height:
        if certificate.height == state.height and state.slot.decided is None:
            state.slot.decided = certificate
        elif certificate.height > state.height:
            state.catch_up()
    elif certificate.height == state.head.height and enter_proven(state, certificate):
        state.persist(state.view_record())


def on_view_change(state: State, position: int, message: ViewChange) -> None:
    """Keep the newest change of each validator, if all in it holds; nothing else of it counts otherwise."""
    change = message.signed.change
    if change.signer != position:
        state.fault(position, "a VIEW-CHANGE of another member")
        return
    held = state.changes.get(position)
    newest = (-1, -1) if held is None else (held.signed.change.view, held.signed.change.height)
    if (change.view, change.height) > newest:
        objection = change_objection(state.members, message.signed) or _leaves_objection(message)
        if objection is not None:
            state.fault(position, objection)
            return
        state.changes[position] = message
        state.stirred = True
        _learn_from(state, message.signed)
    # Two that wait for the same view have nothing to tell each other: answering would never end.
    is_behind = change.view < state.view or (change.view == state.view and state.entered)
    if is_behind and change.height == state.head.height:
        help_along(state, position, change.view, False, ZERO_DIGEST)


def _leaves_objection(message: ViewChange) -> str | None:
    prepared = message.signed.change.prepared
    if prepared is None:
        return "a VIEW-CHANGE with leaves of no block" if message.leaves else None
    # Forged leaves beside a good certificate would make the new primary propose what nobody can check.
    if len(message.leaves) != prepared.header.tx_count or transactions_root(message.leaves) != prepared.header.tx_root:
        return "a VIEW-CHANGE with leaves that its header does not name"
    return None


def _learn_from(state: State, signed: SignedChange) -> None:
    change = signed.change
    if change.prepared is not None:
        recognise(state, change.prepared.certificate, VoteType.PREPARE)
    if change.certificate is not None:
        learn(state, change.certificate, change.signer)


def on_new_view(state: State, position: int, message: NewView) -> None:
    """Enter a view that its primary shows a quorum for; anyone may pass it on."""
    if message.view < state.view or not message.changes:
        return
    base, prepared = select(message.changes)
    # Of two quorums of one view, that which knows the higher commit binds; below our head neither says anything.
    if message.view == state.view and state.entered and (base <= state.base or base < state.head.height):
        return
    objection = new_view_objection(state.members, message, lambda signed: _is_known(state, signed))
    if objection is not None:
        state.fault(position, objection)
        return
    enter(state, message.view, base, selected_digest(prepared), message)
    state.persist(state.view_record())
    for signed in message.changes:
        _learn_from(state, signed)


def _is_known(state: State, signed: SignedChange) -> bool:
    held = state.changes.get(signed.change.signer)
    return held is not None and held.signed == signed


def reconsider(state: State) -> None:
    """Look at the changes that we hold: follow others to a later view, wait for it, or open it as its primary."""
    if not state.stirred or not state.may_vote:
        return
    state.stirred = False
    ahead = sorted(_views(state, at_least=state.view + 1), reverse=True)
    if len(ahead) > state.members.faults_tolerated:
        # One of f + 1 is honest: its reason to leave is good enough. We go as far as f + 1 have gone, and no farther:
        # the view that a single liar names moves nobody.
        leave(state, ahead[state.members.faults_tolerated])
    if state.entered:
        return
    if len(_views(state, at_least=state.view)) >= state.members.quorum and not state.timers.is_set(NEW_VIEW):
        state.timers.set(NEW_VIEW, state.now_ms + state.patience.timeout_ms())
    _open(state)


def _views(state: State, at_least: int) -> list[int]:
    views = [message.signed.change.view for message in state.changes.values()]
    return [view for view in views if view >= at_least]


def _open(state: State) -> None:
    """Open the view that we wait for, if a quorum wants it and we are its primary."""
    members = state.members
    assert members.position is not None, "an observer changes no view"
    own_change(state)
    held = [message.signed for _, message in sorted(state.changes.items())]
    changes = tuple(signed for signed in held if signed.change.view == state.view)
    if len(changes) < members.quorum:
        return
    base, prepared = select(changes)
    if members.primary(state.view, base + 1) != members.position:
        return
    unsigned = NewView(members.epoch, members.position, state.view, changes, NO_SIGNATURE)
    signature = members.sign(unsigned.preimage(members.chain_id))
    new_view = NewView(members.epoch, members.position, state.view, changes, signature)
    enter(state, state.view, base, selected_digest(prepared), new_view)
    token = state.persist(state.view_record())
    state.broadcast(new_view, after=token)


def accuse(state: State, first: Vote, second: Vote) -> None:
    """Show two votes that contradict each other; a primary that proposes two blocks loses its view."""
    if second.signer in state.slot.accused:
        return
    state.slot.accused.add(second.signer)
    state.effects.append(Accuse(state.members.names[second.signer], encode(first), encode(second)))
    in_view = state.entered and (second.view, second.height) == (state.view, state.height)
    if in_view and second.kind is VoteType.PROPOSAL and state.may_vote:
        leave(state, state.view + 1)


def note_ahead(state: State, position: int, view: int, height: int) -> None:
    """Ask a validator that votes where we are not yet."""
    if view > state.view or height > state.height + 1:
        ask_about(state, position)
