"""What a node asks for, and is lied to: it drops who lies, takes the truth from another, and the others go on."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice

import msgspec
import pytest

from node.replication.wire import (
    BLOCKS_REQUEST,
    BLOCKS_SERVICE,
    HEADS_TOPIC,
    BlocksAnswer,
    Head,
)
from storage.schema.block import CertifiedBlock, decode_certified_block
from storage.schema.codec import encode
from tests.support.hostile_member import HostileMember
from tests.support.hostile_network import BLOCKS_MISSED, GUESTS, HONEST, dropped, frozen, guest
from tests.support.hostile_validator import HostileValidator
from tests.support.raw_calls import counted
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

# As many as west lets into the mesh of its gossip at once.
GOSSIPERS = 4
Blocks = list[CertifiedBlock]
Lie = Callable[[Blocks], bytes]


def changed(block: CertifiedBlock, **fields: object) -> CertifiedBlock:
    return msgspec.structs.replace(block, **fields)


def under(block: CertifiedBlock, **lies: object) -> CertifiedBlock:
    """A block under a certificate that says something else."""
    return changed(block, certificate=msgspec.structs.replace(block.certificate, **lies))


def encoded(*blocks: CertifiedBlock) -> bytes:
    return encode(BlocksAnswer(99, tuple(map(encode, blocks))))


LIES: dict[str, tuple[Lie, str]] = {
    "garbage": (lambda _: b"\xc1" * 100, "MessagePack data is malformed"),
    "no block": (lambda _: encode(BlocksAnswer(99, (b"\xc1",))), "MessagePack data is malformed"),
    "an endless answer": (lambda _: encode(BlocksAnswer(99, (bytes(5 << 20),))), "bytes, at most 4194304"),
    "signatures of nobody": (
        lambda blocks: encoded(under(blocks[0], signatures=(bytes(64),) * 3)),
        "a signature does not verify",
    ),
    "signatures of too few": (
        lambda blocks: encoded(
            under(blocks[0], signers=(0, 1), signatures=blocks[0].certificate.signatures[:2]),
        ),
        "2 signers, a quorum is 3",
    ),
    "one signature three times": (
        lambda blocks: encoded(
            under(blocks[0], signers=(0, 0, 0), signatures=blocks[0].certificate.signatures[:1] * 3),
        ),
        "signers are not distinct",
    ),
    "a certificate without a result": (lambda blocks: encoded(under(blocks[0], result=bytes(32))), "a result stands"),
    "another block's certificate": (
        lambda blocks: encoded(changed(blocks[0], certificate=blocks[1].certificate)),
        "the certificate is about another block",
    ),
    "a changed header": (
        lambda blocks: encoded(changed(blocks[0], header=msgspec.structs.replace(blocks[0].header, time_ms=1))),
        "the certificate is about another block",
    ),
    "other transactions": (
        lambda blocks: encoded(changed(blocks[0], envelopes=blocks[1].envelopes)),
        "the transactions are not those of the header",
    ),
    "no transactions": (
        lambda blocks: encoded(changed(blocks[0], envelopes=())),
        "the transactions are not those of the header",
    ),
    "a block left out": (lambda blocks: encoded(*blocks[1:]), "the block does not stand on this node's head"),
}


def test_who_lags_refuses_forged_blocks_and_takes_the_right_ones_from_another(lagging: HostileValidator) -> None:
    network, head = lagging.network, lagging.chain.head
    first = head.header.height - BLOCKS_MISSED + 1
    with network.begin("testnet", "start", "west") as starting, ExitStack() as stack:
        # Whoever could tell the truth is frozen until all the liars have been asked.
        with frozen(network, "north", "east"):
            for start in range(0, len(LIES), GOSSIPERS):
                ask_liars(lagging, first, dict(islice(LIES.items(), start, start + GOSSIPERS)), GUESTS[start:])
            dawdler = stack.enter_context(guest(network, GUESTS[-1], "west"))
            asked = threading.Event()
            dawdler.answers[BLOCKS_SERVICE] = partial(answer, asked, first, encoded(block_at(lagging, 1)))
            announce(lagging, dawdler)
            until(asked.is_set)
            height_before = network.status("west")["height"]
        until(lambda: network.is_level(*HONEST))
        _, words = starting.communicate()

    assert starting.returncode == 0, words
    assert height_before == first - 1
    assert network.status("west")["height"] == head.header.height
    assert counted(network, "west", "blocks_caught_up_total") == BLOCKS_MISSED


def ask_liars(lagging: HostileValidator, first: int, lies: dict[str, tuple[Lie, str]], names: Sequence[str]) -> None:
    """Have west ask as many guests for blocks as lies are given; each is dropped for its own."""
    blocks = [block_at(lagging, height) for height in range(first, first + BLOCKS_MISSED)]
    with ExitStack() as stack:
        liars = [
            stack.enter_context(guest(lagging.network, name, "west")) for name, _ in zip(names, lies, strict=False)
        ]
        for member, (lie, _) in zip(liars, lies.values(), strict=True):
            member.answers[BLOCKS_SERVICE] = partial(answer, threading.Event(), first, lie(blocks))
            announce(lagging, member)
        for member, (_, reason) in zip(liars, lies.values(), strict=True):
            dropped(lagging.network, "west", member.name, reason)


def block_at(lagging: HostileValidator, height: int) -> CertifiedBlock:
    return decode_certified_block(lagging.chain.ledger.encoded_block(height))


def answer(asked: threading.Event, first: int, lie: bytes, _peer: str, payload: bytes) -> bytes:
    """Give one answer to who asks for what it lacks."""
    assert BLOCKS_REQUEST.decode(payload).from_height == first
    asked.set()
    return lie


def announce(lagging: HostileValidator, member: HostileMember) -> None:
    """Gossip a true head, so that west learns from this member that it lags."""
    head = lagging.chain.head
    assert head.certificate is not None
    until(lambda: member.reaches("west", HEADS_TOPIC))
    member.publish(HEADS_TOPIC, encode(Head(head.header, head.certificate, ())))
