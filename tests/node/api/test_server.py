import random
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from hypercorn.events import Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from node.api.health import create_health_app
from node.api.server import ListenError, address_of, listen_tcp, listen_unix, serve
from node.api.streaming import StreamedResponse, Write
from tests.support.served import asking, raw_exchange, served


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def endless(_: Request) -> Response:
    async def write_on(write: Write) -> None:
        while True:
            await write(bytes(1 << 20))

    return StreamedResponse(write_on, "application/octet-stream")


async def hang(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


APP = Starlette(routes=[Route("/hello", hello), Route("/endless", endless), Route("/hang", hang)])
GET_HELLO = b"GET /hello HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"


async def test_the_socket_answers_and_is_its_owners_only_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path), asking(path) as client:
        answer = await client.get("/hello")
        mode = stat.S_IMODE(path.stat().st_mode)

    assert (answer.text, mode) == ("hello", 0o600)
    assert not path.exists()


async def test_the_socket_of_a_dead_node_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    listen_unix(path).close()
    assert path.exists()

    async with served(APP, path), asking(path) as client:
        assert (await client.get("/hello")).text == "hello"


async def test_a_second_node_does_not_take_a_running_nodes_socket(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path), asking(path) as client:
        with pytest.raises(ListenError, match="a node is running already"):
            listen_unix(path)
        assert (await client.get("/hello")).text == "hello"


def test_a_socket_path_too_long_for_the_system_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="107 bytes"):
        listen_unix(tmp_path / ("long" * 30))


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory"):
        listen_unix(tmp_path / "nowhere" / "node.sock")


def test_a_taken_port_is_one_clear_error() -> None:
    with listen_tcp("127.0.0.1", 0) as first:
        host, port = address_of(first)

        with pytest.raises(ListenError, match=f"cannot listen on {host}:{port}: the port is in use"):
            listen_tcp(host, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "nosuchhost.invalid"])
def test_an_address_that_is_not_ours_is_one_clear_error(host: str) -> None:
    with pytest.raises(ListenError, match="cannot listen on"):
        listen_tcp(host, 0)


async def test_tcp_answers_health_and_nothing_else() -> None:
    reasons: list[str] = []
    listener, stop = listen_tcp("127.0.0.1", 0), trio.Event()
    host, port = address_of(listener)

    async with trio.open_nursery() as nursery:

        async def run(task_status):  # type: ignore[no-untyped-def]
            app = create_health_app(lambda: reasons)
            await serve(app, [listener], stop, connections_max=8, read_timeout_s=5, task_status=task_status)

        await nursery.start(run)
        paths = ("/livez", "/readyz", "/metrics", "/v1/status", "/openapi.json")
        seen = [(await tcp_get(host, port, path))[9:12] for path in paths]
        reasons.append("no quorum: 1 of 3")
        not_ready = await tcp_get(host, port, "/readyz")
        posted = await tcp_get(host, port, "/livez", "POST")
        stop.set()

    assert seen == [b"200", b"200", b"404", b"404", b"404"]
    assert not_ready[9:12] == b"503"
    assert b'{"ready":false,"why_not":["no quorum: 1 of 3"]}' in not_ready
    assert posted[9:12] == b"405"


async def tcp_get(host: str, port: int, path: str, method: str = "GET") -> bytes:
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        request = f"{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        return b"".join([part async for part in stream])


async def test_a_reader_that_stops_reading_does_not_hold_the_node_back(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX) as stuck:
        async with served(APP, path) as stop:
            stuck.connect(str(path))
            stuck.sendall(b"GET /endless HTTP/1.1\r\nhost: node\r\n\r\n")
            await trio.sleep(0.2)
            began = trio.current_time()
            stop.set()

    assert trio.current_time() - began < 4


async def test_a_request_that_never_ends_has_two_seconds_at_shutdown(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX) as client:
        async with served(APP, path) as stop:
            client.connect(str(path))
            client.sendall(b"GET /hang HTTP/1.1\r\nhost: node\r\n\r\n")
            await trio.sleep(0.1)
            began = trio.current_time()
            stop.set()

    assert 1.5 < trio.current_time() - began < 4


async def test_idle_connections_do_not_hold_the_node_back(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"

    async with asking(path) as client:
        async with served(APP, path) as stop:
            await client.get("/hello")
            began = trio.current_time()
            stop.set()
        took_s = trio.current_time() - began

    assert took_s < 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nhost: node\r\nfolded\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /hello HTTP/1.1\r\nhost: node\r\ncontent-length: -5\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    ],
)
async def test_bytes_that_are_no_request_are_refused_and_harm_nobody(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "node.sock"

    async with served(APP, path), asking(path) as client:
        refused = await raw_exchange(path, garbage)
        after = await client.get("/hello")

    assert refused[:10] == b"HTTP/1.1 4" or refused == b""
    assert after.text == "hello"


@pytest.mark.seeds(3)
async def test_clients_that_send_rubbish_and_leave_at_any_moment_do_not_end_the_node(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, chance = tmp_path / "node.sock", random.Random(seed)
    whole = b"POST /hello HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET_HELLO

    async with served(APP, path), asking(path) as client:
        for _ in range(60):
            sent = bytearray(whole * chance.randrange(1, 4))
            for _ in range(chance.randrange(4)):
                sent[chance.randrange(len(sent))] = chance.randrange(256)
            async with await trio.open_unix_socket(path) as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(sent[: chance.randrange(len(sent))])
                    with trio.move_on_after(0.01):
                        await stream.receive_some(chance.randrange(1, 200))
        after = await client.get("/hello")

    assert after.text == "hello"
    assert "a connection broke" not in caplog.text


async def test_a_defect_of_the_http_library_costs_its_connection_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, handle = tmp_path / "node.sock", H11Protocol.handle

    async def defective(self: H11Protocol, event: Event) -> None:
        if isinstance(event, RawData) and b"/boom" in event.data:
            raise RuntimeError("a defect")
        await handle(self, event)

    monkeypatch.setattr(H11Protocol, "handle", defective)
    async with served(APP, path), asking(path) as client:
        answer = await raw_exchange(path, b"GET /boom HTTP/1.1\r\nhost: node\r\n\r\n")
        after = await client.get("/hello")

    assert (answer, after.text) == (b"", "hello")
    assert "a connection broke in the HTTP server" in caplog.text
