"""Members that send what no honest node sends: each is dropped with the reason in the log, and nobody is disturbed."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import pytest

from consensus.pbft.messages import Hello
from node.network.limits import KIB, MIB
from node.network.peers import RequestError
from node.network.requests import PROTOCOL as REQUEST_PROTOCOL
from node.replication.catch_up import HINTS_EVERY_S
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL
from node.replication.intake import CHANNEL as TRANSACTIONS_CHANNEL
from node.replication.wire import (
    BLOCKS_ANSWER,
    BLOCKS_SERVICE,
    BODIES_SERVICE,
    HEADS_TOPIC,
    TRANSACTIONS_TOPIC,
    BlocksAnswer,
    BlocksRequest,
    Head,
    encode_batches,
)
from storage.schema.block import decode_certified_block
from storage.schema.calls import Grant
from storage.schema.codec import encode
from tests.support.hostile_member import HostileMember
from tests.support.hostile_network import GUESTS, HONEST, dropped, guest, rss_bytes
from tests.support.hostile_validator import HostileValidator
from tests.support.raw_calls import caller, counted, order, provision
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

GARBAGE = b"\xc1" * 100
Attack = Callable[[HostileMember], None]


def say(member: HostileMember, data: bytes, channel: str) -> None:
    member.tell(data, *HONEST, channel=channel)


def ask(member: HostileMember, service: str, payload: bytes) -> None:
    for name in HONEST:
        with pytest.raises(RequestError, match="the connection ended before the answer"):
            member.ask(name, service, payload)


def gossip(member: HostileMember, topic: str, data: bytes) -> None:
    # Whom gossip reaches, nothing tells: who has not yet subscribed here is told again.
    def is_dropped_by_all() -> bool:
        member.publish(topic, data)
        return not any(map(member.is_connected, HONEST))

    until(is_dropped_by_all)


def announce(member: HostileMember, **lies: object) -> None:
    gossip(member, HEADS_TOPIC, far_head(member, **lies))


def far_head(member: HostileMember, **lies: object) -> bytes:
    """A head far above the others', under the certificate of the first block."""
    answer = BLOCKS_ANSWER.decode(member.ask("north", BLOCKS_SERVICE, encode(BlocksRequest(1))))
    block = decode_certified_block(answer.blocks[0])
    header = msgspec.structs.replace(block.header, height=2**62)
    return encode(Head(header, msgspec.structs.replace(block.certificate, **lies), ()))


TOO_LARGE = "announced a message of 8388609 bytes; 8388608 are allowed"
NOISE: dict[str, tuple[Attack, str]] = {
    "too large a vote": (partial(say, data=bytes(8 * MIB + 1), channel=VOTE_CHANNEL), TOO_LARGE),
    "too large a block": (partial(say, data=bytes(8 * MIB + 1), channel=BLOCK_CHANNEL), TOO_LARGE),
    "too large a batch": (partial(say, data=bytes(8 * MIB + 1), channel=TRANSACTIONS_CHANNEL), TOO_LARGE),
    "garbage for votes": (partial(say, data=GARBAGE, channel=VOTE_CHANNEL), "a message that does not decode"),
    "garbage for blocks": (partial(say, data=GARBAGE, channel=BLOCK_CHANNEL), "a message that does not decode"),
    "an observer's greeting": (
        partial(say, data=encode(Hello(0, bytes(16))), channel=VOTE_CHANNEL),
        "sent a message from one who is no other validator",
    ),
    "garbage for transactions": (
        partial(say, data=GARBAGE, channel=TRANSACTIONS_CHANNEL),
        "sent a malformed batch of transactions",
    ),
    "too large a batch of transactions": (
        partial(say, data=encode((bytes(13_000),) * 20), channel=TRANSACTIONS_CHANNEL),
        "sent a malformed batch of transactions",
    ),
    "too large a request": (partial(ask, service=BODIES_SERVICE, payload=bytes(9 * MIB)), "announced a message of"),
    "a request for nothing": (partial(ask, service="", payload=GARBAGE), "sent a request without a service"),
    "a garbled request for bodies": (
        partial(ask, service=BODIES_SERVICE, payload=GARBAGE),
        "asked for bodies malformedly",
    ),
    "a garbled request for blocks": (
        partial(ask, service=BLOCKS_SERVICE, payload=GARBAGE),
        "asked for blocks malformedly",
    ),
    "garbled gossip of transactions": (
        partial(gossip, topic=TRANSACTIONS_TOPIC, data=GARBAGE),
        "sent a malformed batch of transactions",
    ),
    "garbled gossip of heads": (partial(gossip, topic=HEADS_TOPIC, data=GARBAGE), "announced an invalid head"),
    "too large a gossip message": (
        partial(gossip, topic=HEADS_TOPIC, data=bytes(300 * KIB)),
        "sent a gossip message of 307200 bytes",
    ),
    "gossip larger than any": (
        partial(gossip, topic=HEADS_TOPIC, data=bytes(2 * MIB)),
        "announced gossip larger than any",
    ),
    "a head that too few signed": (partial(announce, signers=(0,), signatures=(bytes(64),)), "1 signers, a quorum is"),
    "a head that nobody signed": (
        partial(announce, signatures=(bytes(64),) * 3),
        "announced an invalid head: a signature does not verify",
    ),
}


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    """Guests that nobody knows yet."""
    return iter(GUESTS[4:])


