"""TCP for libp2p: listening, connecting and buffered reading, each failure with words that an operator understands.

The library's own TCP transport is not used: it lets two processes share a port without a word (SO_REUSEPORT),
keeps a slot for each connection it ever accepted, waits 250 ms on every connect, prints each refusal and asks
the kernel twice for every message. trio's sockets have TCP_NODELAY set: a vote never waits for Nagle.
"""

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from socket import gaierror

import trio
from libp2p.abc import IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from multiaddr import Multiaddr

_READ_BYTES = 64 * 1024
# Noise messages and the lines of the handshake are the only things read with a length: 2 bytes + 65,535 at most.
_EXACT_READ_BYTES_MAX = 65_537
_HOST_PROTOCOLS = ("ip4", "ip6", "dns", "dns4", "dns6")


class AddressError(ValueError):
    """A text is not the multiaddr of a TCP port, such as ``/ip4/10.0.0.2/tcp/4001``."""

    code = "network.address_malformed"


class ListenError(Exception):
    """The node cannot listen on an address of its configuration."""

    code = "network.cannot_listen"

    def __init__(self, address: str, words: str) -> None:
        """Name the address and what is wrong with it."""
        super().__init__(f"cannot listen on {address}: {words}")
        self.address = address


class AddressInUseError(ListenError):
    """Another process listens on the address already."""

    code = "network.address_in_use"

    def __init__(self, address: str) -> None:
        """Name the address."""
        super().__init__(address, "another process uses this port")


class ConnectError(Exception):
    """A peer could not be reached or did not prove who it is; the text says why in a few words."""

    code = "network.cannot_connect"


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of a TCP multiaddr.

    Raises:
        AddressError: anything else, also with further protocols behind the port.
    """
    try:
        parsed = Multiaddr(address)
        host_protocol, port_protocol = (protocol.name for protocol in parsed.protocols())
        host, port = parsed.value_for_protocol(host_protocol), parsed.value_for_protocol("tcp")
    except Exception as error:
        raise AddressError(f"not the multiaddr of a TCP port: {address!r}") from error
    if host_protocol not in _HOST_PROTOCOLS or port_protocol != "tcp":
        raise AddressError(f"not the multiaddr of a TCP port: {address!r}")
    return str(host), int(port)


class TcpStream(IRawConnection):
    """One TCP connection as libp2p wants it, read in large pieces.

    ``read(n)`` returns n bytes or, at the end, fewer. The library gives up after 100 partial reads of one Noise
    message, which a link with small segments reaches, and would reserve whatever length a stranger announces
    before he is known; here a read reserves 64 KiB and a longer announcement is refused.
    """

    def __init__(self, stream: trio.SocketStream, *, is_initiator: bool) -> None:
        """Wrap a connected socket."""
        self.is_initiator = is_initiator
        self._stream = stream
        self._buffer = b""
        self._position = 0

    async def read(self, n: int | None = None) -> bytes:
        """Read n bytes, or what is there.

        Raises:
            ConnectionClosedError: the connection broke, or more was asked for than any message has.
        """
        if n is not None and n > _EXACT_READ_BYTES_MAX:
            raise ConnectionClosedError(f"a message of {n} bytes was announced before the peer was known")
        pieces: list[bytes] = []
        missing = n if n is not None else 1
        while missing > 0:
            available = len(self._buffer) - self._position
            if available == 0:
                await self._fill()
                available = len(self._buffer)
                if available == 0:
                    break
            taken = available if n is None else min(available, missing)
            pieces.append(self._buffer[self._position : self._position + taken])
            self._position += taken
            missing -= taken
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _fill(self) -> None:
        try:
            self._buffer = await self._stream.receive_some(_READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke") from error
        self._position = 0

    async def write(self, data: bytes) -> None:
        """Send everything; only one task may write at a time.

        Raises:
            ConnectionClosedError: the connection broke.
        """
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError("the connection broke") from error

    async def close(self) -> None:
        """Close the socket; safe to call twice."""
        await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other end, or None once the connection is gone."""
        try:
            host, port, *_ = self._stream.socket.getpeername()
        except OSError:
            return None
        return host, port

    def get_transport_addresses(self) -> list[Multiaddr]:
        """None: the library would only write them into its address book, which we do not use."""
        return []

    def get_connection_type(self) -> ConnectionType:
        """Never through a relay."""
        return ConnectionType.DIRECT


async def connect(address: str, connect_s_max: float) -> TcpStream:
    """Open a TCP connection.

    Raises:
        ConnectError: with the reason in words.
    """
    host, port = parse_address(address)
    try:
        with trio.fail_after(connect_s_max):
            return TcpStream(await trio.open_tcp_stream(host, port), is_initiator=True)
    except trio.TooSlowError as error:
        raise ConnectError("no answer") from error
    except OSError as error:
        raise ConnectError(_words(error)) from error


_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ETIMEDOUT: "no answer",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
}


def _words(error: BaseException) -> str:
    """Find the operating system's reason under what trio wraps around it."""
    causes: list[BaseException] = [error]
    while causes:
        cause = causes.pop()
        if isinstance(cause, gaierror):
            return "unknown host name"
        if isinstance(cause, OSError) and cause.errno in _WORDS:
            return _WORDS[cause.errno]
        if isinstance(cause, BaseExceptionGroup):
            causes.extend(cause.exceptions)
        elif cause.__cause__ is not None:
            causes.append(cause.__cause__)
    return f"cannot connect: {error}"


@asynccontextmanager
async def listeners(addresses: Sequence[str]) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on each address while the context lasts. Port 0 takes any free port.

    Raises:
        AddressInUseError: another process has the port.
        ListenError: the address is not this machine's, or the port is not allowed.
    """
    opened: list[trio.SocketListener] = []
    try:
        for address in addresses:
            host, port = parse_address(address)
            try:
                opened += await trio.open_tcp_listeners(port, host=host)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise AddressInUseError(address) from error
                raise ListenError(address, error.strerror or str(error)) from error
        yield opened
    finally:
        for listener in opened:
            listener.socket.close()


def address_of(listener: trio.SocketListener) -> str:
    """The multiaddr that a listener is bound to."""
    host, port, *_ = listener.socket.getsockname()
    return f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}"
