"""Messages on a stream: each is preceded by its length, four bytes, big-endian."""

import struct

from node.network.peers import PeerFaultError

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


def encode_frame(message: bytes) -> bytes:
    """Put the length before a message."""
    return _LENGTH.pack(len(message)) + message


class FrameDecoder:
    """Cuts a stream of bytes back into messages, however the network has cut it.

    The length is checked against the limit before anything is kept: memory is bounded by the limit and one read.
    """

    def __init__(self, size_bytes_max: int) -> None:
        """Take messages of at most ``size_bytes_max``."""
        self._size_bytes_max = size_bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that these bytes complete, in order.

        Raises:
            PeerFaultError: a message is announced that is larger than the limit.
        """
        if not self._rest:
            messages, taken = self._cut(data)
            self._rest += memoryview(data)[taken:]
            return messages

        self._rest += data
        messages, taken = self._cut(self._rest)
        del self._rest[:taken]
        return messages

    def _cut(self, source: bytes | bytearray) -> tuple[list[bytes], int]:
        messages: list[bytes] = []
        start, end = 0, len(source)
        with memoryview(source) as view:
            while end - start >= LENGTH_BYTES:
                (length,) = _LENGTH.unpack_from(view, start)
                if length > self._size_bytes_max:
                    raise PeerFaultError(f"announced a message of {length} bytes; {self._size_bytes_max} are allowed")
                if end - start - LENGTH_BYTES < length:
                    break
                start += LENGTH_BYTES
                messages.append(bytes(view[start : start + length]))
                start += length
        return messages, start

    @property
    def pending_bytes(self) -> int:
        """How much of an unfinished message is kept."""
        return len(self._rest)
