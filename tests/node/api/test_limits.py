from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from node.api.limits import HEADERS_MAX, Limits
from node.api.problems import ProblemError, answer_problem
from tests.support.served import asking, raw_exchange, served

BODY_BYTES_MAX = 1000


async def size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def ignore(_: Request) -> Response:
    return PlainTextResponse("no need to read it")


async def hang(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


def bounded(requests_max: int = 8) -> Limits:
    routes = [Route("/size", size, methods=["POST"]), Route("/ignore", ignore, methods=["POST"]), Route("/hang", hang)]
    app = Starlette(routes=routes, exception_handlers={ProblemError: answer_problem})
    return Limits(
        app,
        requests_max=requests_max,
        body_bytes_max=lambda path: 1 << 30 if path == "/ignore" else BODY_BYTES_MAX,
    )


@pytest.mark.parametrize(("size_bytes", "status"), [(0, 200), (1000, 200), (1001, 413), (5_000_000, 413)])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_bound_of_its_path_is_413(
    tmp_path: Path, size_bytes: int, status: int, is_chunked: bool
) -> None:
    async def parts():  # type: ignore[no-untyped-def]
        yield bytes(size_bytes)

    async with served(bounded(), tmp_path / "n.sock"), asking(tmp_path / "n.sock") as client:
        answer = await client.post("/size", content=parts() if is_chunked else bytes(size_bytes))

    assert answer.status_code == status
    assert status == 413 or answer.text == str(size_bytes)


async def test_a_length_over_the_bound_is_refused_before_any_of_the_body_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"

    async with served(bounded(), path), await trio.open_unix_socket(path) as stream:
        await stream.send_all(b"POST /size HTTP/1.1\r\nhost: n\r\ncontent-length: 99999999999\r\n\r\n")
        with trio.fail_after(1):
            answer = await stream.receive_some()

    assert answer.startswith(b"HTTP/1.1 413")


async def test_an_answer_that_needs_no_body_does_not_wait_for_it_and_harms_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"

    async with served(bounded(), path), asking(path) as client:
        for _ in range(3):
            answer = await client.post("/ignore", content=bytes(3_000_000))
            assert answer.text == "no need to read it"


async def test_a_client_that_sends_without_end_gets_its_answer_and_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"

    async def send_on(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(chunk)

    async with served(bounded(), path), await trio.open_unix_socket(path) as stream:
        await stream.send_all(b"POST /size HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\n")
        with trio.fail_after(5):
            await send_on(stream)
        answer = await stream.receive_some()

    assert answer.startswith(b"HTTP/1.1 413")


async def test_too_many_header_fields_are_431(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    fields = b"".join(b"x-%d: 1\r\n" % number for number in range(HEADERS_MAX))

    async with served(bounded(), path):
        answer = await raw_exchange(path, b"GET /hang HTTP/1.1\r\nhost: n\r\nconnection: close\r\n" + fields + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 431")


async def test_one_request_too_many_at_once_is_429_and_places_come_free_again(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"

    async with served(bounded(requests_max=2), path), asking(path) as client, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(client.get, "/hang")
        await trio.testing.wait_all_tasks_blocked(0.05)
        refused = await client.post("/size", content=b"x")
        nursery.cancel_scope.cancel()

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["code"] == "http.busy"