@pytest.mark.parametrize("what", NOISE)
def test_a_member_is_dropped_with_the_reason_that_sends(bad: HostileValidator, names: Iterator[str], what: str) -> None:
    attack, reason = NOISE[what]

    with guest(bad.network, next(names)) as member:
        attack(member)
        for name in HONEST:
            dropped(bad.network, name, member.name, reason)
        # The log says so a moment before the member sees it; and who is dropped stays out for a while.
        until(lambda: not member.is_connected(*HONEST))


def test_after_all_that_the_others_agree_as_before(bad: HostileValidator) -> None:
    proven = [order(bad.network, name) for name in HONEST]

    assert len({each.header.height for each in proven}) == len(HONEST)


def test_a_service_that_nobody_offers_is_refused_and_the_connection_stays(
    bad: HostileValidator, names: Iterator[str]
) -> None:
    with guest(bad.network, next(names)) as member:
        assert {member.ask_in_vain(name, "shell", GARBAGE) for name in HONEST} == {"no such service"}
        assert member.is_connected(*HONEST)


def test_who_speaks_of_a_later_epoch_is_asked_for_its_blocks_now_and_then_and_disturbs_nobody(
    bad: HostileValidator, names: Iterator[str]
) -> None:
    hints = [encode(Hello(7, number.to_bytes(16, "big"))) for number in range(3000)]

    with guest(bad.network, next(names)) as member:
        member.answers[BLOCKS_SERVICE] = lambda _peer, _payload: encode(BlocksAnswer(2**62, ()))
        started = time.monotonic()
        member.flood(hints, *HONEST)
        member.publish(HEADS_TOPIC, far_head(member, epoch=7))
        until(lambda: member.answered[BLOCKS_SERVICE] >= 2 * len(HONEST))
        for name in HONEST:
            order(bad.network, name)
        assert member.is_connected(*HONEST)
        asked, seconds = member.answered[BLOCKS_SERVICE], time.monotonic() - started

    assert asked <= len(HONEST) * (seconds / HINTS_EVERY_S + 1)


def test_what_a_member_begins_to_say_and_never_ends_fills_no_memory(
    bad: HostileValidator, names: Iterator[str]
) -> None:
    before = rss_bytes(bad.network, "west")
    unfinished = (8 * MIB).to_bytes(4, "big") + bytes(8 * MIB - 1)

    with guest(bad.network, next(names), "west") as member:
        for channel in (VOTE_CHANNEL, BLOCK_CHANNEL, TRANSACTIONS_CHANNEL) * 2:
            member.begin_to_say("west", f"/caretrace/{channel}/1", unfinished)
        for _ in range(12):
            member.begin_to_say("west", REQUEST_PROTOCOL, unfinished)
        assert member.is_connected("west")
        grown = rss_bytes(bad.network, "west") - before

    # One on each of three channels and of eight streams of requests, of the 18 that were begun.
    assert 8 * MIB < grown < 11 * 8 * MIB * 9 // 8 + 16 * MIB
    order(bad.network, "west")


def test_a_flood_of_transactions_that_nobody_signed_fills_no_memory_and_stops_no_commit(
    bad: HostileValidator, names: Iterator[str]
) -> None:
    nested = (provision(records=(bytes(32),) * 8),) * 5
    signed = caller(bad.network, "pia", "north").call("consent.grant", Grant(provision(provisions=nested), None))
    # Each is another envelope, whose signature has to be checked to be found wrong.
    forged = [signed[:-8] + number.to_bytes(8, "big") for number in range(12_000)]
    before, done = {name: rss_bytes(bad.network, name) for name in HONEST}, turned_away(bad, "west")

    with guest(bad.network, next(names)) as member:
        member.flood(encode_batches(forged), *HONEST, channel=TRANSACTIONS_CHANNEL)
        until(lambda: ordered_and_turned_away(bad, "west") >= done + len(forged), within_s=60)
        assert member.is_connected(*HONEST)

    assert all(rss_bytes(bad.network, name) - size < 40 * MIB for name, size in before.items())


def ordered_and_turned_away(bad: HostileValidator, name: str) -> int:
    order(bad.network, name)
    return turned_away(bad, name)


def turned_away(bad: HostileValidator, name: str) -> int:
    """How many envelopes a node has looked at in vain, or not at all because too many were waiting."""
    return sum(counted(bad.network, name, counter) for counter in ("admissions_refused_total", "envelopes_shed_total"))
