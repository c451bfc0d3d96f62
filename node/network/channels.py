"""Channels: long-lived one-way streams that carry the messages of one subject to each peer."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from node.network.framing import FrameDecoder, encode_frame
from node.network.limits import Allowance, NetworkLimits
from node.network.stream import MuxerStream

MessageHandler = Callable[[str, bytes], None]

# What one write hands to the connection: more would delay the messages of other channels.
_BATCH_BYTES = 64 * 1024
# After so many messages the reader lets other tasks run, however many more have arrived.
_MESSAGES_PER_TURN = 256


@dataclass
class Traffic:
    """What went through the network layer since the start, for metrics."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped_queue_full: int = 0
    """Messages that did not fit into the queue of a slow peer."""
    dropped_not_connected: int = 0
    """Messages for a peer without a connection."""
    refused_strangers: int = 0
    """Inbound connections that did not prove to be a welcome member's."""
    failed_dials: int = 0
    """Attempts to connect that came to nothing."""
    peers_dropped: int = 0
    """Disconnections for misbehaviour."""
    gossip_ignored: int = 0
    """Gossip messages from no member, or seen before."""


@dataclass(frozen=True)
class Channel:
    """One subject of messages, the same on every node."""

    name: str
    handler: MessageHandler
    drop_oldest: bool
    """When a peer's queue is full: drop what waits longest (it is stale), or refuse what comes (it can be resent)."""

    @property
    def protocol(self) -> str:
        """The libp2p protocol of its streams."""
        return f"/caretrace/{self.name}/1"


class Outbound:
    """Messages of one channel on their way to one peer.

    ``send`` never blocks. While the stream takes them, messages go straight into the connection; otherwise they
    wait here, bounded, for the one task that writes. Without a stream they are dropped: after a reconnect the
    sender is told (``on_connected``) and sends again what still matters.
    """

    def __init__(self, channel: Channel, limits: NetworkLimits, traffic: Traffic) -> None:
        """Nothing is sent before ``attach``."""
        self.channel = channel
        self._limits = limits
        self._traffic = traffic
        self._stream: MuxerStream | None = None
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._arrived = trio.Event()

    def attach(self, stream: MuxerStream) -> None:
        """Send over this stream from now on."""
        self._stream = stream

    def detach(self) -> None:
        """The stream ended; what waits is dropped."""
        self._stream = None
        self._traffic.dropped_not_connected += len(self._frames)
        self._frames.clear()
        self._bytes = 0

    def send(self, frame: bytes) -> bool:
        """Send or queue one encoded message; False if it was dropped instead."""
        if self._stream is None:
            self._traffic.dropped_not_connected += 1
            return False
        if not self._frames and self._stream.write_at_once(frame):
            self._count(1, len(frame))
            return True
        while self._frames and not self._has_room(frame):
            self._traffic.dropped_queue_full += 1
            if not self.channel.drop_oldest:
                return False
            self._bytes -= len(self._frames.popleft())
        self._frames.append(frame)
        self._bytes += len(frame)
        self._arrived.set()
        return True

    def _has_room(self, frame: bytes) -> bool:
        return (
            len(self._frames) < self._limits.queue_messages_max
            and self._bytes + len(frame) <= self._limits.queue_bytes_max
        )

    def _count(self, messages: int, size_bytes: int) -> None:
        self._traffic.messages_out += messages
        self._traffic.bytes_out += size_bytes

    async def write_queued(self) -> None:
        """Write what waits, many small messages at a time, until the stream ends (it raises then)."""
        while True:
            if not self._frames:
                self._arrived = trio.Event()
                await self._arrived.wait()
            batch = self._take_batch()
            assert self._stream is not None
            await self._stream.write(b"".join(batch))
            self._count(len(batch), sum(map(len, batch)))

    def _take_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size_bytes = 0
        while self._frames and (not batch or size_bytes + len(self._frames[0]) <= _BATCH_BYTES):
            frame = self._frames.popleft()
            batch.append(frame)
            size_bytes += len(frame)
        self._bytes -= size_bytes
        return batch


class Inbound:
    """Messages that one peer sends us on any channel, at a bounded pace."""

    def __init__(self, peer_name: str, limits: NetworkLimits, traffic: Traffic) -> None:
        """One for each peer."""
        self._peer_name = peer_name
        self._limits = limits
        self._traffic = traffic
        self._allowance = Allowance(limits.messages_per_s, limits.messages_per_s)
        self._streams: dict[str, MuxerStream] = {}

    async def read(self, channel: Channel, stream: MuxerStream) -> None:
        """Hand every message of a stream to the channel's handler until the stream ends (it raises then).

        A peer has one stream a channel: a second one replaces the first, so that a peer cannot make us keep one
        half-sent large message for each of many streams.

        Raises:
            PeerFaultError: a message too large, or what the handler found.
        """
        former = self._streams.get(channel.name)
        if former is not None:
            former.break_off()
        self._streams[channel.name] = stream

        decoder = FrameDecoder(self._limits.message_size_bytes_max)
        while True:
            data = await stream.read()
            self._traffic.bytes_in += len(data)
            messages = decoder.feed(data)
            self._traffic.messages_in += len(messages)
            for start in range(0, len(messages), _MESSAGES_PER_TURN):
                turn = messages[start : start + _MESSAGES_PER_TURN]
                for message in turn:
                    channel.handler(self._peer_name, message)
                # Who floods us waits: we read no further, and the window closes.
                await self._allowance.spend(len(turn))
                if len(turn) == _MESSAGES_PER_TURN:
                    await trio.lowlevel.checkpoint()


def encode_message(message: bytes, limits: NetworkLimits) -> bytes:
    """Frame a message of ours; a larger one than every peer would refuse is our bug."""
    assert len(message) <= limits.message_size_bytes_max, f"a message of {len(message)} bytes is too large to send"
    return encode_frame(message)
