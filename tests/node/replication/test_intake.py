"""The door of the mempool: who is let in, who is told why not, and how the others learn of it."""

import time

import pytest

from node.network.peers import PeerFaultError
from node.replication.intake import OVERDUE_ENVELOPES_MAX, QUEUED_ENVELOPES_MAX, Refusal
from node.replication.wire import BATCH_ENVELOPES_MAX
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction, decode_transaction, encode_envelope
from tests.node.replication.conftest import Make
from tests.support.chain import NAMES
from tests.support.members import until
from tests.support.twin import twin_of
from tests.support.wired_nodes import WiredNode, is_registered, registration, running

pytestmark = pytest.mark.network


def badly_signed(transaction: Transaction) -> Transaction:
    first, second = transaction.signatures
    return decode_transaction(encode_envelope(transaction.body_bytes, [first, second[:32] + bytes(32)]))


async def test_a_client_learns_of_each_envelope_what_became_of_it(genesis: Genesis, make: Make) -> None:
    east, good = make("east"), registration(genesis, 1)
    async with east.run():
        answers = await east.intake.submit(
            [
                good.envelope,
                b"\xc1",
                badly_signed(registration(genesis, 2)).envelope,
                registration(genesis, 3, lifetime_s=-5).envelope,
                registration(genesis, 4, lifetime_s=25 * 3600).envelope,
            ]
        )

    assert answers[0] == good.id
    assert [answer.code for answer in answers[1:] if isinstance(answer, Refusal)] == [
        "bytes.malformed",
        "signature.invalid",
        "tx.expired",
        "tx.too_far_future",
    ]
    assert [transaction.id for transaction in east.mempool.oldest(10)] == [good.id]
    assert east.counted("admissions_refused") == 4


async def test_a_second_envelope_of_what_waits_is_answered_with_its_id_and_changes_nothing(
    genesis: Genesis, make: Make
) -> None:
    east, first = make("east"), registration(genesis, 1)
    twin = twin_of(first)
    async with east.run():
        answers = await east.intake.submit([first.envelope, twin.envelope, badly_signed(first).envelope])

    assert twin.leaf != first.leaf
    assert answers[:2] == [first.id, first.id]
    assert isinstance(answers[2], Refusal)
    assert answers[2].code == "signature.invalid"
    assert east.mempool.by_leaf(first.leaf) is not None
    assert east.mempool.by_leaf(twin.leaf) is None


async def test_what_the_ledger_holds_is_not_taken_again(genesis: Genesis, make: Make) -> None:
    nodes, transaction = [make(name) for name in NAMES], registration(genesis, 1)
    async with running(*nodes):
        await nodes[0].submit(transaction)
        await until(lambda: all(is_registered(node, 1) for node in nodes))

        answers = [await node.submit(transaction, twin_of(transaction)) for node in nodes]

    assert answers == [["tx.replayed", "tx.replayed"]] * 4
    assert not any(node.mempool for node in nodes)


async def test_a_full_pool_refuses_and_the_payer_whose_share_is_full_too(genesis: Genesis, make: Make) -> None:
    east = make("east", mempool_max=4)
    async with east.run():
        flood = await east.submit(*(registration(genesis, number) for number in range(3)))
        of_others = await east.submit(*(registration(genesis, number, payer="south") for number in (7, 8, 9)))

    assert flood == ["", "", "mempool.full"]
    assert of_others == ["", "", "mempool.full"]


async def test_what_is_handed_in_elsewhere_is_given_to_the_primary(genesis: Genesis, make: Make) -> None:
    # Two of four: no block is committed, so that it waits.
    east, west, transaction = make("east"), make("west"), registration(genesis, 1)
    async with east.run(), west.run():
        await until(lambda: sees(west, "east"))
        await west.submit(transaction)

        await until(lambda: transaction.id in east.mempool)

    assert east.mempool.by_leaf(transaction.leaf) is not None
    assert east.counted("signatures_verified") == 2


