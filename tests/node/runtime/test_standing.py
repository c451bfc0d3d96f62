"""What a real node, all of whose parts run, says of itself."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from node.config import Config, Home
from node.runtime.parts import Opened, Parts, open_ledger, open_vote_log, votes_file
from node.runtime.standing import Standing
from storage.schema.genesis import Genesis
from storage.vote_log import VoteLogError
from tests.support.live_node import sealing_secret
from tests.support.members import until
from tests.support.small_ledger import of_member, service
from tests.support.wired_nodes import WiredNode, make_genesis

pytestmark = pytest.mark.network


@asynccontextmanager
async def standing_of_west(folder: Path, genesis: Genesis) -> AsyncIterator[Standing]:
    member = genesis.member("west")
    assert member is not None
    home, config = Home(folder), Config(name="west", listen=member.addresses)
    data = folder / "data"
    ledger = open_ledger(data, genesis)
    try:
        vote_log = open_vote_log(data, ledger, genesis, member.node_key)
    except VoteLogError:
        vote_log = None
    keys = {"node": of_member("west", "node").seed, "service": service("west").seed}
    keys["encryption"] = sealing_secret(of_member("west", "encryption"))
    parts = Parts(home, config, genesis, keys, Opened(ledger, vote_log))
    async with parts.network.run(), trio.open_nursery() as nursery:
        nursery.start_soon(parts.driver.run, partial(secrets.token_bytes, 16))
        nursery.start_soon(parts.catch_up.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        try:
            yield Standing(parts, data)
        finally:
            nursery.cancel_scope.cancel()
    ledger.close()
    if vote_log is not None:
        vote_log.close()


async def test_a_node_alone_says_that_it_waits_and_how_many_it_lacks(tmp_path: Path) -> None:
    genesis = make_genesis()
    async with standing_of_west(tmp_path, genesis) as standing:
        status = standing.status()

    assert status["ready"] is False
    assert status["why_not"] == [
        "it waits until enough members have said which of its votes they hold",
        "a quorum is 3 validators, and 1 are reachable",
    ]
    assert status["quorum"] == {"have": 1, "need": 3}
    assert [peer["connected"] for peer in status["peers"]] == [False, False, False]
    assert status["height"] == 0
    assert status["chain_id"] == genesis.chain_id.hex()
    assert status["validators"] == ["east", "north", "south", "west"]


async def test_with_a_quorum_it_is_ready_and_shows_whom_it_hears(tmp_path: Path) -> None:
    genesis = make_genesis()
    others = [WiredNode(name, genesis, tmp_path / name) for name in ("east", "north")]
    async with others[0].run(), others[1].run(), standing_of_west(tmp_path / "west", genesis) as standing:
        await until(lambda: not standing.why_not_ready())
        status = standing.status()
        told = standing.why_not_ready()
    for node in others:
        node.close()

    assert status["ready"] is True
    assert "why_not" not in status
    assert told == []
    assert {peer["name"]: peer["connected"] for peer in status["peers"]} == {
        "east": True,
        "north": True,
        "south": False,
    }
    assert status["quorum"] == {"have": 3, "need": 3}
    assert status["primary"] == "east"


async def test_without_its_vote_log_it_says_that_it_only_follows(tmp_path: Path) -> None:
    genesis = make_genesis()
    async with standing_of_west(tmp_path, genesis):
        pass
    votes_file(tmp_path / "data", of_member("west", "node").key).unlink()

    async with standing_of_west(tmp_path, genesis) as standing:
        first, *_ = standing.why_not_ready()

    assert first.startswith("it votes no more and only follows: the vote log was lost")
