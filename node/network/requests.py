"""Requests: one question, one answer, over a few long-lived streams to each peer.

On the stream a request is a frame of one byte (length of the service's name), the name and the payload; its
answer is a frame of one byte (0: answered, 1: refused) and the payload or the reason. A stream carries one request
after the other, and is broken off when its asker gives up: a late answer can never be taken for the next one's.
"""

from collections.abc import Awaitable, Callable, Mapping

import trio

from node.network.framing import FrameDecoder, encode_frame
from node.network.limits import Allowance, NetworkLimits
from node.network.peers import (
    PeerFaultError,
    PeerUnreachableError,
    RequestRefusedError,
    RequestTimeoutError,
)
from node.network.stream import MuxerStream
from node.network.transport import STREAM_ENDS, ProtocolRefusedError

PROTOCOL = "/caretrace/request/1"

RequestHandler = Callable[[str, bytes], Awaitable[bytes]]

_ANSWERED, _REFUSED = b"\x00", b"\x01"
_REASON_BYTES_MAX = 256
_SERVICE_BYTES_MAX = 64


class Requester:
    """Asks one peer; as many questions at a time as it answers."""

    def __init__(self, limits: NetworkLimits, open_stream: Callable[[], Awaitable[MuxerStream]]) -> None:
        """``open_stream`` raises PeerUnreachableError without a connection."""
        self._frame_bytes_max = limits.message_size_bytes_max + 1
        self._open_stream = open_stream
        self._turns = trio.Semaphore(limits.request_streams_max)
        self._idle: list[MuxerStream] = []

    def forget_streams(self) -> None:
        """The connection ended, and the streams with it."""
        self._idle.clear()

    async def ask(self, service: str, payload: bytes, timeout_s: float) -> bytes:
        """Send one request and wait for its answer.

        Raises:
            PeerUnreachableError, RequestRefusedError, RequestTimeoutError: there is none.
            PeerFaultError: the answer is none.
        """
        name = service.encode()
        assert len(name) <= _SERVICE_BYTES_MAX, f"too long a name for a service: {service}"
        request = encode_frame(bytes([len(name)]) + name + payload)
        assert len(payload) < self._frame_bytes_max, f"a request of {len(payload)} bytes is too large to send"
        try:
            with trio.fail_after(timeout_s):
                async with self._turns:
                    answer = await self._exchange(request)
        except trio.TooSlowError as error:
            raise RequestTimeoutError(f"no answer within {timeout_s:g} s") from error
        except STREAM_ENDS as error:
            raise PeerUnreachableError("the connection ended before the answer") from error
        except ProtocolRefusedError as error:
            raise PeerUnreachableError("it answers no requests") from error
        if answer[:1] == _REFUSED:
            words = answer[1 : _REASON_BYTES_MAX + 1].decode("utf-8", "replace")
            raise RequestRefusedError("".join(filter(str.isprintable, words)))  # It may end up in a log.
        if answer[:1] != _ANSWERED:
            raise PeerFaultError("answered a request with something else")
        return answer[1:]

    async def _exchange(self, request: bytes) -> bytes:
        while self._idle and self._idle[-1].is_over:
            self._idle.pop()
        stream = self._idle.pop() if self._idle else await self._open_stream()
        try:
            await stream.write(request)
            answer = await _read_one(stream, FrameDecoder(self._frame_bytes_max))
        except BaseException:
            stream.break_off()
            raise
        self._idle.append(stream)
        return answer


async def _read_one(stream: MuxerStream, decoder: FrameDecoder) -> bytes:
    while True:
        messages = decoder.feed(await stream.read())
        if messages:
            if len(messages) > 1 or decoder.pending_bytes:
                raise PeerFaultError("answered one request twice")
            return messages[0]


class Responder:
    """Answers the requests of one peer, a bounded number at a time and a second."""

    def __init__(self, peer_name: str, limits: NetworkLimits, services: Mapping[str, RequestHandler]) -> None:
        """``services`` may still grow."""
        self._peer_name = peer_name
        self._limits = limits
        self._services = services
        self._allowance = Allowance(limits.requests_per_s, 2 * limits.requests_per_s)
        self._streams = 0

    async def serve(self, stream: MuxerStream) -> None:
        """Answer every request of a stream until the stream ends (it raises then)."""
        # Twice what the peer may use: it may have broken one off and opened the next before we noticed.
        if self._streams >= 2 * self._limits.request_streams_max:
            return
        self._streams += 1
        try:
            decoder = FrameDecoder(self._limits.message_size_bytes_max + 1 + _SERVICE_BYTES_MAX)
            while True:
                for request in decoder.feed(await stream.read()):
                    await stream.write(encode_frame(await self._answer(request)))
        finally:
            self._streams -= 1

    async def _answer(self, request: bytes) -> bytes:
        if not self._allowance.take():
            return _REFUSED + b"asked too often"
        name_end = 1 + request[0] if request else 0
        if not 1 < name_end <= len(request):
            raise PeerFaultError("sent a request without a service")
        handler = self._services.get(request[1:name_end].decode("ascii", "replace"))
        if handler is None:
            return _REFUSED + b"no such service"
        try:
            with trio.fail_after(self._limits.request_handling_s_max):
                answer = await handler(self._peer_name, request[name_end:])
        except RequestRefusedError as refusal:
            return _REFUSED + str(refusal).encode()[:_REASON_BYTES_MAX]
        except trio.TooSlowError:
            return _REFUSED + b"took too long"
        assert len(answer) <= self._limits.message_size_bytes_max, f"an answer of {len(answer)} bytes is too large"
        return _ANSWERED + answer
