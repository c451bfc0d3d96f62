"""Where the transactions of a proposal come from, and what becomes of wrong ones."""

from collections.abc import Sequence

import pytest

from node.replication.bodies import BodiesError
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction, encode_envelope
from tests.node.replication.conftest import Make
from tests.support.members import until
from tests.support.twin import twin_of
from tests.support.wired_nodes import WiredNode, is_registered, registration, running

pytestmark = pytest.mark.network


def leaves_of(transactions: Sequence[Transaction]) -> tuple[bytes, ...]:
    return tuple(transaction.leaf for transaction in transactions)


def inline(transactions: Sequence[Transaction]) -> bytes:
    return encode(tuple(transaction.envelope for transaction in transactions))


def waiting(node: WiredNode, *transactions: Transaction) -> None:
    for transaction in transactions:
        node.mempool.add(transaction)


def test_what_waits_here_is_not_looked_for_elsewhere_nor_verified_again(genesis: Genesis, make: Make) -> None:
    east, known = make("east"), [registration(genesis, number) for number in range(3)]
    waiting(east, *known)

    transactions, _ = east.bodies.held(leaves_of(known[::-1]), b"")

    assert transactions == known[::-1]
    assert east.counted("signatures_verified") == 0


def test_what_is_missing_is_taken_from_the_proposal_once_it_is_verified(genesis: Genesis, make: Make) -> None:
    east, (known, new) = make("east"), [registration(genesis, number) for number in range(2)]
    waiting(east, known)

    transactions, _ = east.bodies.held(leaves_of([known, new]), inline([known, new]))

    assert transactions is not None
    assert leaves_of(transactions) == leaves_of([known, new])
    assert east.counted("signatures_verified") == 2


def test_what_neither_came_nor_waits_is_missing_and_the_rest_is_kept_for_the_search(
    genesis: Genesis, make: Make
) -> None:
    east, (known, new) = make("east"), [registration(genesis, number) for number in range(2)]
    waiting(east, known)

    transactions, found = east.bodies.held(leaves_of([known, new]), b"")

    assert transactions is None
    assert list(found) == [known.leaf]


def test_bodies_that_are_malformed_unasked_for_or_badly_signed_are_refused(genesis: Genesis, make: Make) -> None:
    east, (wanted, other) = make("east"), [registration(genesis, number) for number in range(2)]
    forged = encode_envelope(wanted.body_bytes, [bytes(64), bytes(64)])

    for leaf, bodies in (
        (wanted.leaf, b"\xc1"),
        (wanted.leaf, inline([other])),
        (wanted.leaf, encode((b"no transaction",))),
        (wanted.leaf, encode((forged,))),
    ):
        with pytest.raises(BodiesError):
            east.bodies.held((leaf,), bodies)


def test_what_this_node_promised_to_hold_it_holds_until_the_height_commits(genesis: Genesis, make: Make) -> None:
    east, promised = make("east"), registration(genesis, 1)

    east.bodies.recover([promised.envelope])
    kept, _ = east.bodies.held((promised.leaf,), b"")
    east.bodies.forget()
    gone, _ = east.bodies.held((promised.leaf,), b"")

    assert kept is not None
    assert kept[0].envelope == promised.envelope
    assert gone is None


async def test_missing_bodies_are_fetched_from_the_next_holder_who_has_them(genesis: Genesis, make: Make) -> None:
    east, north, west = (make(name) for name in ("east", "north", "west"))
    known, far = registration(genesis, 1), registration(genesis, 2)
    waiting(west, known)
    async with east.run(), north.run(), west.run():
        await until(lambda: all(peer.connected for peer in west.network.statuses() if peer.name != "south"))
        waiting(north, far)

        # South does not run, east has nothing, north has it.
        fetched = await west.bodies.fetch(leaves_of([known, far]), {known.leaf: known}, ["south", "east", "north"])

    assert leaves_of(fetched) == leaves_of([known, far])
    assert west.counted("signatures_verified") == 2


async def test_bodies_that_nobody_has_are_said_to_be_missing(genesis: Genesis, make: Make) -> None:
    east, west = make("east"), make("west")
    async with east.run(), west.run():
        await until(lambda: any(peer.connected for peer in west.network.statuses()))

        with pytest.raises(BodiesError, match="no member gave"):
            await west.bodies.fetch((bytes(32),), {}, ["east"])


async def test_a_backup_that_holds_a_twin_fetches_what_was_proposed_and_votes_in_the_first_view(
    genesis: Genesis, make: Make
) -> None:
    nodes = [make(name) for name in ("east", "north", "south", "west")]
    proposed = registration(genesis, 1)
    for backup in nodes[1:]:
        waiting(backup, twin_of(proposed))
    async with running(*nodes):
        await nodes[0].submit(proposed)
        await until(lambda: all(is_registered(node, 1) for node in nodes))

    for node in nodes:
        place = node.ledger.locate(proposed.id)
        assert place is not None
        assert node.ledger.block(place[0]).envelopes == (proposed.envelope,)
        assert node.engine.view == 0
        assert not node.mempool
