"""The link to one peer: at most one connection, dialled from both sides, watched, and dialled again when it ends."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio
from libp2p.peer.id import ID

from node.network.channels import Channel, Inbound, Outbound, Traffic
from node.network.limits import NetworkLimits
from node.network.muxer import Muxer
from node.network.peers import Peer, PeerStatus, PeerUnreachableError
from node.network.requests import PROTOCOL as REQUEST_PROTOCOL
from node.network.requests import Requester, RequestHandler, Responder
from node.network.stream import MuxerStream
from node.network.tcp import ConnectError, connect
from node.network.transport import STREAM_ENDS, ProtocolRefusedError, Transport, peer_id_of

logger = logging.getLogger("caretrace.network")

# Two connections made within this time come of both sides dialling at once.
_SIMULTANEOUS_S = 2.0
# Of two peers the one with the lower name dials first, so that they seldom dial at once.
_SECOND_DIALLER_WAITS_S = 0.3


@dataclass(frozen=True)
class LinkContext:
    """What every link of a node shares."""

    own_name: str
    transport: Transport
    channels: Mapping[str, Channel]
    services: Mapping[str, RequestHandler]
    limits: NetworkLimits
    traffic: Traffic
    on_connected: Callable[[str], None]
    """The channels are open: messages sent from now on arrive, unless the connection ends."""
    join_gossip: Callable[[ID], Awaitable[bool]]
    leave_gossip: Callable[[ID], None]


class Link:
    """One peer's connection, queues, requests and reputation."""

    def __init__(self, peer: Peer, context: LinkContext) -> None:
        """Nothing is dialled before ``keep_connected``."""
        self.peer = peer
        self.peer_id = peer_id_of(peer.node_key)
        self.inbound = Inbound(peer.name, context.limits, context.traffic)
        self.requester = Requester(context.limits, self._open_request_stream)
        self.responder = Responder(peer.name, context.limits, context.services)
        self._context = context
        self._limits = context.limits
        self._outbound = {
            name: Outbound(channel, context.limits, context.traffic) for name, channel in context.channels.items()
        }
        self._muxer: Muxer | None = None
        self._muxer_since_s = 0.0
        self._unconnected = trio.Event()
        self._unconnected.set()
        self._is_up = False
        self._is_removed = False
        self._why = "not tried yet"
        self._redial_s = context.limits.redial_s_min
        self._bar_s = context.limits.bar_s_min
        self._barred_until_s = float("-inf")
        self._dialling = trio.CancelScope()

    def status(self) -> PeerStatus:
        """What an operator is told."""
        latency_s = self._muxer.latency_s if self._muxer is not None else None
        latency_ms = None if latency_s is None else latency_s * 1000
        return PeerStatus(self.peer.name, self.is_connected, latency_ms if self.is_connected else None, self.why)

    @property
    def why(self) -> str:
        """Why there is no connection, in words; empty while there is one."""
        return self._muxer.close_reason if self._muxer is not None and self._muxer.is_closed else self._why

    @property
    def is_connected(self) -> bool:
        """Whether messages sent now arrive, unless the connection ends."""
        return self._is_up and self._muxer is not None and not self._muxer.is_closed

    @property
    def is_welcome(self) -> bool:
        """Whether a connection with this peer is taken now."""
        return not self._is_removed and trio.current_time() >= self._barred_until_s

    def send(self, channel: str, frame: bytes) -> bool:
        """Send one encoded message; False if it was dropped."""
        return self._outbound[channel].send(frame)

    def drop(self, reason: str) -> None:
        """End the connection for misbehaviour, and stay apart for a while."""
        now = trio.current_time()
        if now < self._barred_until_s:
            return
        is_relapse = now - self._barred_until_s < self._limits.bar_s_max
        self._bar_s = min(2 * self._bar_s, self._limits.bar_s_max) if is_relapse else self._limits.bar_s_min
        self._barred_until_s = now + self._bar_s
        self._context.traffic.peers_dropped += 1
        logger.warning("dropped %s for %g s: it %s", self.peer.name, self._bar_s, reason)
        self._end(f"dropped: {reason}")

    def remove(self) -> None:
        """The peer is no longer a member, or has another key: end the connection for good."""
        self._is_removed = True
        self._dialling.cancel()
        self._end("no longer a member")

    def _end(self, why: str) -> None:
        self._why = why
        if self._muxer is not None:
            self._muxer.abort(why)

    async def keep_connected(self) -> None:
        """Dial whenever there is no connection, until the peer is removed."""
        with self._dialling:
            while True:
                await self._unconnected.wait()
                await trio.sleep(self._pause_s())
                if self._muxer is not None or not self.is_welcome:
                    continue
                try:
                    muxer = await self._dial()
                except ConnectError as error:
                    self._on_failed_dial(str(error))
                else:
                    await self.hold(muxer)

    def _pause_s(self) -> float:
        pause_s = self._redial_s
        if self._context.own_name > self.peer.name:
            pause_s += _SECOND_DIALLER_WAITS_S
        return max(pause_s, self._barred_until_s - trio.current_time())

    async def _dial(self) -> Muxer:
        last_error = ConnectError("no address known, waiting for it to dial")
        for address in self.peer.addresses:
            try:
                tcp = await connect(address, self._limits.connect_s_max)
                return await self._context.transport.shake_hands(tcp, self.peer_id, lambda _peer_id: self.is_welcome)
            except ConnectError as error:
                last_error = error
        raise last_error

    def _on_failed_dial(self, why: str) -> None:
        self._context.traffic.failed_dials += 1
        self._redial_s = min(2 * self._redial_s, self._limits.redial_s_max)
        if self._muxer is None and self.is_welcome and why != self._why:
            logger.info("cannot connect to %s: %s", self.peer.name, why)
            self._why = why

    async def hold(self, muxer: Muxer) -> None:
        """Use a connection until it ends; one that loses against another is closed at once."""
        if not await self._take_turn(muxer):
            await muxer.close()
            return
        try:
            await self._context.transport.adopt(muxer)
            await self._carry(muxer)
        except* ConnectError as errors:
            muxer.abort(str(errors.exceptions[0]))
        except* ProtocolRefusedError:
            muxer.abort("it speaks another version of our protocols")
        except* trio.TooSlowError:
            muxer.abort("no answer")
        except* STREAM_ENDS:
            muxer.abort("connection lost")
        finally:
            self._let_go(muxer)

    async def _take_turn(self, muxer: Muxer) -> bool:
        """Decide between two connections to one peer as the peer decides, so that one of them stays.

        The newest stays: who dials has no connection any more. Only when both dialled at once it is the one that
        the lower name dialled.
        """
        while self._muxer is not None:
            is_simultaneous = trio.current_time() - self._muxer_since_s < _SIMULTANEOUS_S
            if is_simultaneous and muxer.is_initiator != self._muxer.is_initiator:
                lower_is_us = self._context.own_name < self.peer.name
                if muxer.is_initiator != lower_is_us:
                    return False
            self._muxer.abort("replaced by a newer connection")
            await self._unconnected.wait()
        if not self.is_welcome:
            return False
        self._muxer = muxer
        self._muxer_since_s = trio.current_time()
        self._unconnected = trio.Event()
        return True

    async def _carry(self, muxer: Muxer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_closed, muxer, nursery.cancel_scope)
            nursery.start_soon(self._watch, muxer)
            nursery.start_soon(self._join_gossip, muxer)
            async with trio.open_nursery() as opening:
                for outbound in self._outbound.values():
                    opening.start_soon(self._open_channel, muxer, outbound)
            for outbound in self._outbound.values():
                nursery.start_soon(outbound.write_queued)
            self._on_up()

    def _on_up(self) -> None:
        self._is_up = True
        self._why = ""
        self._redial_s = self._limits.redial_s_min
        logger.info("connected to %s", self.peer.name)
        self._context.on_connected(self.peer.name)

    def _let_go(self, muxer: Muxer) -> None:
        muxer.abort("stopped")
        self._context.transport.forget(muxer)
        self._context.leave_gossip(self.peer_id)
        for outbound in self._outbound.values():
            outbound.detach()
        self.requester.forget_streams()
        if self._is_up:
            logger.info("lost %s: %s", self.peer.name, muxer.close_reason)
        elif self._redial_s < self._limits.redial_s_max:
            self._redial_s *= 2  # It came to nothing: the next attempt waits longer.
        self._why = muxer.close_reason
        self._is_up = False
        self._muxer = None
        self._unconnected.set()

    async def _cancel_when_closed(self, muxer: Muxer, scope: trio.CancelScope) -> None:
        await muxer.closed.wait()
        scope.cancel()

    async def _open_channel(self, muxer: Muxer, outbound: Outbound) -> None:
        outbound.attach(await self._context.transport.open(muxer, outbound.channel.protocol))

    async def _join_gossip(self, muxer: Muxer) -> None:
        if not await self._context.join_gossip(self.peer_id):
            muxer.abort("it does not answer on the gossip stream")

    async def _watch(self, muxer: Muxer) -> None:
        """End a connection that has gone silent: a frozen peer or a cut cable is reported by nobody.

        Intervals are counted, not seconds: when it was this process that stood still, one interval has passed.
        """
        silent_pings, heard_bytes = 0, muxer.received_bytes
        while True:
            muxer.ping()
            await trio.sleep(self._limits.ping_interval_s)
            silent_pings = 0 if muxer.received_bytes > heard_bytes else silent_pings + 1
            heard_bytes = muxer.received_bytes
            if silent_pings == self._limits.silent_pings_max:
                silence_s = silent_pings * self._limits.ping_interval_s
                muxer.abort(f"no answer to ping for {silence_s:g} s")

    async def _open_request_stream(self) -> MuxerStream:
        if self._muxer is None or not self.is_connected:
            raise PeerUnreachableError(f"{self.peer.name} is not connected: {self.why}")
        return await self._context.transport.open(self._muxer, REQUEST_PROTOCOL)
