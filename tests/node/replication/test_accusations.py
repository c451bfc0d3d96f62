"""How an accusation becomes one transaction, whoever has seen it."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from msgspec.structs import replace

from consensus.engine import Accuse
from consensus.pbft.messages import MESSAGE, Vote
from node.contracts.evidence import load_evidence
from node.replication.accusations import PENDING_MAX, turn
from storage.schema.block import OUTCOME, ZERO_DIGEST, VoteType, vote_preimage
from storage.schema.codec import encode
from storage.schema.events import EquivocationProven
from storage.schema.evidence import evidence_id
from storage.schema.genesis import Genesis
from storage.schema.signatures import sign
from tests.node.replication.conftest import Make
from tests.support.chain import NAMES
from tests.support.members import until
from tests.support.small_ledger import of_member
from tests.support.wired_nodes import WiredNode, are_level, registration, running

pytestmark = pytest.mark.network

SOUTH = of_member("south", "node")


def accusation(genesis: Genesis, height: int = 1) -> Accuse:
    """South has signed two PREPAREs."""
    position = genesis.validators.position("south")
    assert position is not None
    votes = []
    for block in (b"\x01" * 32, b"\x02" * 32):
        preimage = vote_preimage(genesis.chain_id, 0, VoteType.PREPARE, 3, height, block)
        signature = sign(SOUTH.seed, preimage)
        votes.append(Vote(VoteType.PREPARE, 0, 3, height, block, ZERO_DIGEST, position, signature))
    return Accuse("south", encode(votes[0]), encode(votes[1]))


def in_turn(nodes: Sequence[WiredNode], number: int, height: int = 1) -> WiredNode:
    """The node whose turn it is to report as the first, second or third."""
    name = evidence_id(SOUTH.key, height)
    return next(node for node in nodes if turn(node.genesis.validators, node.name, "south", name) == number)


def convictions(node: WiredNode) -> list[EquivocationProven]:
    heights = range(1, node.height + 1)
    outcomes = [OUTCOME.decode(each) for height in heights for each in node.ledger.block(height).outcomes]
    return [event for outcome in outcomes for event in outcome.events if isinstance(event, EquivocationProven)]


def is_convicted(nodes: Sequence[WiredNode], height: int = 1) -> bool:
    name = evidence_id(SOUTH.key, height)
    return all(load_evidence(node.ledger.state, name) is not None for node in nodes)


async def test_what_all_have_seen_one_reports_and_it_stands_once_on_every_node(genesis: Genesis, make: Make) -> None:
    nodes = [make(name) for name in NAMES]
    async with running(*nodes):
        for node in nodes:
            node.accusations.accuse(accusation(genesis))
            node.accusations.accuse(accusation(genesis))
        await until(lambda: is_convicted(nodes))
        await until(lambda: are_level(nodes) and not any(node.accusations._pending for node in nodes))

    told = [convictions(node) for node in nodes]
    assert told == [told[0]] * len(nodes)
    assert [event.member for event in told[0]] == ["south"]
    assert told[0][0].reporter != "south"


async def test_what_one_alone_has_seen_it_reports_when_its_turn_has_come(genesis: Genesis, make: Make) -> None:
    nodes = [make(name) for name in NAMES]
    witness = in_turn(nodes, 1)
    async with running(*nodes):
        witness.accusations.accuse(accusation(genesis))

        await until(lambda: is_convicted(nodes), within_s=30)

    assert [event.reporter for event in convictions(nodes[1])] == [witness.name]


async def test_what_the_ledger_holds_is_not_reported_again(genesis: Genesis, make: Make) -> None:
    nodes = [make(name) for name in NAMES]
    async with running(*nodes):
        in_turn(nodes, 0).accusations.accuse(accusation(genesis))
        await until(lambda: is_convicted(nodes), within_s=30)

        in_turn(nodes, 1).accusations.accuse(accusation(genesis))
        await until(lambda: not in_turn(nodes, 1).accusations._pending)
        await nodes[0].submit(registration(genesis, 1))
        await until(lambda: are_level(nodes, 2))

    assert len(convictions(nodes[2])) == 1


async def test_what_proves_nothing_under_the_members_key_of_now_is_not_reported(genesis: Genesis, make: Make) -> None:
    node, good = make("east"), accusation(genesis)
    second = MESSAGE.decode(good.second)

    node.accusations.accuse(Accuse("south", good.first, encode(replace(second, signature=bytes(64)))))
    node.accusations.accuse(Accuse("north", good.first, good.second))

    assert node.accusations._pending == {}


async def test_what_is_pending_is_bounded(genesis: Genesis, make: Make) -> None:
    node = make("east")

    for height in range(1, 2 * PENDING_MAX):
        node.accusations.accuse(accusation(genesis, height))

    assert len(node.accusations._pending) == PENDING_MAX


def test_every_validator_but_the_accused_has_a_turn_of_its_own_and_others_come_last(genesis: Genesis) -> None:
    for number in range(50):
        evidence = sha256(b"%d" % number).digest()
        turns = {name: turn(genesis.validators, name, "south", evidence) for name in NAMES if name != "south"}

        assert sorted(turns.values()) == [0, 1, 2]
        assert turn(genesis.validators, "clinic", "south", evidence) == 3
