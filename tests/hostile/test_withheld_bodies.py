"""A primary that shows a block and keeps its transactions, and a member that asks for more than there is."""

import threading

import pytest

from consensus.pbft.messages import Vote
from node.network.limits import MIB
from node.replication.wire import BODIES_SERVICE, LEAVES_MAX
from storage.schema.block import VoteType
from storage.schema.calls import Grant
from storage.schema.codec import encode
from storage.schema.transaction import envelope_leaf
from tests.support.hostile_network import HONEST, frozen
from tests.support.hostile_validator import HostileValidator, Made
from tests.support.raw_calls import caller, committed, harmless, id_of, provision, refusal_of
from tests.support.running_network import until

pytestmark = pytest.mark.cluster


def spoilt(bad: HostileValidator, view: int) -> Made:
    """A block for which nobody votes, so that who is given it asks for the next view at once."""
    envelope = bytearray(harmless(bad.network))
    envelope[-1] ^= 1
    return bad.block(bytes(envelope), view=view)


def test_bodies_that_come_when_the_next_views_block_is_voted_on_change_nothing(bad: HostileValidator) -> None:
    network, member = bad.network, bad.member
    asked, released = threading.Event(), threading.Event()
    view = bad.take_turn()
    made, envelope = bad.block(harmless(network), view=view), harmless(network)

    def answer_late(_peer: str, _payload: bytes) -> bytes:
        asked.set()
        assert released.wait(30)
        return encode(made.envelopes)

    member.answers[BODIES_SERVICE] = answer_late
    member.tell(bad.proposal(made, b""), "east")
    assert asked.wait(30)
    member.tell(bad.proposal(spoilt(bad, view)), "north", "west")
    until(lambda: all(network.status(name)["view"] == view + 1 for name in HONEST))
    with frozen(network, "north"):
        assert refusal_of(network, "west", envelope) == ""
        until(lambda: any(peer == "east" and is_prepare(message, view + 1) for peer, message in member.heard))
        released.set()
        # What is said to a peer comes in order: when this is answered, the bodies are there.
        until(lambda: member.answered[BODIES_SERVICE])
        member.ask("east", BODIES_SERVICE, encode(()))

    assert committed(network, "east", id_of(envelope)).header.height == made.header.height
    until(lambda: network.is_level(*HONEST))


def is_prepare(message: object, view: int) -> bool:
    return isinstance(message, Vote) and message.kind is VoteType.PREPARE and message.view == view


def large(bad: HostileValidator) -> bytes:
    """A good transaction of almost the greatest size."""
    nested = tuple(provision(records=(bytes(32),) * 64) for _ in range(5))
    return caller(bad.network, "pia", "north").call("consent.grant", Grant(provision(provisions=nested), None))


def test_who_asks_for_one_body_as_often_as_it_may_gets_it_once(bad: HostileValidator) -> None:
    bad.take_turn()
    envelope = large(bad)
    assert len(envelope) * LEAVES_MAX > 8 * MIB

    # While it is this member's turn, it waits.
    assert refusal_of(bad.network, "north", envelope) == ""
    answer = bad.member.ask("north", BODIES_SERVICE, encode((envelope_leaf(envelope),) * LEAVES_MAX))

    assert answer == encode((envelope,))
    assert committed(bad.network, "north", id_of(envelope)).transaction.envelope == envelope


def test_a_body_that_nobody_holds_is_not_given(bad: HostileValidator) -> None:
    assert bad.member.ask("west", BODIES_SERVICE, encode((bytes(32),))) == encode(())
