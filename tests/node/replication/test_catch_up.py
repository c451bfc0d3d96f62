"""Blocks are taken over from whoever has them, and believed only under their certificates."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from node.contracts.governance import genesis_state
from node.network.host import Network
from node.network.peers import PeerFaultError
from node.replication.catch_up import CatchUp
from node.replication.chain import DivergedError
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL
from node.replication.intake import CHANNEL, OVERDUE_CHANNEL
from node.replication.wire import (
    BLOCKS_ANSWER,
    BLOCKS_REQUEST,
    BLOCKS_SERVICE,
    HEADS_TOPIC,
    TRANSACTIONS_TOPIC,
    BlocksAnswer,
    BlocksRequest,
    Head,
)
from node.runtime.parts import other_members
from storage.schema.block import CertifiedBlock, decode_certified_block, transactions_root
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from storage.schema.transaction import decode_transaction, envelope_leaf
from tests.node.replication.conftest import Make
from tests.support.chain import certify
from tests.support.kept_ledger import KeptLedger
from tests.support.members import until
from tests.support.small_ledger import of_member
from tests.support.wired_nodes import WiredNode, registration

pytestmark = pytest.mark.network

Tamper = Callable[[Genesis, CertifiedBlock], CertifiedBlock]


def history(folder: Path, genesis: Genesis, heights: int = 3) -> list[CertifiedBlock]:
    """Blocks that all four members certified, two registrations in each."""
    kept = KeptLedger(folder / "history", genesis)
    for height in range(1, heights + 1):
        transactions = [registration(genesis, 2 * height + number) for number in range(2)]
        kept.append(transactions, time.time_ns() // 1_000_000 + height)
    blocks = [decode_certified_block(kept.encoded_block(height)) for height in range(1, heights + 1)]
    kept.close()
    return blocks


class Holder:
    """A member's bare network that answers requests for blocks from a list, and nothing else."""

    def __init__(self, name: str, genesis: Genesis, blocks: list[CertifiedBlock]) -> None:
        member = genesis.member(name)
        assert member is not None
        self.blocks = [encode(block) for block in blocks]
        self.requests = 0
        seed = of_member(name, "node").seed
        self.network = Network(name, seed, member.addresses, other_members(genesis_state(genesis), name))
        for channel in (VOTE_CHANNEL, BLOCK_CHANNEL, CHANNEL, OVERDUE_CHANNEL):
            is_bulk = channel in (CHANNEL, OVERDUE_CHANNEL)
            self.network.on_message(channel, lambda _peer, _data: None, drop_oldest=not is_bulk)
        for topic in (HEADS_TOPIC, TRANSACTIONS_TOPIC):
            self.network.on_gossip(topic, lambda _publisher, _data: None)
        self.network.on_request(BLOCKS_SERVICE, self._answer)

    async def _answer(self, _peer: str, payload: bytes) -> bytes:
        self.requests += 1
        first = BLOCKS_REQUEST.decode(payload).from_height
        return encode(BlocksAnswer(len(self.blocks), tuple(self.blocks[first - 1 :])))


