"""A validator that breaks the protocol is dropped by whoever sees it, with the reason; the others agree without it."""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, TypeGuard

import msgspec
import pytest

from consensus.pbft.messages import Message, Prepared, Proposal, SignedChange, Vote
from node.replication.wire import BODIES_SERVICE
from storage.schema.block import Certificate, VoteType
from storage.schema.codec import encode
from tests.support.hostile_network import HONEST, HOSTILE, dropped, frozen
from tests.support.hostile_validator import HostileValidator, reign_of
from tests.support.raw_calls import committed, counted, harmless, id_of, refusal_of
from tests.support.running_network import COMMAND_TIMEOUT_S, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def outcast(lagging: HostileValidator) -> HostileValidator:
    """The hostile member, whom all nodes may drop here, since no other tests need it."""
    forgive(lagging)
    return lagging


@pytest.fixture(scope="module")
def victims() -> Iterator[str]:
    """Honest nodes by turns."""
    return cycle(HONEST)


def forgive(bad: HostileValidator) -> None:
    """Start anew the nodes that have dropped the hostile member: then they know nothing of it."""
    barred = [name for name in HONEST if not bad.member.is_connected(name)]
    bad.network.kill(*(name for name in barred if bad.network.place(name).pid is not None))
    for starting in [bad.network.begin("testnet", "start", name) for name in barred]:
        _, words = starting.communicate(timeout=COMMAND_TIMEOUT_S)
        assert starting.returncode == 0, words
    until(lambda: bad.member.is_connected(*HONEST))


def vote(bad: HostileValidator, view: int, **lies: Any) -> Vote:
    """A PREPARE of this member's for a block of its own, with some fields of another place."""
    return msgspec.structs.replace(bad.vote(VoteType.PREPARE, bad.block(harmless(bad.network), view=view)), **lies)


def certificate(bad: HostileValidator, **lies: Any) -> Certificate:
    """The certificate of the head, with some fields that nobody signed."""
    proof = bad.chain.head.certificate
    assert proof is not None
    return msgspec.structs.replace(proof, **lies)


def prepared(bad: HostileValidator, view: int) -> Prepared:
    """The claim that a quorum has prepared a block of this member's, under signatures of nobody."""
    made = bad.block(view=view)
    place = {"height": made.header.height, "view": view, "digest": made.digest, "result": bytes(32)}
    return Prepared(certificate(bad, **place), made.header)


def changes_of_others(bad: HostileValidator, view: int) -> list[SignedChange]:
    """What three members would have to sign for a view, signed by this one."""
    own = bad.change(view).signed
    return [SignedChange(msgspec.structs.replace(own.change, signer=signer), own.signature) for signer in range(3)]


def turn(bad: HostileValidator, view: int) -> int:
    """The next view from here on in which this member is primary at the next height."""
    height = bad.chain.head.header.height + 1
    return next(later for later in range(view, view + 4) if bad.is_primary(later, height))


FAULTS: dict[str, tuple[Callable[[HostileValidator, int], Message | bytes], str]] = {
    "a vote of another member": (lambda bad, view: vote(bad, view + 1, signer=0), "a vote of another member"),
    "a proposal where another should": (
        lambda bad, view: bad.proposal(bad.block(harmless(bad.network), view=turn(bad, view) + 1)),
        "a PROPOSAL from a member that is not its primary",
    ),
    "a status with a certificate of nobody's": (
        lambda bad, view: bad.status(view, certificate(bad, height=bad.chain.head.header.height + 5)),
        "a STATUS with a bad certificate",
    ),
    "a view change with a certificate of nobody's": (
        lambda bad, view: bad.change(view + 1, certificate(bad, digest=bytes(32))),
        "a change with a bad commit certificate",
    ),
    "a view change with a block that nobody has prepared": (
        lambda bad, view: bad.change(view + 1, prepared=prepared(bad, view)),
        "a change with a bad prepared certificate",
    ),
    "a new view that others are said to want": (
        lambda bad, view: bad.new_view(turn(bad, view + 1), *changes_of_others(bad, turn(bad, view + 1))),
        "a change with a bad signature",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_validator_is_dropped_with_the_reason_that_sends(
    outcast: HostileValidator, victims: Iterator[str], what: str
) -> None:
    say, reason = FAULTS[what]
    network, member, victim = outcast.network, outcast.member, next(victims)
    if not member.is_connected(victim):
        forgive(outcast)
    outcast.follow()
    view = network.status(victim)["view"]
    past = len(network.log(victim))

    member.tell(say(outcast, view), victim)

    dropped(network, victim, HOSTILE, reason, past)
    assert network.status(victim)["view"] == view


def test_who_gives_bodies_that_nobody_asked_for_is_dropped_and_the_right_ones_come_from_another(
    outcast: HostileValidator,
) -> None:
    network, member = outcast.network, outcast.member
    forgive(outcast)
    view = outcast.take_turn()
    made, unasked = outcast.block(harmless(network), view=view), harmless(network)
    member.answers[BODIES_SERVICE] = lambda _peer, _payload: encode((unasked,))
    past, fetched = len(network.log("west")), counted(network, "west", "bodies_fetched_total")

    member.tell(outcast.proposal(made), "north", "east")
    until(lambda: {peer for peer, _ in member.votes_for(made.digest)} >= {"north", "east"})
    member.tell(outcast.proposal(made, b""), "west")

    dropped(network, "west", HOSTILE, "gave wrong bodies: a body came that nobody asked for", past)
    until(lambda: {network.status(name)["block_hash"] for name in HONEST} == {made.digest.hex()})
    assert counted(network, "west", "bodies_fetched_total") == fetched + 1


def test_a_forged_vote_that_would_complete_a_quorum_is_found_out(outcast: HostileValidator) -> None:
    network, member = outcast.network, outcast.member
    # West, which may have dropped it, hears nothing of what follows.
    assert member.is_connected("east", "north")
    view, primary = reign_of(network, "east", "north")
    height, envelope = network.status(primary)["height"] + 1, harmless(network)
    past = {name: len(network.log(name)) for name in HONEST}

    with frozen(network, "west"):
        assert refusal_of(network, primary, envelope) == ""
        until(lambda: any(is_proposal(message, height) for _, message in member.heard))
        digest = next(message.header.digest() for _, message in member.heard if is_proposal(message, height))
        forged = Vote(VoteType.PREPARE, 0, view, height, digest, bytes(32), outcast.position, bytes(64))
        member.tell(forged, "east", "north")
        for name in ("east", "north"):
            dropped(network, name, HOSTILE, "sent a vote with a bad signature", past[name])

    assert committed(network, primary, id_of(envelope)).header.digest() == digest


def is_proposal(message: Message, height: int) -> TypeGuard[Proposal]:
    return isinstance(message, Proposal) and message.header.height == height
