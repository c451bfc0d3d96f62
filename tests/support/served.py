"""The operator's API of a member's node on a real Unix socket, and ways to ask it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import trio
import trio.testing

from node.api.app import create_app
from node.api.server import listen_unix, serve
from node.api.services import Services
from tests.support.live_node import LiveChain, MemberNode

RECORD_BYTES_MAX = 3 << 20
GENESIS_FILE = b'{"schema": "as the founders signed it"}\n'


def no_verification(progress: Callable[[int, int], None]) -> Any:
    raise AssertionError("this test verifies no ledger")


def services_of(node: MemberNode, chain: LiveChain, **other: Any) -> Services:
    """The parts of a node, in the shape that the API takes them."""
    parts: dict[str, Any] = {
        "genesis": chain.genesis,
        "genesis_file": GENESIS_FILE,
        "custodian": node.custodian,
        "ledger": chain.kept,
        "commits": chain.commits,
        "submit": chain.submit,
        "deposits": node.deposits,
        "labels": node.labels,
        "reader": node.reader,
        "status": lambda: {"name": node.name, "height": chain.kept.head.header.height},
        "why_not_ready": list,
        "metrics": lambda: b"caretrace_height 1\n",
        "verify": no_verification,
        "on_damage": lambda _: None,
        "wall_ms": chain.wall_ms,
        "record_bytes_max": RECORD_BYTES_MAX,
    }
    return Services(**(parts | other))


@asynccontextmanager
async def served(app: Any, path: Path, *, connections_max: int = 64) -> AsyncIterator[trio.Event]:
    """Serve an app on a Unix socket; gives the event that stops it, and ends within the grace time."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: Any) -> None:
            await serve(app, [listen_unix(path)], stop, connections_max=connections_max, task_status=task_status)

        await nursery.start(run)
        try:
            yield stop
        finally:
            stop.set()


@asynccontextmanager
async def asking(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a Unix socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://node", timeout=10) as client:
        yield client


@asynccontextmanager
async def operating(services: Services, path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the operator's API of a node."""
    async with served(create_app(services), path), asking(path) as client:
        yield client


async def raw_exchange(path: Path, request: bytes) -> bytes:
    """Send bytes as they are, and read until the node closes."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(request)
        answer = b""
        # Whoever was refused in the midst of sending is reset in the end, after the refusal.
        with suppress(trio.BrokenResourceError):
            async for part in stream:
                answer += part
        return answer


async def until(condition: Callable[[], bool]) -> None:
    """Let everything that can run do so until a condition holds."""
    with trio.fail_after(5):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)