async def test_without_the_primary_gossip_brings_what_waits_to_the_others(genesis: Genesis, make: Make) -> None:
    south, west, transaction = make("south"), make("west"), registration(genesis, 1)
    async with south.run(), west.run():
        await until(lambda: sees(west, "south") and sees(south, "west"))
        await west.submit(transaction)

        await until(lambda: transaction.id in south.mempool)

    assert west.engine.primary == "east"


def sees(node: WiredNode, peer: str) -> bool:
    return any(status.name == peer and status.connected for status in node.network.statuses())


async def test_what_can_no_longer_be_included_is_swept_out(genesis: Genesis, make: Make) -> None:
    east = make("east")
    async with east.run():
        assert await east.submit(registration(genesis, 1, lifetime_s=1), registration(genesis, 2)) == ["", ""]

        await until(lambda: len(east.mempool) == 1)

    assert east.mempool.oldest(2)[0].body.not_after_s > time.time() + 60


async def test_a_malformed_batch_is_the_fault_of_who_sent_it(genesis: Genesis, make: Make) -> None:
    east = make("east")

    for data in (b"", b"\xc1", encode("no batch"), encode([b"x"] * (BATCH_ENVELOPES_MAX + 1))):
        with pytest.raises(PeerFaultError):
            east.intake._on_batch("west", data)


async def test_more_than_can_be_verified_is_shed_and_counted(genesis: Genesis, make: Make) -> None:
    east = make("east")
    batch = encode([b"x"] * BATCH_ENVELOPES_MAX)

    # Nothing takes from the queue: the node does not run. One peer may take up half of it.
    for _ in range(QUEUED_ENVELOPES_MAX // BATCH_ENVELOPES_MAX // 2):
        east.intake._on_batch("west", batch)
    assert east.counted("envelopes_shed") == 0
    east.intake._on_batch("west", batch)

    assert east.counted("envelopes_shed") == BATCH_ENVELOPES_MAX


async def test_a_peer_that_floods_a_node_does_not_keep_out_what_others_send(genesis: Genesis, make: Make) -> None:
    east, transaction = make("east"), registration(genesis, 1)
    for _ in range(QUEUED_ENVELOPES_MAX // BATCH_ENVELOPES_MAX):
        east.intake._on_batch("west", encode([b"x"] * BATCH_ENVELOPES_MAX))
    shed = east.counted("envelopes_shed")

    east.intake._on_batch("south", encode([transaction.envelope]))
    async with east.run():
        await until(lambda: transaction.id in east.mempool)
        refused = east.counted("admissions_refused")

    assert east.counted("envelopes_shed") == shed
    # By turns: it was not the last to be looked at.
    assert refused < QUEUED_ENVELOPES_MAX // 4


async def test_what_a_flooding_peer_says_to_be_overdue_does_not_wait_behind_its_flood(
    genesis: Genesis, make: Make
) -> None:
    east, transaction = make("east"), registration(genesis, 1)
    for _ in range(QUEUED_ENVELOPES_MAX // BATCH_ENVELOPES_MAX):
        east.intake._on_batch("west", encode([b"x"] * BATCH_ENVELOPES_MAX))

    east.intake._on_overdue("west", encode([transaction.envelope]))
    async with east.run():
        await until(lambda: transaction.id in east.mempool)
        refused = east.counted("admissions_refused")

    assert refused < QUEUED_ENVELOPES_MAX // 4


async def test_a_peer_that_says_too_much_to_be_overdue_is_not_heard_to_the_end(genesis: Genesis, make: Make) -> None:
    east = make("east")

    east.intake._on_overdue("west", encode([b"x"] * BATCH_ENVELOPES_MAX))
    east.intake._on_overdue("west", encode([b"x"] * BATCH_ENVELOPES_MAX))

    assert east.counted("envelopes_shed") == 2 * BATCH_ENVELOPES_MAX - OVERDUE_ENVELOPES_MAX
    with pytest.raises(PeerFaultError):
        east.intake._on_overdue("west", b"\xc1")
