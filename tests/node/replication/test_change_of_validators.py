"""Whole replicas on loopback while the members change who validates, and what those make of it who were away."""

import time
from functools import partial

import pytest

from node.contracts.entries import load_validators
from storage.schema.calls import Admit, Change, Propose, ReplaceKeys, SetRole, VoteOn
from storage.schema.codec import Value
from storage.schema.genesis import Genesis
from storage.schema.transaction import (
    Transaction,
    decode_transaction,
    derived_id,
    encode_body,
    encode_envelope,
    sign_body,
)
from tests.node.replication.conftest import Make
from tests.support.chain import NAMES
from tests.support.council import card, organisation
from tests.support.members import free_port, until
from tests.support.small_ledger import of_member
from tests.support.wired_nodes import WiredNode, are_level, is_registered, registration, running

pytestmark = pytest.mark.network


def signed(genesis: Genesis, member: str, method: str, arguments: Value) -> Transaction:
    """A call of a member's organisation key."""
    actor, nonce = organisation(member), time.time_ns().to_bytes(16, "big")
    body = encode_body(genesis.chain_id, nonce, int(time.time()) + 300, member, [actor.key], method, arguments)
    return decode_transaction(encode_envelope(body, [sign_body(body, actor.seed)]))


async def order(node: WiredNode, transaction: Transaction) -> None:
    assert await node.submit(transaction) == [""]
    await until(lambda: node.ledger.contains(transaction.id))


async def decide(node: WiredNode, change: Change, *members: str) -> None:
    """Propose a change by the first of these members, and approve it by the others."""
    proposal = signed(node.genesis, members[0], "network.propose", Propose(change, None))
    await order(node, proposal)
    for member in members[1:]:
        await order(node, signed(node.genesis, member, "network.vote", VoteOn(derived_id(proposal.id), True)))


def harbour() -> Admit:
    return card("harbour", addresses=(f"/ip4/127.0.0.1/tcp/{free_port()}",))


def stand_in_epoch(epoch: int, *nodes: WiredNode) -> bool:
    return all(node.ledger.validators.epoch == epoch for node in nodes) and are_level(nodes)


async def test_a_newcomer_follows_once_it_is_admitted_and_votes_from_the_next_epoch_on(
    genesis: Genesis, make: Make
) -> None:
    nodes, applicant = [make(name) for name in NAMES], harbour()
    async with running(*nodes):
        await decide(nodes[0], applicant, "east", "north", "south")
        newcomer = make("harbour", listen=applicant.addresses)
        async with newcomer.run():
            await until(lambda: are_level([*nodes, newcomer]))
            assert not newcomer.may_vote

            await decide(nodes[0], SetRole("harbour", "validator"), "east", "north", "south")
            await until(lambda: stand_in_epoch(1, *nodes, newcomer))
            await until(lambda: newcomer.may_vote)
            await order(newcomer, registration(genesis, 1))
            await until(lambda: all(is_registered(node, 1) for node in nodes))

    assert [validator.name for validator in nodes[0].ledger.validators.validators] == sorted([*NAMES, "harbour"])
    assert nodes[0].ledger.validators.quorum == 4


async def test_a_validator_that_was_away_while_the_set_changed_finds_the_new_epoch_and_votes_in_it(
    genesis: Genesis, make: Make
) -> None:
    *nodes, west = [make(name) for name in NAMES]
    async with running(*nodes):
        await order(nodes[0], signed(genesis, "east", "network.replace_keys", other_key("east")))
        await until(lambda: stand_in_epoch(1, *nodes[1:]))

        async with west.run():
            # East's node holds the key that was replaced: the quorum is north, south and west.
            await until(lambda: stand_in_epoch(1, *nodes[1:], west))
            await until(lambda: west.may_vote)
            await order(nodes[1], registration(genesis, 1))
            await until(lambda: is_registered(west, 1))

        assert not nodes[0].may_vote


async def test_a_state_that_is_taken_brings_the_epochs_that_lead_to_it(genesis: Genesis, make: Make) -> None:
    *nodes, west = [make(name) for name in NAMES]
    async with running(*nodes):
        await order(nodes[0], signed(genesis, "west", "network.replace_keys", other_key("west")))
        await until(lambda: stand_in_epoch(1, *nodes))
        before = make("west", node_key="new node", blocks_behind_max=0)
        async with before.run():
            before.catch_up.want(nodes[0].height, tuple(node.name for node in nodes))
            await until(before.has_taken_state.is_set)
        west = make("west", node_key="new node")
        taken_from = west.ledger.history_from

        async with west.run():
            await until(lambda: west.may_vote)
            await order(west, registration(genesis, 1))
            await until(lambda: are_level([*nodes, west]))
            await until(lambda: west.ledger.history_from == 1)

    assert taken_from > 1
    assert west.ledger.validators.epoch == 1


def other_key(member: str) -> ReplaceKeys:
    return ReplaceKeys(of_member(member, "new node").key, None, None)


async def test_a_primary_that_a_block_of_its_own_makes_an_observer_follows_the_others_from_then_on(
    genesis: Genesis, make: Make
) -> None:
    nodes, applicant = [make(name) for name in NAMES], harbour()
    async with running(*nodes):
        await decide(nodes[0], applicant, "east", "north", "south")
        newcomer = make("harbour", listen=applicant.addresses)
        async with newcomer.run():
            await decide(nodes[0], SetRole("harbour", "validator"), "east", "north", "south")
            await until(lambda: stand_in_epoch(1, *nodes, newcomer))
            primary = next(node for node in nodes if node.name == nodes[0].engine.primary)
            others = [node for node in nodes if node is not primary]

            change = SetRole(primary.name, "observer")
            await decide(others[0], change, *[node.name for node in others], "harbour")
            await until(lambda: stand_in_epoch(2, *nodes, newcomer))
            await order(primary, registration(genesis, 1))
            await until(lambda: all(is_registered(node, 1) for node in (*others, newcomer)))

    handover = primary.ledger.header(primary.ledger.epochs.handover_height)
    assert handover.proposer == primary.name
    assert primary.name not in [validator.name for validator in load_validators(primary.ledger.state).validators]
    assert not primary.may_vote


async def test_a_node_that_starts_again_stands_in_the_epoch_in_which_it_stopped(genesis: Genesis, make: Make) -> None:
    nodes = [make(name) for name in NAMES]
    async with running(*nodes):
        await order(nodes[0], signed(genesis, "east", "network.replace_keys", other_key("east")))
        await until(lambda: stand_in_epoch(1, *nodes[1:]))
        await order(nodes[1], registration(genesis, 1))
        await until(partial(are_level, nodes[1:]))

    again = [make(name) for name in NAMES[1:]]
    async with running(*again):
        await order(again[0], registration(genesis, 2))
        await until(lambda: all(is_registered(node, 2) for node in again))

    assert {node.ledger.validators.epoch for node in again} == {1}


async def test_a_node_that_was_started_with_its_new_key_votes_where_the_old_one_only_followed(
    genesis: Genesis, make: Make
) -> None:
    east, *others = [make(name) for name in NAMES]
    async with running(*others):
        async with east.run():
            await until(lambda: east.may_vote)
            await order(others[0], signed(genesis, "east", "network.replace_keys", other_key("east")))
            await until(lambda: stand_in_epoch(1, *others))
        renewed = make("east", node_key="new node")
        async with renewed.run():
            await until(lambda: renewed.may_vote)
            await order(renewed, registration(genesis, 1))

    assert renewed.driver.halted is None
