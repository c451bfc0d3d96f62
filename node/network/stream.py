"""One stream of a connection: reading, writing, and the window that bounds what lies unread."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from node.network.yamux import DATA_BYTES_MAX, FIN, RST, WINDOW_BYTES, WINDOW_UPDATE, MuxerFaultError

if TYPE_CHECKING:
    from node.network.muxer import Muxer


class MuxerStream(IMuxedStream):
    """One stream in both directions; each direction ends on its own, a reset ends both."""

    def __init__(self, muxer: "Muxer", stream_id: int) -> None:
        """A stream is made by its muxer."""
        self.muxed_conn: Muxer = muxer
        self.stream_id = stream_id
        self._received = bytearray()
        self._read_since_update = 0
        self._may_receive_bytes = WINDOW_BYTES
        self._may_send_bytes = WINDOW_BYTES
        self._remote_ended = False
        self._ended = False
        self._is_reset = False
        self._something_changed = trio.Event()
        self._writing = trio.Lock()

    async def read(self, n: int | None = None) -> bytes:
        """Return at least one byte and at most n, or everything that has arrived.

        Raises:
            MuxedStreamEOF: the peer ended its direction and everything was read.
            MuxedStreamReset: the stream or the connection was broken off.
        """
        while not self._received:
            if self._is_reset:
                raise MuxedStreamReset("the stream was broken off")
            if self._remote_ended:
                raise MuxedStreamEOF("the peer ended the stream")
            await self._change()
        if n is None or n < 0 or n >= len(self._received):
            data = bytes(self._received)
            self._received.clear()
        else:
            data = bytes(self._received[:n])
            del self._received[:n]
        self._read_since_update += len(data)
        if self._read_since_update >= WINDOW_BYTES // 2 and not self._remote_ended and not self._is_reset:
            self._may_receive_bytes += self._read_since_update
            self.muxed_conn.answer(WINDOW_UPDATE, 0, self.stream_id, self._read_since_update)
            self._read_since_update = 0
        return data

    async def write(self, data: bytes) -> None:
        """Send all bytes; they are not mixed with what another task writes to the same stream.

        The library's gossip writes to one stream from two tasks. A cancelled write may have sent a part: reset
        the stream then; the connection stays whole.

        Raises:
            MuxedStreamClosed: we ended this direction before.
            MuxedStreamReset: the stream or the connection was broken off.
        """
        if self.write_at_once(data):
            return
        async with self._writing:
            rest = memoryview(data)
            while rest:
                may = min(self._may_send_bytes, self.muxed_conn.room_bytes(len(rest)))
                if may <= 0 and not self._ended and not self._is_reset:
                    await (self._change() if self._may_send_bytes <= 0 else self.muxed_conn.wait_for_room())
                    continue
                self._send(rest[:may])
                rest = rest[may:]

    def write_at_once(self, data: bytes) -> bool:
        """Send all bytes without waiting, or none and return False."""
        if self._writing.locked() or self.is_over:
            return False
        if len(data) > min(self._may_send_bytes, self.muxed_conn.room_bytes(len(data))):
            return False
        self._send(data)
        return True

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be written."""
        return self._is_reset or self._ended

    def _send(self, data: bytes | memoryview) -> None:
        if self._is_reset:
            raise MuxedStreamReset("the stream was broken off")
        if self._ended:
            raise MuxedStreamClosed("the stream was ended here")
        self._may_send_bytes -= len(data)
        for start in range(0, len(data), DATA_BYTES_MAX):
            self.muxed_conn.send_data(self.stream_id, data[start : start + DATA_BYTES_MAX])

    async def close(self) -> None:
        """End our direction; the peer still may send."""
        if not self._ended and not self._is_reset:
            self._ended = True
            self.muxed_conn.answer(WINDOW_UPDATE, FIN, self.stream_id, 0)
            self._forget_if_over()

    async def reset(self) -> None:
        """Break the stream off in both directions."""
        self.break_off()

    def break_off(self) -> None:
        """The same, at once."""
        if not self._is_reset and not (self._ended and self._remote_ended):
            self.muxed_conn.answer(WINDOW_UPDATE, RST, self.stream_id, 0)
        self.on_broken_off()

    def on_data(self, data: memoryview) -> None:
        """Keep what arrived."""
        if len(data) > self._may_receive_bytes:
            # The library only logs this and keeps the bytes: a peer could fill our memory.
            raise MuxerFaultError("sent more than its window")
        if self._remote_ended:
            raise MuxerFaultError("sent bytes on a stream that it had ended")
        self._may_receive_bytes -= len(data)
        self._received += data
        self._tell()

    def on_window_update(self, length: int) -> None:
        """The peer has read; we may send more."""
        self._may_send_bytes += length
        if self._may_send_bytes > 0:
            self._tell()

    def on_remote_end(self) -> None:
        """The peer sends no more."""
        self._remote_ended = True
        self._forget_if_over()
        self._tell()

    def on_broken_off(self) -> None:
        """The stream or its connection is gone."""
        self._is_reset = True
        self._received.clear()
        self.muxed_conn.streams.pop(self.stream_id, None)
        self._tell()

    def _forget_if_over(self) -> None:
        if self._ended and self._remote_ended:
            self.muxed_conn.streams.pop(self.stream_id, None)

    async def _change(self) -> None:
        await self._something_changed.wait()

    def _tell(self) -> None:
        self._something_changed.set()
        self._something_changed = trio.Event()

    def set_deadline(self, ttl: int) -> None:
        """Not offered: time limits are cancel scopes."""
        raise ValueError(f"streams have no deadlines, use a cancel scope: {ttl}")

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other end."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
