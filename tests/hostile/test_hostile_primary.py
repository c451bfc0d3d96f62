"""A primary that packs what no block may hold: nobody votes for it, the others change the view and go on."""

from collections.abc import Callable
from typing import Any

import pytest

from consensus.pbft.messages import ViewChange
from storage.schema.calls import RequestAccess, Revoke
from storage.schema.codec import encode
from storage.schema.transaction import encode_envelope, sign_body, signing_preimage
from tests.support.hostile_network import HONEST, HOSTILE
from tests.support.hostile_validator import HostileValidator, Made
from tests.support.raw_calls import Caller, caller, order
from tests.support.running_network import until
from tests.support.twin import second_signature

pytestmark = pytest.mark.cluster

NOTHING = RequestAccess(bytes(32), "TREAT")
INVALID = "a transaction of the block is invalid: "


def ben(bad: HostileValidator) -> Caller:
    return caller(bad.network, "ben", "south")


def call(bad: HostileValidator, **other: Any) -> bytes:
    return ben(bad).call("access.request", NOTHING, **other)


def forged(bad: HostileValidator) -> list[bytes]:
    body = ben(bad).body("access.request", NOTHING)
    return [encode_envelope(body, [sign_body(body, bad.network.seed("pia"))])]


def signed_twice(bad: HostileValidator) -> list[bytes]:
    body = ben(bad).body("access.request", NOTHING)
    return [encode_envelope(body, [sign_body(body, ben(bad).seed)] * 2)]


def replayed(bad: HostileValidator) -> list[bytes]:
    height = bad.chain.head.header.height
    return [bad.chain.ledger.block(height).envelopes[0]]


def with_its_twin(bad: HostileValidator) -> list[bytes]:
    body = ben(bad).body("access.request", NOTHING)
    twin = second_signature(ben(bad).seed, signing_preimage(body))
    return [ben(bad).signed(body), encode_envelope(body, [twin])]


def urgent_last(bad: HostileValidator) -> list[bytes]:
    pia = caller(bad.network, "pia", "north")
    return [call(bad), pia.call("consent.revoke", Revoke(bytes(32)))]


def unpaid(bad: HostileValidator) -> list[bytes]:
    return [ben(bad).call("access.request", NOTHING, payer="north")]


PACKED: dict[str, tuple[Callable[[HostileValidator], list[bytes]], str]] = {
    "a forged transaction": (forged, f"{INVALID}the signature does not verify"),
    "an expired one": (lambda bad: [call(bad, lifetime_s=-1)], "not includable: tx.expired"),
    "one of the day after tomorrow": (lambda bad: [call(bad, lifetime_s=172_800)], "tx.too_far_future"),
    "an unsigned one": (lambda bad: [encode_envelope(ben(bad).body("access.request", NOTHING), [])], INVALID),
    "one with a signature too many": (signed_twice, f"{INVALID}signers must be distinct, with one signature each"),
    "one of another network": (lambda bad: [call(bad, chain_id=bytes(32))], "not includable: tx.other_network"),
    "one that was committed before": (replayed, "transaction 0 is not includable: tx.replayed"),
    "one twice": (lambda bad: [call(bad)] * 2, "transaction 1 is not includable: tx.replayed"),
    "one and its twin": (with_its_twin, "transaction 1 is not includable: tx.replayed"),
    "one that another member should pay for": (unpaid, "not includable: tx.payer_unbound"),
    "an urgent one behind another": (urgent_last, "transaction 1 is urgent and stands after one that is not"),
    "none, before its time": (lambda _: [], "an empty block before its parent is old enough"),
    "bytes that are no transaction": (lambda _: [b"\xc1"], INVALID),
}


HEADED: dict[str, tuple[Callable[[Made], dict[str, object]], str]] = {
    "a time ahead of the clock": (lambda made: {"time_ms": made.header.time_ms + 9_000}, "ahead of this node's clock"),
    "a time long past": (lambda made: {"time_ms": made.header.time_ms - 9_000}, "behind this node's clock"),
    "other transactions": (lambda _: {"tx_root": bytes(32)}, "the header states other transactions"),
    "another size": (lambda made: {"tx_bytes": made.header.tx_bytes + 1}, "the header states another size"),
    "another history": (lambda _: {"history_root": bytes(32)}, "history_root of the header is not what follows"),
}


def refused(bad: HostileValidator, made: Made, reason: str, **other: bytes) -> None:
    """Propose a block that nobody may vote for, and see the others go on without it."""
    honest, member, height = bad.network, bad.member, made.header.height

    member.tell(bad.proposal(made, **other), *HONEST)
    until(lambda: {peer for peer, change in member.heard if is_change(change, made.view + 1)} == set(HONEST))
    proven = order(honest)

    # What a node says it says in order: a PREPARE would have come before its VIEW-CHANGE.
    assert member.votes_for(made.digest) == []
    # Who hears others ask for the next view before it has looked at the block itself only follows them.
    said = f"no vote for block {height} of {HOSTILE}: "
    lines = [line for name in HONEST for line in honest.log(name).splitlines() if said in line]
    assert lines
    assert all(reason in line for line in lines)
    assert proven.header.height == height
    assert proven.header.first_view > made.view
    until(lambda: honest.is_level(*HONEST))


def is_change(message: object, view: int) -> bool:
    return isinstance(message, ViewChange) and message.signed.change.view == view


@pytest.mark.parametrize("what", PACKED)
def test_nobody_votes_for_a_block_that_holds(bad: HostileValidator, what: str) -> None:
    pack, reason = PACKED[what]
    view = bad.take_turn()

    refused(bad, bad.block(*pack(bad), view=view), reason)


@pytest.mark.parametrize("what", HEADED)
def test_nobody_votes_for_a_block_whose_header_states(bad: HostileValidator, what: str) -> None:
    change, reason = HEADED[what]
    view = bad.take_turn()
    made = bad.block(call(bad), view=view)

    refused(bad, made.changed(**change(made)), reason)


def test_nobody_votes_for_a_block_that_comes_with_bodies_of_others(bad: HostileValidator) -> None:
    view = bad.take_turn()
    bodies = encode((call(bad), call(bad)))

    refused(bad, bad.block(call(bad), view=view), "a body came that nobody asked for", bodies=bodies)


def test_nobody_votes_for_a_block_whose_bodies_nobody_gives(bad: HostileValidator) -> None:
    view = bad.take_turn()

    refused(bad, bad.block(call(bad), view=view), "no member gave the bodies of the proposal", bodies=b"")
