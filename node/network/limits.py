"""Bounds on everything a peer can make this node hold or do, and the pace at which it may ask for more."""

from dataclasses import dataclass

import trio

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class NetworkLimits:
    """What the network layer allows; sizes in bytes, times in seconds, rates a second and a peer.

    The defaults suit blocks of up to 1 MiB between up to about thirty members.
    """

    message_size_bytes_max: int = 8 * MIB
    """One message of a channel, one request and one answer."""
    queue_messages_max: int = 4096
    """Messages that wait for one peer on one channel."""
    queue_bytes_max: int = 16 * MIB
    """Their sum. Beyond either bound a channel refuses the newest or drops the oldest, as it was registered."""
    messages_per_s: int = 20_000
    """Messages taken from one peer; whoever sends more waits, since we read no further."""

    request_streams_max: int = 4
    """Requests of ours that one peer answers at the same time; it may have twice as many of its own with us."""
    requests_per_s: int = 100
    """Requests of one peer that we answer; a burst may be twice as large, the rest is refused."""
    request_handling_s_max: float = 30.0
    """How long a handler may take over one request before it is refused."""

    gossip_size_bytes_max: int = 256 * KIB
    """One gossip message."""
    gossip_per_s: int = 1000
    """Gossip messages from one forwarder; a peer that sends more is dropped."""

    handshakes_max: int = 64
    """Inbound connections that have not yet shown who they are; the oldest goes first."""
    handshake_s_max: float = 5.0
    """From the TCP connection to a named peer, in either direction."""
    connect_s_max: float = 4.0
    """One TCP connection to one address."""

    ping_interval_s: float = 1.0
    """How often a peer is asked for a sign of life."""
    silent_pings_max: int = 3
    """After so many intervals without a byte the connection is given up."""
    redial_s_min: float = 0.1
    redial_s_max: float = 2.0
    """Waiting time between attempts to connect; it doubles from the one to the other."""
    bar_s_min: float = 10.0
    bar_s_max: float = 300.0
    """How long a peer that was dropped for misbehaviour stays out; it doubles with every drop."""


class Allowance:
    """A steady rate with room for a burst (a token bucket): what one peer may still do now."""

    def __init__(self, per_s: float, burst: float) -> None:
        """Start with the whole burst in hand."""
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._counted_at: float | None = None

    def _refill(self) -> None:
        now = trio.current_time()
        if self._counted_at is not None:
            self._left = min(self._burst, self._left + (now - self._counted_at) * self._per_s)
        self._counted_at = now

    def take(self, count: int = 1) -> bool:
        """Use some of the allowance; False if there is not enough left."""
        self._refill()
        if self._left < count:
            return False
        self._left -= count
        return True

    async def spend(self, count: int) -> None:
        """Use some of the allowance and, if that leaves a debt, wait until it is worked off."""
        self._refill()
        self._left -= count
        if self._left < 0:
            await trio.sleep(-self._left / self._per_s)
