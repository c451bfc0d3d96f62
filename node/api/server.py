"""Serves an ASGI app on listening sockets inside the node's nursery: hypercorn's protocol, our own accept loop.

hypercorn 0.18 does the HTTP. Three things are done here instead of by its worker: a reader that stops reading must
not hold the node back at shutdown, the number of connections is bounded, and a taken address is one clear error.
"""

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from node.api.problems import RETRY_AFTER_S, ProblemError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

# More than any limit of connections, so that who comes in a burst hears 429, and from no system that it is refused.
BACKLOG = 1024
GRACE_S = 2.0
IDLE_S = 10.0
SEND_TIMEOUT_S = 30.0
TURN_AWAY_S = 1.0
HEADERS_BYTES_MAX = 16 * 1024
UNIX_PATH_BYTES_MAX = 107

log = logging.getLogger("caretrace.http")


class ListenError(Exception):
    """The node cannot listen where it was told to."""

    code = "http.cannot_listen"


def listen_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that only its owner may connect to; a dead node's socket file is replaced.

    Raises:
        ListenError: another node answers there, the path is too long for the system, or cannot be made.
    """
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise ListenError(f"{path} is longer than the {UNIX_PATH_BYTES_MAX} bytes that a socket's path may have")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _remove_dead(path)
        # Linux makes the file with the mode of the unbound socket: there is no moment in which others could connect.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fsencode(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror}") from None
    except ListenError:
        listener.close()
        raise
    return listener


def _remove_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ListenError(f"a node is running already: it answers on {path}")


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on a TCP address; port 0 takes a free one.

    Raises:
        ListenError: the address is taken, not ours or not allowed.
    """
    try:
        listener = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
    except OSError as error:
        words = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or "no such address"
        raise ListenError(f"cannot listen on {host}:{port}: {words}") from None
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Connection(TCPServer):
    """One client's connection; ``idle_since`` is None while a request is under way."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle_since: float | None = trio.current_time()

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            # Whatever was cancelled on the way, no socket stays open.
            await trio.aclose_forcefully(self.stream)

    _has_left = False

    async def _read_data(self) -> None:
        await super()._read_data()
        # The client has left. hypercorn would keep its place until the idle connection's time is over: a program
        # that opens a connection for each request would soon be turned away.
        self._has_left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self.idle_since = trio.current_time() if event.idle else None
        if self._has_left and isinstance(event, Updated):
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                # hypercorn shields this for TLS; without TLS a reader who stalls is simply dropped.
                with trio.fail_after(SEND_TIMEOUT_S):
                    await self.stream.send_all(event.data)
                return
            except (
                trio.BrokenResourceError,
                trio.BusyResourceError,  # It is being closed by the other side of hypercorn at this moment.
                trio.ClosedResourceError,
                trio.TooSlowError,
            ):
                await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())


def _settings(read_timeout_s: int | None) -> Config:
    config = Config()
    config.errorlog = log
    config.accesslog = None
    config.keep_alive_timeout = IDLE_S
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = HEADERS_BYTES_MAX
    config.include_server_header = False
    config.read_timeout = read_timeout_s
    return config


async def serve(
    app: Callable[..., Awaitable[None]],
    listeners: Sequence[socket.socket],
    stop: trio.Event,
    *,
    connections_max: int,
    read_timeout_s: int | None = None,
    task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until ``stop`` is set; requests under way then have two seconds to end.

    Of more than ``connections_max`` connections the one that has been idle longest is closed; where none is idle, the
    new one is answered 429 at once. The files of Unix sockets are removed.
    """
    context, config, wrapped = WorkerContext(None), _settings(read_timeout_s), ASGIWrapper(app)
    connections: set[_Connection] = set()

    async def answer(stream: trio.SocketStream) -> None:
        connection = _Connection(wrapped, config, context, ConnectionState({}), stream)
        # Attack: whoever may connect opens connections and says nothing, so that nobody else is heard.
        idle = _longest_idle(connections) if len(connections) >= connections_max else None
        if len(connections) >= connections_max and idle is None:
            await _turn_away(stream)
            return
        if idle:
            connections.remove(idle)
        connections.add(connection)
        try:
            if idle:
                await trio.aclose_forcefully(idle.stream)
            await connection
        except* Exception as defects:
            # What routes raise has been answered by now: this is hypercorn's own, and must not end the node.
            log.error("a connection broke in the HTTP server", exc_info=defects)
        finally:
            connections.discard(connection)

    ready = [trio.SocketListener(trio.socket.from_stdlib_socket(listener)) for listener in listeners]
    names = [listener.getsockname() for listener in listeners if listener.family == socket.AF_UNIX]
    try:
        async with trio.open_nursery() as handlers:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(partial(trio.serve_listeners, answer, ready, handler_nursery=handlers))
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            handlers.cancel_scope.deadline = trio.current_time() + GRACE_S
    finally:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name)


def _longest_idle(connections: Iterable[_Connection]) -> _Connection | None:
    idle = [(connection.idle_since, connection) for connection in connections if connection.idle_since is not None]
    return min(idle, key=itemgetter(0))[1] if idle else None


async def _turn_away(stream: trio.SocketStream) -> None:
    """Answer 429 and leave the client a moment to read it: closing on unread bytes would reset the connection."""
    answer = ProblemError(429, "http.busy", "all connections are in use", retry_after_s=RETRY_AFTER_S).response()
    lines = [name + b": " + value for name, value in answer.raw_headers]
    head = [b"HTTP/1.1 429 Too Many Requests", b"connection: close", *lines]
    with trio.move_on_after(TURN_AWAY_S), suppress(trio.BrokenResourceError):
        await stream.send_all(b"\r\n".join([*head, b"", bytes(answer.body)]))
        await stream.send_eof()
        while await stream.receive_some():
            pass
    await trio.aclose_forcefully(stream)


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Return host and port of a TCP listener: with port 0 the system chose one."""
    name: Any = listener.getsockname()
    return name[0], name[1]
