"""Against a primary that orders and yet leaves something out: the block timer sees nothing of that.

A complaint alone costs its sender nothing and moves nobody, so that an error of one host, or f liars, change no view.
Of f + 1 who complain one is honest, and so all who hear them leave the view.
"""

from consensus.pbft.assistance import ask_about
from consensus.pbft.messages import Complaint
from consensus.pbft.state import State
from consensus.pbft.views import leave


def complain(state: State) -> None:
    """Say that our host has found the primary negligent."""
    if state.members.position is None or state.is_primary or not state.entered or not state.may_vote:
        return
    state.broadcast(Complaint(state.members.epoch, state.view, state.height))
    _count(state, state.members.position)


def on_complaint(state: State, position: int, message: Complaint) -> None:
    """Count a complaint, if it is about the primary of now; who complains goes on to do so while that lasts."""
    if message.epoch != state.members.epoch:
        return
    if message.view > state.view:
        ask_about(state, position)
    elif message.view == state.view and state.members.primary(message.view, message.height) == state.primary:
        _count(state, position)


def _count(state: State, position: int) -> None:
    state.complaints.add(position)
    if len(state.complaints) > state.members.faults_tolerated and state.entered and state.may_vote:
        leave(state, state.view + 1)