def another_certificate(_: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    header = msgspec.structs.replace(block.header, time_ms=block.header.time_ms + 1)
    return msgspec.structs.replace(block, header=header)


def too_few_signers(genesis: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    certificate = certify(genesis, block.header, block.result, signers=(0, 1))
    return msgspec.structs.replace(block, certificate=certificate)


def one_signer_counted_twice(genesis: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    certificate = certify(genesis, block.header, block.result, signers=(0, 1, 1))
    return msgspec.structs.replace(block, certificate=certificate)


def other_transactions(genesis: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    return msgspec.structs.replace(block, envelopes=(block.envelopes[0], registration(genesis, 99).envelope))


def a_forged_transaction(genesis: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    """A quorum's certificate over a block with a signature that does not verify: even then it is not taken."""
    envelope = bytearray(block.envelopes[0])
    envelope[-1] ^= 1
    envelopes = (bytes(envelope), *block.envelopes[1:])
    return recertified(genesis, block, envelopes)


def recertified(genesis: Genesis, block: CertifiedBlock, envelopes: tuple[bytes, ...]) -> CertifiedBlock:
    header = msgspec.structs.replace(
        block.header,
        tx_root=transactions_root([envelope_leaf(envelope) for envelope in envelopes]),
        tx_bytes=sum(map(len, envelopes)),
    )
    return CertifiedBlock(header, certify(genesis, header, block.result), block.result, envelopes)


def another_parent(genesis: Genesis, block: CertifiedBlock) -> CertifiedBlock:
    header = msgspec.structs.replace(block.header, parent=bytes(32))
    return CertifiedBlock(header, certify(genesis, header, block.result), block.result, block.envelopes)


@pytest.mark.parametrize(
    "tampers",
    [
        (another_certificate, too_few_signers, one_signer_counted_twice),
        (other_transactions, a_forged_transaction, another_parent),
    ],
    ids=lambda tampers: ", ".join(tamper.__name__.replace("_", " ") for tamper in tampers),
)
async def test_no_block_is_taken_from_who_lies_and_all_from_who_does_not(
    genesis: Genesis, make: Make, tmp_path: Path, tampers: tuple[Tamper, ...]
) -> None:
    blocks = history(tmp_path, genesis)
    names = ("east", "north", "south")
    liars = [
        Holder(name, genesis, [tamper(genesis, blocks[0]), *blocks[1:]])
        for name, tamper in zip(names, tampers, strict=True)
    ]
    west = make("west")
    async with AsyncExitStack() as stack:
        for liar in liars:
            await stack.enter_async_context(liar.network.run())
        await stack.enter_async_context(west.run())
        await until(lambda: all(peer.connected for peer in west.network.statuses()))

        west.catch_up.want(3, names)
        await until(lambda: not any(peer.connected for peer in west.network.statuses()))

    assert [liar.requests for liar in liars] == [1, 1, 1]
    assert west.height == 0
    assert west.catch_up.blocks_behind == 3
    reasons = [peer.why for peer in west.network.statuses()]
    assert all("invalid block" in reason for reason in reasons), reasons


async def test_blocks_are_taken_from_the_next_who_has_them_in_as_many_answers_as_it_takes(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    blocks = history(tmp_path, genesis, heights=5)
    # One has nothing, one only the first two.
    holders = [Holder("east", genesis, []), Holder("north", genesis, blocks[:2]), Holder("south", genesis, blocks)]
    west = make("west")
    async with AsyncExitStack() as stack:
        for holder in holders:
            await stack.enter_async_context(holder.network.run())
        await stack.enter_async_context(west.run())
        await until(lambda: all(peer.connected for peer in west.network.statuses()))

        west.catch_up.want(5, ("east", "north", "south"))
        await until(lambda: west.height == 5)
        still_trusted = [peer.connected for peer in west.network.statuses()]

    assert still_trusted == [True, True, True]
    assert west.counted("blocks_caught_up") == 5
    assert west.counted("signatures_verified") == 5 * 2 * 2
    assert west.chain.head.digest == blocks[-1].header.digest()


async def test_a_node_gives_its_blocks_from_a_height_on_and_none_that_it_has_not(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    blocks = history(tmp_path, genesis)
    west = holding(make("west"), blocks)

    answers = [await asked(west.catch_up, height) for height in (0, 2, 4, 1 << 62)]

    assert [answer.head_height for answer in answers] == [3, 3, 3, 3]
    given = [[decode_certified_block(encoded) for encoded in answer.blocks] for answer in answers]
    assert given == [blocks, blocks[1:], [], []]


def holding(node: WiredNode, blocks: list[CertifiedBlock]) -> WiredNode:
    """Let a node that does not run commit these blocks."""
    for block in blocks:
        transactions = [decode_transaction(envelope) for envelope in block.envelopes]
        execution = node.chain.execute(block.header, transactions)
        node.chain.commit(block.header, transactions, execution, block.certificate)
    return node


async def asked(catch_up: CatchUp, from_height: int) -> BlocksAnswer:
    return BLOCKS_ANSWER.decode(await catch_up._answer("east", encode(BlocksRequest(from_height))))


async def test_a_malformed_request_is_the_fault_of_who_sent_it(make: Make) -> None:
    west = make("west")

    with pytest.raises(PeerFaultError):
        await west.catch_up._answer("east", b"\xc1")


def test_an_announced_head_is_believed_under_its_certificate_only(genesis: Genesis, make: Make, tmp_path: Path) -> None:
    west, (*_, block) = make("west"), history(tmp_path, genesis)
    forged = too_few_signers(genesis, block)

    with pytest.raises(PeerFaultError):
        west.catch_up._on_head("east", b"\xc1")
    with pytest.raises(PeerFaultError):
        west.catch_up._on_head("east", encode(Head(forged.header, forged.certificate, ())))
    other = msgspec.structs.replace(block.header, time_ms=1)
    west.catch_up._on_head("east", encode(Head(other, block.certificate, ())))
    assert west.catch_up.blocks_behind == 0
    west.catch_up._on_head("east", encode(Head(block.header, block.certificate, ())))

    assert west.catch_up.blocks_behind == 3


def test_a_node_that_computes_something_else_than_the_quorum_stops(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    west, (block, *_) = make("west"), history(tmp_path, genesis)
    transactions = [decode_transaction(envelope) for envelope in block.envelopes]
    other = msgspec.structs.replace(block.result, state_root=bytes(32))

    with pytest.raises(DivergedError):
        west.driver.apply_certified(block.header, transactions, certify(genesis, block.header, other))

    assert west.height == 0
