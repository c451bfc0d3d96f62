"""A server on a Unix socket that answers with the bytes it was given, for what no real node would say."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Behaviour = Callable[[socket.socket], None]


def answering(status: str, body: bytes, content_type: str = "application/json", *more: str) -> Behaviour:
    """Read one request's head, then send a whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more]
    return saying("\r\n".join([*lines, "", ""]).encode() + body)


def saying(answer: bytes) -> Behaviour:
    """Read one request's head, then send these bytes and close."""

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    return behave


def read_head(connection: socket.socket) -> bytes:
    """Read up to the end of a request's head."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            break
        head += piece
    return head


@contextmanager
def raw_server(path: Path, behave: Behaviour) -> Iterator[None]:
    """Treat every connection so, until the test is over."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    behave(connection)
                except OSError:
                    # The client has gone, as clients do.
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
