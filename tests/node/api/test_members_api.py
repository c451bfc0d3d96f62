from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.schema.calls import Change, Propose, VoteOn
from storage.schema.codec import typed_id
from storage.schema.transaction import derived_id
from tests.support.council import card, organisation
from tests.support.live_node import LiveChain, MemberNode
from tests.support.served import operating, services_of

Get = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def get(chain: LiveChain, north: MemberNode, tmp_path: Path) -> Get:
    services = services_of(north, chain)

    async def ask(path: str, **query: Any) -> httpx.Response:
        async with operating(services, tmp_path / "node.sock") as client:
            return await client.get(path, params=query or None)

    return ask


def propose(chain: LiveChain, change: Change, member: str) -> bytes:
    outcome = chain.do("network.propose", Propose(change, b"e" * 32), [organisation(member)], member)
    assert outcome.code == "ok", outcome
    return derived_id(outcome.id)


def vote(chain: LiveChain, proposal: bytes, member: str, *, approve: bool = True) -> None:
    outcome = chain.do("network.vote", VoteOn(proposal, approve), [organisation(member)], member)
    assert outcome.code == "ok", outcome


async def test_members_are_listed_a_page_at_a_time(chain: LiveChain, get: Get) -> None:
    proposal = propose(chain, card("harbour"), "north")
    vote(chain, proposal, "east")
    vote(chain, proposal, "south")

    first = (await get("/v1/members", limit=3)).json()
    second = (await get("/v1/members", limit=3, after=first["next"])).json()

    assert [member["name"] for member in first["members"]] == ["east", "harbour", "north"]
    assert [member["name"] for member in second["members"]] == ["south", "west"]
    assert (first["next"], second["next"]) == ("north", None)
    assert [member["validates"] for member in first["members"]] == [True, False, True]
    assert first["height"] == 3


async def test_a_member_is_shown_by_name_with_its_keys_and_addresses(chain: LiveChain, get: Get) -> None:
    shown = (await get("/v1/members/north")).json()

    assert shown["roles"] == ["validator"]
    assert shown["organisation_key"] == organisation("north").key.hex()
    assert (shown["removed"], shown["keys_replaced"]) == (False, None)


async def test_proposals_are_listed_from_the_newest_with_their_votes(chain: LiveChain, get: Get) -> None:
    names = ("harbour", "abbey", "lake")
    made = [propose(chain, card(name), member) for name, member in zip(names, ("north", "south", "east"), strict=True)]
    vote(chain, made[0], "east")
    vote(chain, made[0], "west")
    vote(chain, made[1], "west", approve=False)

    first = (await get("/v1/proposals", limit=2)).json()
    second = (await get("/v1/proposals", limit=2, before=first["next"])).json()

    assert [each["change"]["name"] for each in first["proposals"]] == ["lake", "abbey"]
    assert [each["change"]["name"] for each in second["proposals"]] == ["harbour"]
    assert second["next"] is None
    abbey, harbour = first["proposals"][1], second["proposals"][0]
    assert (abbey["status"], abbey["approvals"], abbey["rejections"], abbey["quorum"]) == ("open", 1, 1, 3)
    assert (harbour["status"], harbour["change"]["kind"], harbour["evidence"]) == ("accepted", "admit", "65" * 32)
    assert harbour["votes"] == [{"member": name, "approve": True} for name in ("north", "east", "west")]


async def test_a_proposal_and_the_trails_of_it_and_of_its_member_are_found(chain: LiveChain, get: Get) -> None:
    proposal = propose(chain, card("harbour"), "north")
    vote(chain, proposal, "east")
    refused = chain.do("network.vote", VoteOn(proposal, True), [organisation("east")], "east")
    vote(chain, proposal, "south")
    name = typed_id("p", proposal)

    shown = (await get(f"/v1/proposals/{name}")).json()
    resolved = (await get(f"/v1/resolve/{name[:10]}")).json()
    of_proposal = (await get(f"/v1/audit/proposals/{name}")).json()["entries"]
    of_harbour = (await get("/v1/audit/members/harbour")).json()["entries"]
    of_east = (await get("/v1/audit/members/east")).json()["entries"]

    assert (shown["proposal"], shown["status"]) == (name, "accepted")
    assert resolved == {"matches": [name]}
    assert [(each["action"], each["actor"], each["proposal"]) for each in of_proposal] == [
        ("propose", "north", name),
        ("vote", "east", name),
        ("vote", "south", name),
    ]
    assert [(each["action"], each["actor"]) for each in of_harbour] == [("vote", "south")]
    assert [(each["action"], each["actor"], each["code"]) for each in of_east] == [("vote", "east", refused.code)]


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/v1/members/moon", {}, 404, "member.unknown"),
        ("/v1/members", {"limit": 0}, 400, "request.invalid"),
        ("/v1/members", {"limit": 101}, 400, "request.invalid"),
        (f"/v1/proposals/{typed_id('p', bytes(32))}", {}, 404, "proposal.not_found"),
        (f"/v1/proposals/{typed_id('c', bytes(32))}", {}, 400, "id.malformed"),
        ("/v1/proposals", {"before": "nonsense"}, 400, "id.malformed"),
        ("/v1/proposals", {"before": typed_id("p", bytes(32))}, 404, "proposal.not_found"),
        ("/v1/audit/members/moon", {}, 404, "member.unknown"),
        ("/v1/audit/proposals/p-x", {}, 400, "id.malformed"),
    ],
)
async def test_what_is_not_there_or_malformed_is_refused(
    get: Get, path: str, query: dict[str, Any], status: int, code: str
) -> None:
    answer = await get(path, **query)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
