"""Whole replicas on loopback: what a client hands in anywhere stands everywhere, whoever fails meanwhile."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from node.runtime.parts import votes_file
from storage.schema.block import VoteType, verify_certificate
from storage.schema.genesis import Genesis
from tests.node.replication.conftest import Make
from tests.support.chain import NAMES
from tests.support.members import until
from tests.support.small_ledger import of_member
from tests.support.wired_nodes import WiredNode, are_level, is_registered, killed_in_the_end, registration, running

pytestmark = pytest.mark.network


async def test_what_a_client_hands_in_anywhere_is_committed_everywhere_in_the_first_view(
    genesis: Genesis, make: Make
) -> None:
    nodes = [make(name) for name in NAMES]
    async with running(*nodes):
        for number, node in enumerate(nodes):
            assert await node.submit(registration(genesis, number)) == [""]

        await until(lambda: all(all_registered(nodes, number) for number in range(4)))
        await until(lambda: are_level(nodes))

    for node in nodes:
        head = node.chain.head
        assert head.certificate is not None
        verify_certificate(head.certificate, VoteType.COMMIT, genesis.chain_id, genesis.validators)
        assert (head.certificate.digest, head.certificate.result) == (head.digest, head.result_digest)
        assert node.engine.view == 0
        assert len(node.mempool) == 0
        assert node.counted("transactions_committed") == 4
        assert node.counted("synced_batches") == node.counted("blocks_committed") == node.height
        assert node.counted("signatures_verified") >= 4 * 2


async def test_when_the_primary_is_gone_the_others_go_on_in_a_new_view(genesis: Genesis, make: Make) -> None:
    nodes = [make(name) for name in NAMES]
    primary, *others = nodes
    async with killed_in_the_end(primary) as primary_scope, running(*others):
        await others[0].submit(registration(genesis, 1))
        await until(lambda: all(is_registered(node, 1) for node in nodes))
        assert {node.engine.primary for node in nodes} == {primary.name}

        primary_scope.cancel()
        assert await others[1].submit(registration(genesis, 2)) == [""]
        await until(lambda: all(is_registered(node, 2) for node in others))

    assert not is_registered(primary, 2)
    assert all(node.engine.view > 0 for node in others)
    assert primary.name not in {node.engine.primary for node in others}


async def test_a_node_that_was_away_takes_over_the_blocks_under_their_certificates(
    genesis: Genesis, make: Make
) -> None:
    *others, west = [make(name) for name in NAMES]
    async with running(*others):
        for number in range(5):
            await others[0].submit(registration(genesis, number))
            await until(partial(all_registered, others, number))

        async with running(west):
            await until(lambda: are_level([*others, west]))
            caught_up = west.counted("blocks_caught_up")
            await west.submit(registration(genesis, 9))
            await until(partial(all_registered, [*others, west], 9))

    assert caught_up >= 4
    assert west.catch_up.blocks_behind == 0
    # It has verified every signature by itself.
    assert west.counted("signatures_verified") >= 6 * 2


def all_registered(nodes: list[WiredNode], number: int) -> bool:
    return all(is_registered(node, number) for node in nodes)


async def some_history(genesis: Genesis, make: Make) -> None:
    """Let three, a quorum that needs each of them, commit something together, and stop."""
    nodes = [make(name) for name in NAMES[1:]]
    async with running(*nodes):
        await nodes[0].submit(registration(genesis, 0))
        await until(partial(all_registered, nodes, 0))
        await until(lambda: are_level(nodes))


async def test_a_replica_that_starts_again_votes_again(genesis: Genesis, make: Make) -> None:
    await some_history(genesis, make)

    # Three are the quorum: each of them must vote.
    nodes = [make(name) for name in NAMES[1:]]
    async with running(*nodes):
        await nodes[0].submit(registration(genesis, 1))
        await until(partial(all_registered, nodes, 1))

    assert {node.driver.halted for node in nodes} == {None}


async def test_a_node_that_lost_its_vote_log_follows_and_says_why(genesis: Genesis, make: Make, tmp_path: Path) -> None:
    await some_history(genesis, make)
    votes_file(tmp_path / "west", of_member("west", "node").key).unlink()

    *others, west = [make(name) for name in NAMES]
    async with running(*others), west.run():
        await others[0].submit(registration(genesis, 1))
        await until(partial(all_registered, [*others, west], 1))

    assert west.halted_log is not None
    assert west.halted_log.code == "votes.lost"
    assert "vote log was lost" in str(west.driver.halted)
    assert not west.may_vote


async def test_a_node_that_lost_everything_learns_from_the_others_that_it_must_not_vote(
    genesis: Genesis, make: Make, tmp_path: Path
) -> None:
    await some_history(genesis, make)
    make("west").close()
    shutil.rmtree(tmp_path / "west")

    *others, west = [make(name) for name in NAMES]
    async with running(*others), west.run():
        await until(lambda: west.driver.halted is not None)
        await until(lambda: are_level([*others, west]))

    assert west.halted_log is None
    assert "missing from its vote log" in str(west.driver.halted)


@pytest.mark.parametrize("ahead_ms", [-60_000, 60_000], ids=["behind", "ahead"])
async def test_a_primary_whose_clock_is_wrong_gets_no_vote_and_is_replaced(
    genesis: Genesis, make: Make, ahead_ms: int
) -> None:
    primary = make(NAMES[0], clock_ms=ahead_ms)
    others = [make(name) for name in NAMES[1:]]
    async with running(primary, *others):
        transaction = registration(genesis, 1)
        await others[0].submit(transaction)

        await until(lambda: all(is_registered(node, 1) for node in others))
        await until(lambda: are_level([primary, *others]))

    assert sum(node.counted("proposals_refused") for node in others) >= 2
    place = others[0].ledger.locate(transaction.id)
    assert place is not None
    assert others[0].ledger.header(place[0]).proposer != primary.name


async def test_a_backup_whose_clock_is_wrong_refuses_and_still_commits_what_the_quorum_certified(
    genesis: Genesis, make: Make
) -> None:
    *others, west = [make(name, clock_ms=90_000 if name == "west" else 0) for name in NAMES]
    async with running(*others, west):
        await others[0].submit(registration(genesis, 1))

        await until(partial(all_registered, [*others, west], 1))

    assert west.counted("proposals_refused") >= 1
    assert {node.engine.view for node in others} == {0}
