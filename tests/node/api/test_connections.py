import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import node.api.server
from tests.support.served import raw_exchange, served


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def hang(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


APP = Starlette(routes=[Route("/hello", hello), Route("/hang", hang)])
GET_HELLO = b"GET /hello HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"


async def test_one_request_too_many_is_turned_away_and_the_others_go_on(tmp_path: Path) -> None:
    path, released = tmp_path / "node.sock", trio.Event()

    async def wait(_: Request) -> Response:
        await released.wait()
        return PlainTextResponse("waited")

    async with served(Starlette(routes=[Route("/hello", wait)]), path, connections_max=2):
        async with await trio.open_unix_socket(path) as one, await trio.open_unix_socket(path) as two:
            await one.send_all(GET_HELLO)
            await two.send_all(GET_HELLO)
            await trio.testing.wait_all_tasks_blocked(0.05)
            turned_away = await raw_exchange(path, GET_HELLO)
            released.set()
            answered = await one.receive_some(9)
        await trio.testing.wait_all_tasks_blocked(0.05)
        later = await raw_exchange(path, GET_HELLO)

    assert turned_away.startswith(b"HTTP/1.1 429")
    assert b"\r\nretry-after: 1\r\n" in turned_away
    assert b'"code":"http.busy"' in turned_away
    assert answered == b"HTTP/1.1 "
    assert later.endswith(b"waited")


async def test_a_burst_of_connections_larger_than_all_places_is_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path, connections_max=2):
        with ExitStack() as burst:
            for _ in range(300):
                client = burst.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(5)
                client.connect(str(path))
            answered = await raw_exchange(path, GET_HELLO)

    assert answered.endswith(b"hello")


async def test_who_connects_and_says_nothing_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path, connections_max=2), await trio.open_unix_socket(path) as works:
        await works.send_all(GET_HELLO.replace(b"hello", b"hang"))
        async with await trio.open_unix_socket(path) as silent:
            await silent.send_all(b"GET /hello HTTP/1.1\r\nhost:")
            await trio.testing.wait_all_tasks_blocked(0.05)
            answered = await raw_exchange(path, GET_HELLO)
            with trio.fail_after(5), suppress(trio.BrokenResourceError):
                assert await silent.receive_some() == b""
        with trio.move_on_after(0.05) as still_waits:
            await works.receive_some()

    assert answered.endswith(b"hello")
    assert still_waits.cancelled_caught


async def test_a_connection_that_says_nothing_is_closed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.sock"
    monkeypatch.setattr(node.api.server, "IDLE_S", 0.1)

    async with served(APP, path), await trio.open_unix_socket(path) as silent:
        await silent.send_all(b"GET /hello HTTP/1.1\r\nhost:")
        with trio.fail_after(5):
            closed = await silent.receive_some()

    assert closed == b""


async def test_a_client_that_leaves_an_open_connection_frees_its_place_at_once(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path, connections_max=2):
        for _ in range(2):
            async with await trio.open_unix_socket(path) as client:
                await client.send_all(GET_HELLO.replace(b"connection: close\r\n", b""))
                await client.receive_some(9)
        await trio.sleep(0.05)
        later = await raw_exchange(path, GET_HELLO)

    assert later.endswith(b"hello")
