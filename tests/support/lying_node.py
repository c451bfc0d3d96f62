"""A node that passes everything on to an honest one, and changes what it likes on the way back."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.unix_http import UnixConnection
from tests.support.raw_server import raw_server

Lie = Callable[[str, int, bytes], tuple[int, bytes]]
"""Takes path, status and body of an honest answer, and returns the status and body that the client gets."""


@contextmanager
def lying_node(home: Path, honest: Path, lie: Lie) -> Iterator[None]:
    """Serve a home in front of an honest node's socket."""
    (home / "run").mkdir(parents=True)
    (home / "config.toml").write_text('name = "north"\nlisten = ["/ip4/127.0.0.1/tcp/4101"]\n')

    def behave(connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            method, path, _ = stream.readline().decode().split(" ", 2)
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name] = value
            body = stream.read(int(headers.get("Content-Length", "0")))
        asked = UnixConnection(honest, 30)
        asked.request(method, path, body, {"Content-Type": headers.get("Content-Type", "")})
        answer = asked.getresponse()
        status, content = lie(path, answer.status, answer.read())
        asked.close()
        connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)

    with raw_server(home / "run" / "node.sock", behave):
        yield


def where(part: str, change: Callable[[bytes], bytes], status: int | None = None) -> Lie:
    """Lie where the path contains ``part``."""

    def lie(path: str, honest_status: int, body: bytes) -> tuple[int, bytes]:
        return (status or honest_status, change(body)) if part in path else (honest_status, body)

    return lie


def flipped(position: int) -> Callable[[bytes], bytes]:
    """Change one byte, counted from the end if negative."""

    def change(body: bytes) -> bytes:
        changed = bytearray(body)
        changed[position] ^= 1
        return bytes(changed)

    return change
