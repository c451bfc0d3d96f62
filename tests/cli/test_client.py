import io
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import cli.client
from cli.client import Json, Node
from cli.errors import CliError, Exit
from tests.support.raw_server import Behaviour, answering, raw_server, read_head, saying


def node_at(path: Path, timeout_s: float = 5.0) -> Node:
    return Node("north", path, timeout_s)


def error_of(call: Callable[[], object]) -> CliError:
    with pytest.raises(CliError) as caught:
        call()
    return caught.value


def test_no_socket_means_not_reachable_and_says_what_to_do(tmp_path: Path) -> None:
    error = error_of(lambda: node_at(tmp_path / "node.sock").get("/v1/status", Json))

    assert (error.code, error.exit_code) == ("node.not_reachable", Exit.UNREACHABLE)
    assert "caretrace start" in str(error.hint)


def test_a_socket_that_a_dead_node_left_behind_means_not_reachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "node.sock"))

    assert error_of(lambda: node_at(tmp_path / "node.sock").get("/", Json)).exit_code is Exit.UNREACHABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may open every socket")
def test_another_users_socket_means_not_reachable(tmp_path: Path) -> None:
    with raw_server(tmp_path / "node.sock", answering("200 OK", b"{}")):
        (tmp_path / "node.sock").chmod(0)
        error = error_of(lambda: node_at(tmp_path / "node.sock").get("/", Json))

    assert "another user" in error.message


def test_an_answer_is_read_and_the_query_escaped(tmp_path: Path) -> None:
    heads = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}')

    with raw_server(tmp_path / "s", behave):
        answer = node_at(tmp_path / "s").get("/v1/x", Json, patient="a&b=c", day=None, sensitivity=("R", "V"))

    assert answer == {"a": 1}
    assert heads[0].startswith(b"GET /v1/x?patient=a%26b%3Dc&sensitivity=R&sensitivity=V HTTP/1.1\r\n")


def test_a_problem_becomes_a_refusal_by_its_code(tmp_path: Path) -> None:
    body = b'{"code": "record.not_found", "detail": "no such record", "field": "record", "hint": "look", "title": "t"}'

    with raw_server(tmp_path / "s", answering("404 Not Found", body, "application/problem+json")):
        error = error_of(lambda: node_at(tmp_path / "s").get("/", Json))

    assert (error.code, error.message) == ("record.not_found", "no such record")
    assert (error.field, error.hint) == ("record", "look")
    assert error.exit_code is Exit.NOT_FOUND


def test_a_busy_node_says_when_to_come_back(tmp_path: Path) -> None:
    body = b'{"code": "mempool.full", "detail": "full"}'
    behaviour = answering("429 Too Many Requests", body, "application/problem+json", "Retry-After: 7")

    with raw_server(tmp_path / "s", behaviour):
        error = error_of(lambda: node_at(tmp_path / "s").get("/", Json))

    assert (error.code, error.exit_code, error.hint) == ("mempool.full", Exit.ERROR, "again in 7 s")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(saying(b"SSH-2.0-OpenSSH_9.2\r\n"), id="another protocol"),
        pytest.param(saying(b""), id="nothing"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"), id="cut short"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), id="too many headers"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="broken chunks"),
        pytest.param(answering("200 OK", b"<html>"), id="no JSON"),
        pytest.param(answering("200 OK", b"\xff\xfe"), id="no text"),
        pytest.param(answering("200 OK", b"[" * 50_000), id="nested"),
        pytest.param(answering("200 OK", b"[]"), id="another form"),
        pytest.param(answering("500 Oops", b"<html>"), id="an error without a reason"),
    ],
)
def test_what_is_no_node_of_ours_is_said_to_be_none(tmp_path: Path, behaviour: Behaviour) -> None:
    with raw_server(tmp_path / "s", behaviour):
        error = error_of(lambda: node_at(tmp_path / "s").get("/v1/status", Json))

    assert error.code in ("node.bad_answer", "node.not_reachable")
    assert error.exit_code in (Exit.ERROR, Exit.UNREACHABLE)


def test_an_answer_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.client, "ANSWER_BYTES_MAX", 1 << 20)

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)

    with raw_server(tmp_path / "s", behave):
        error = error_of(lambda: node_at(tmp_path / "s").get("/", Json))

    assert error.code == "node.bad_answer"


@pytest.mark.parametrize("slow_part", ["head", "body"])
def test_a_node_that_answers_drop_by_drop_is_given_up(tmp_path: Path, slow_part: str) -> None:
    released = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        if slow_part == "body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not released.wait(0.05):
            connection.sendall(b" ")

    with raw_server(tmp_path / "s", behave):
        started = time.monotonic()
        error = error_of(lambda: node_at(tmp_path / "s", timeout_s=0.4).get("/", Json))
        elapsed_s = time.monotonic() - started
        released.set()

    assert error.code == "node.timeout"
    assert elapsed_s < 3


def test_a_silent_node_is_given_up_in_time(tmp_path: Path) -> None:
    released = threading.Event()

    with raw_server(tmp_path / "s", lambda _: released.wait(10) and None):
        started = time.monotonic()
        error = error_of(lambda: node_at(tmp_path / "s", timeout_s=0.3).get("/", Json))
        elapsed_s = time.monotonic() - started
        released.set()

    assert (error.code, error.exit_code) == ("node.timeout", Exit.UNREACHABLE)
    assert 0.2 < elapsed_s < 3


def test_the_reason_why_a_large_body_is_refused_is_still_heard(tmp_path: Path) -> None:
    body = b'{"code": "http.body_too_large", "detail": "at most 1 MiB"}'
    content = io.BytesIO(bytes(4 << 20))

    with raw_server(tmp_path / "s", answering("413 Too Large", body, "application/problem+json")):
        error = error_of(lambda: node_at(tmp_path / "s").upload("/v1/records", content, 4 << 20, Json))

    assert error.code == "http.body_too_large"


def test_a_stream_that_breaks_off_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    with raw_server(tmp_path / "s", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")):
        pieces = node_at(tmp_path / "s").stream("GET", "/")
        first = next(pieces)
        error = error_of(lambda: list(pieces))

    assert first == b"12345"
    assert error.code == "node.bad_answer"


def test_words_of_a_node_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"code": "x.y", "detail": "\\u001b]0;owned\\u0007\\rAll is well"}'

    with raw_server(tmp_path / "s", answering("400 Bad", body, "application/problem+json")):
        error_of(lambda: node_at(tmp_path / "s").get("/", Json)).show()

    words = capsys.readouterr().err
    assert "owned" in words
    assert not {"\x1b", "\x07", "\r"} & set(words)


def test_a_node_that_many_wait_for_is_waited_for_as_long_as_there_is_time(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(1)
        for _ in range(2):
            waiting.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))

        in_vain = error_of(lambda: node_at(path, timeout_s=0.3).get("/", Json))
        threading.Timer(0.1, lambda: accept_and_answer(listener, 3)).start()
        answered = node_at(path).get("/", Json)

    assert (in_vain.code, in_vain.exit_code) == ("node.timeout", Exit.UNREACHABLE)
    assert answered == {"height": 7}


def accept_and_answer(listener: socket.socket, count: int) -> None:
    """Accept so many connections and answer the last one."""
    for number in range(count):
        connection, _ = listener.accept()
        with connection:
            if number == count - 1:
                answering("200 OK", b'{"height": 7}')(connection)
