"""What happens when nothing happens: the timers of a replica.

Before a replica gives up a view it asks whether the others live, and waits as long again. One that is cut off, or was
asleep, hears no quorum and stays: leaving a view binds it not to vote there, so that it would come back useless. One
that learns of a commit fetches it instead.
"""

from consensus.pbft.assistance import status
from consensus.pbft.messages import Ask
from consensus.pbft.recovery import say_hello
from consensus.pbft.state import State
from consensus.pbft.timers import BLOCK, HELLO, NEW_VIEW, RESEND, STATUS
from consensus.pbft.views import announce, leave

STATUS_BUSY_MS = 1_000
STATUS_IDLE_MS = 5_000


def mind(state: State) -> None:
    """Let the timers run that have something to wait for; called when an event has been dealt with."""
    timers = state.timers
    if state.members.position is None:
        return
    if not (state.entered and state.is_busy):
        timers.clear(BLOCK)
    elif not timers.is_set(BLOCK):
        state.asked = False
        timers.set(BLOCK, state.now_ms + state.patience.timeout_ms() // 2)
    timers.set_no_later(STATUS, state.now_ms + status_interval_ms(state))


def status_interval_ms(state: State) -> int:
    """Return how often a STATUS is due: seldom while there is nothing to do and nothing wrong."""
    calm = state.entered and state.may_vote and not state.is_busy and not state.is_behind
    return STATUS_IDLE_MS if calm else STATUS_BUSY_MS


def on_timer(state: State, name: str) -> None:
    """Do what a timer was set for, if it is due and still called for."""
    if not state.timers.is_due(name, state.now_ms):
        return
    if name == STATUS:
        report(state)
    elif name == HELLO and not state.started and not state.halted:
        say_hello(state)
    elif name == BLOCK and state.entered and state.is_busy:
        lose_patience(state)
    elif name == NEW_VIEW and not state.entered and state.may_vote:
        leave(state, state.view + 1)
    elif name == RESEND and not state.entered and state.may_vote:
        announce(state)


def lose_patience(state: State) -> None:
    """Give up the view, if others were heard since we asked and none of them has come farther; else ask."""
    if state.asked and not state.is_behind and len(state.heard) >= state.members.quorum - 1:
        leave(state, state.view + 1)
        return
    state.asked = True
    state.heard.clear()
    state.broadcast(status(state, Ask.EVERYBODY))
    state.timers.set(BLOCK, state.now_ms + state.patience.timeout_ms() // 2)


def report(state: State) -> None:
    """Tell everybody where we stand, unless blocks flow, which says it too; fetch what we know to lack."""
    if not state.progressed:
        state.broadcast(status(state, Ask.HELPERS))
        if state.is_behind:
            state.catch_up(again=True)
    state.progressed = False
