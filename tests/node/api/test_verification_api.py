import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from node.runtime.inspect import verify_running
from storage.integrity import Finding, Report
from tests.support.live_node import LiveChain, MemberNode
from tests.support.served import operating, services_of, until
from tests.support.small_ledger import Actor


async def test_a_running_nodes_ledger_is_verified_and_progress_is_told(
    chain: LiveChain, north: MemberNode, tmp_path: Path
) -> None:
    for number in range(3):
        chain.register(Actor(f"patient {number}"))

    async with operating(
        services_of(north, chain, verify=partial(verify_running, chain.kept, chain.genesis)), tmp_path / "n.sock"
    ) as client:
        answer = await client.post("/v1/ledger/verify")

    *progress, report = [json.loads(line) for line in answer.text.splitlines()]
    assert report == {"ok": True, "from": 0, "to": 3, "blocks": 3}
    assert progress[-1] == {"progress": {"height": 3, "of": 3}}


async def test_what_is_wrong_is_told_with_height_and_area(chain: LiveChain, north: MemberNode, tmp_path: Path) -> None:
    found = Report(0, 9, 4, Finding(5, "outcomes", "checksum mismatch"))

    async with operating(services_of(north, chain, verify=lambda _: found), tmp_path / "n.sock") as client:
        answer = await client.post("/v1/ledger/verify")

    assert json.loads(answer.text.splitlines()[-1]) == {
        "ok": False,
        "from": 0,
        "to": 9,
        "blocks": 4,
        "first_bad": {"height": 5, "area": "outcomes", "why": "checksum mismatch"},
    }


async def test_one_verification_runs_at_a_time_and_ends_when_its_client_leaves(
    chain: LiveChain, north: MemberNode, tmp_path: Path
) -> None:
    path, running, ended = tmp_path / "n.sock", threading.Event(), threading.Event()

    def endless(progress: Callable[[int, int], None]) -> Report:
        running.set()
        try:
            while True:
                progress(1, 2)
        finally:
            ended.set()

    async with operating(services_of(north, chain, verify=endless), path) as client:
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"POST /v1/ledger/verify HTTP/1.1\r\nhost: n\r\n\r\n")
            await until(running.is_set)
            second = await client.post("/v1/ledger/verify")
            others = await client.get("/livez")
        await until(ended.is_set)

    assert (second.status_code, second.json()["code"], others.status_code) == (429, "http.busy", 200)
