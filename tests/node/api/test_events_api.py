import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.api.app import create_app
from node.api.commits import Commits
from node.api.events import FOLLOWERS_MAX
from tests.support.live_node import LiveChain, MemberNode
from tests.support.served import operating, served, services_of
from tests.support.small_ledger import Actor


class Follower:
    """A client of the events, which reads the bytes as they come."""

    MESSAGE = re.compile(rb"(?:id: (\d+)\n)?event: (\w+)\ndata: (.*)\n\n")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._read = b""

    async def begin(self, last_event_id: str = "") -> None:
        resumed = f"last-event-id: {last_event_id}\r\n" if last_event_id else ""
        await self._stream.send_all(f"GET /v1/events HTTP/1.1\r\nhost: n\r\n{resumed}\r\n".encode())
        await self._read_until(re.compile(rb": blocks above \d+\n\n"))

    async def next(self) -> tuple[str, str, Any]:
        found = await self._read_until(self.MESSAGE)
        height, event, data = found.groups()
        return (height or b"").decode(), event.decode(), json.loads(data)

    async def _read_until(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        with trio.fail_after(5):
            while not (found := pattern.search(self._read)):
                part = await self._stream.receive_some()
                assert part, f"the node closed after {self._read!r}"
                self._read += part
        self._read = self._read[found.end() :]
        return found


@asynccontextmanager
async def following(path: Path, last_event_id: str = "") -> AsyncIterator[Follower]:
    async with await trio.open_unix_socket(path) as stream:
        follower = Follower(stream)
        await follower.begin(last_event_id)
        yield follower


async def test_each_block_is_one_message_with_its_height_as_id(
    chain: LiveChain, north: MemberNode, tmp_path: Path
) -> None:
    path = tmp_path / "n.sock"

    async with operating(services_of(north, chain), path), following(path) as follower:
        chain.register(Actor("one"))
        first = await follower.next()
        chain.register(Actor("two"))
        second = await follower.next()

    assert (first[:2], second[:2]) == (("1", "block"), ("2", "block"))
    assert first[2]["height"] == 1
    assert first[2]["outcomes"][0]["events"][0]["kind"] == "patient.registered"


async def test_a_follower_that_was_away_gets_all_blocks_since_without_a_gap(
    chain: LiveChain, north: MemberNode, tmp_path: Path
) -> None:
    path = tmp_path / "n.sock"
    for number in range(5):
        chain.register(Actor(f"patient {number}"))

    async with operating(services_of(north, chain), path), following(path, "2") as follower:
        seen = [(await follower.next())[0] for _ in range(3)]

    assert seen == ["3", "4", "5"]


@pytest.mark.parametrize("seen", ["7", "-1", "soon"])
async def test_a_height_that_no_block_has_is_refused(
    chain: LiveChain, north: MemberNode, tmp_path: Path, seen: str
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        answer = await client.get("/v1/events", headers={"last-event-id": seen})

    assert (answer.status_code, answer.json()["code"]) == (400, "block.not_found")


async def test_a_node_that_stops_says_bye_to_its_followers_and_is_not_held_back(
    chain: LiveChain, north: MemberNode, tmp_path: Path
) -> None:
    path = tmp_path / "n.sock"

    async with served(create_app(services_of(north, chain)), path) as stop, following(path) as follower:
        began = trio.current_time()
        stop.set()
        chain.commits.close()
        last = await follower.next()

    assert last[1] == "bye"
    assert trio.current_time() - began < 1


async def test_a_follower_that_left_gives_its_place_free(chain: LiveChain, north: MemberNode, tmp_path: Path) -> None:
    path = tmp_path / "n.sock"

    async with operating(services_of(north, chain), path) as client:
        async with AsyncExitStack() as followers:
            for _ in range(FOLLOWERS_MAX):
                await followers.enter_async_context(following(path))
            refused = await client.get("/v1/events")
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with following(path):
            chain.register(Actor("one"))

    assert (refused.status_code, refused.json()["code"]) == (429, "http.busy")


async def test_waiting_for_a_commit_ends_with_it_for_everyone_who_waits() -> None:
    commits = Commits(0)
    woken = []

    async def wait(name: str, tx_id: bytes, timeout_s: float) -> None:
        woken.append((name, await commits.wait_for(tx_id, timeout_s)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "first", b"a", 5)
        nursery.start_soon(wait, "second", b"a", 5)
        nursery.start_soon(wait, "other", b"b", 5)
        await trio.testing.wait_all_tasks_blocked()
        commits.on_block(1, [b"z", b"a"])
        await trio.testing.wait_all_tasks_blocked()
        before = sorted(woken)
        commits.close()

    assert before == [("first", True), ("second", True)]
    assert (woken[2:], commits.waiting) == ([("other", False)], 0)


async def test_who_waits_in_vain_leaves_nothing_behind_and_takes_nobody_along(
    autojump_clock: trio.testing.MockClock,
) -> None:
    commits = Commits(0)
    woken = []

    async def wait(timeout_s: float) -> None:
        woken.append((timeout_s, await commits.wait_for(b"a", timeout_s)))

    async with trio.open_nursery() as nursery:
        for timeout_s in (1, 1, 3):
            nursery.start_soon(wait, timeout_s)
        await trio.sleep(2)
        still = commits.waiting
        commits.on_block(1, [b"a"])

    assert woken == [(1, False), (1, False), (3, True)]
    assert (still, commits.waiting) == (1, 0)


async def test_waiting_for_a_height_ends_at_the_first_block_above_it() -> None:
    commits = Commits(4)
    seen = []

    async def wait() -> None:
        seen.append(await commits.wait_above(4))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        commits.on_block(5, [])

    assert (seen, await commits.wait_above(2)) == ([5], 5)
