"""What a real node, all of whose parts run, says of itself."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from node.config import Config, Home
from node.replication.chain import DivergedError
from node.runtime.parts import Opened, Parts, open_ledger, open_vote_log, votes_file
from node.runtime.standing import Standing
from storage.schema.genesis import Genesis
from storage.schema.invite import Contact, Invite, load_invite
from storage.vote_log import VoteLogError
from tests.support.live_node import sealing_secret
from tests.support.members import until
from tests.support.small_ledger import Actor, of_member, service
from tests.support.vectors import vector_bytes
from tests.support.wired_nodes import WiredNode, make_genesis, registration, running

pytestmark = pytest.mark.network


@asynccontextmanager
async def standing_of(
    folder: Path, genesis: Genesis, name: str, node: Actor, invite: Invite | None = None
) -> AsyncIterator[Standing]:
    member = genesis.member(name)
    listen = member.addresses if member is not None else ("/ip4/127.0.0.1/tcp/0",)
    home, config = Home(folder), Config(name=name, listen=listen)
    data = folder / "data"
    ledger = open_ledger(data, genesis)
    try:
        vote_log = open_vote_log(data, ledger, genesis, node.key)
    except VoteLogError:
        vote_log = None
    keys = {"node": node.seed, "service": service(name).seed}
    keys["encryption"] = sealing_secret(of_member(name, "encryption"))
    parts = Parts(home, config, genesis, keys, Opened(ledger, vote_log), invite=invite)
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


def standing_of_west(folder: Path, genesis: Genesis) -> AbstractAsyncContextManager[Standing]:
    return standing_of(folder, genesis, "west", of_member("west", "node"))


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
    assert status["membership"] == "validator"


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


async def test_a_stranger_says_that_it_is_not_admitted_and_whom_it_has_found(tmp_path: Path) -> None:
    genesis = make_genesis()
    node = of_member("harbour", "node")
    async with standing_of(tmp_path / "alone", genesis, "harbour", node) as alone:
        unheard = alone.membership()
    east = WiredNode("east", genesis, tmp_path / "east")
    async with east.run(), standing_of(tmp_path / "h", genesis, "harbour", node) as standing:
        await until(lambda: standing.membership().startswith("not admitted yet: 1 of 4 members are found"))
        reasons = standing.why_not_ready()
    east.close()

    assert unheard == "not admitted yet, and none of 4 members is reachable"
    assert any("refuse its key" in reason for reason in reasons)


async def test_a_member_whose_key_was_replaced_says_that_it_is_refused(tmp_path: Path) -> None:
    genesis = make_genesis()
    east = WiredNode("east", genesis, tmp_path / "east")
    async with east.run(), standing_of(tmp_path / "w", genesis, "west", Actor("another")) as standing:
        await until(lambda: "1 of 3 members refuse its key" in standing.membership())
        words = standing.membership()
    east.close()

    assert words.startswith("its node key is not the one that the ledger states: it follows and has no vote")


async def test_an_invited_node_dials_whom_the_invite_names_until_it_has_reached_it(tmp_path: Path) -> None:
    contacts = (Contact("lake", Actor("lake").key, ()), Contact("harbour", Actor("harbour").key, ()))
    invite = replace(load_invite(vector_bytes("invite.bin")).invite, members=contacts)

    async with standing_of(tmp_path, make_genesis(), "harbour", of_member("harbour", "node"), invite) as standing:
        named = [peer["name"] for peer in standing.status()["peers"]]

    assert named == ["lake"]


async def test_an_invited_node_stops_where_the_chain_is_not_the_one_that_the_invite_names(tmp_path: Path) -> None:
    genesis = make_genesis()
    others = [WiredNode(name, genesis, tmp_path / name) for name in ("east", "north", "south")]
    known = tuple(
        Contact(member.name, member.node_key, member.addresses)
        for member in genesis.body.members
        if member.name != "west"
    )
    elsewhere = load_invite(vector_bytes("invite.bin")).invite
    invite = replace(elsewhere, members=known, header=replace(elsewhere.header, height=1))
    west = of_member("west", "node")

    async def follow() -> None:
        async with running(*others), standing_of(tmp_path / "west", genesis, "west", west, invite):
            await others[0].submit(registration(genesis, 1))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as stopped, trio.fail_after(60):
        await follow()
    for node in others:
        node.close()

    assert stopped.group_contains(DivergedError, match="another chain")
