"""The network of one node: what the rest of the node sends, asks, publishes and hears, by member name.

Everything passes between members only: a peer is named by the key that it proves to hold, and no other gets past
the handshake. A peer that misbehaves is disconnected, with the reason; a handler of ours that fails ends the node.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import trio
from libp2p.peer.id import ID

from node.network.channels import Channel, MessageHandler, Traffic, encode_message
from node.network.gossip import Gossip, GossipHandler, GossipReport
from node.network.limits import NetworkLimits
from node.network.link import Link, LinkContext
from node.network.muxer import Muxer
from node.network.peers import Peer, PeerFaultError, PeerStatus, PeerUnreachableError, RequestError
from node.network.reception import Reception
from node.network.requests import PROTOCOL as REQUEST_PROTOCOL
from node.network.requests import RequestHandler
from node.network.stream import MuxerStream
from node.network.tcp import address_of, listeners
from node.network.transport import STREAM_ENDS, Transport

logger = logging.getLogger("caretrace.network")


async def _read_channel(channel: Channel, link: Link, stream: MuxerStream) -> None:
    await link.inbound.read(channel, stream)


async def _serve_requests(link: Link, stream: MuxerStream) -> None:
    await link.responder.serve(stream)


class Network:
    """Messages, requests and gossip between the members' nodes.

    Handlers are registered before ``run``. Those of messages and gossip are called at once and must be quick: they
    hand over to a queue of their own.
    """

    def __init__(
        self,
        name: str,
        node_seed: bytes,
        listen: Sequence[str],
        peers: Sequence[Peer],
        *,
        limits: NetworkLimits | None = None,
    ) -> None:
        """Be the node of member ``name``, with the Ed25519 seed (32 bytes) of its node key.

        Args:
            name: the member's own name.
            node_seed: 32 bytes; the node key is made from it.
            listen: multiaddrs to listen on; port 0 takes any.
            peers: the other members.
            limits: other bounds than the defaults.
        """
        self.traffic = Traffic()
        """What went through since the start, for metrics."""
        self.addresses: tuple[str, ...] = ()
        """What this node listens on, once it runs."""
        self._name = name
        self._listen = tuple(listen)
        self._peers = tuple(peers)
        self._limits = limits if limits is not None else NetworkLimits()
        self._transport = Transport(node_seed, self._limits.handshake_s_max)
        self._transport.on_fault = self._on_fault
        self._channels: dict[str, Channel] = {}
        self._services: dict[str, RequestHandler] = {}
        self._topics: dict[str, GossipHandler] = {}
        self._connected_handlers: list[Callable[[str], None]] = []
        self._links: dict[str, Link] = {}
        self._links_by_id: dict[ID, Link] = {}
        self._gossip: Gossip | None = None
        self._nursery: trio.Nursery | None = None
        self._bug: Exception | None = None
        self._failed = trio.Event()

    def on_message(self, channel: str, handler: MessageHandler, *, drop_oldest: bool = False) -> None:
        """Call ``handler(peer, message)`` for each message of a channel; the same on all nodes.

        When a peer's queue is full, ``drop_oldest`` drops what waits longest instead of refusing the newest.
        """
        assert self._nursery is None, "handlers are registered before the network runs"
        self._channels[channel] = Channel(channel, handler, drop_oldest)

    def on_request(self, service: str, handler: RequestHandler) -> None:
        """Answer requests with what ``handler(peer, payload)`` returns; it may raise RequestRefusedError."""
        assert self._nursery is None, "handlers are registered before the network runs"
        self._services[service] = handler

    def on_gossip(self, topic: str, handler: GossipHandler) -> None:
        """Call ``handler(publisher, data)`` once for each message that another member published."""
        assert self._nursery is None, "handlers are registered before the network runs"
        self._topics[topic] = handler

    def on_connected(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(peer)`` whenever a peer is connected: what was sent before may be lost, so send it again."""
        self._connected_handlers.append(handler)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Listen, dial and carry while the context lasts.

        Raises:
            AddressInUseError, ListenError: the node cannot listen where it should.
        """
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(listeners(self._listen))
            self.addresses = tuple(map(address_of, opened))
            await stack.enter_async_context(self._transport.run())
            if self._topics:
                self._gossip = self._make_gossip()
                await stack.enter_async_context(self._gossip.serve())
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self._serve_streams()
            self.set_peers(self._peers)
            self._nursery.start_soon(self._surface_bug)
            reception = Reception(self._transport, self._is_welcome, self._hold, self._limits, self.traffic)
            for listener in opened:
                self._nursery.start_soon(reception.accept, listener)
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel()

    def send(self, peer: str, channel: str, message: bytes) -> bool:
        """Send a message without waiting; False if it was dropped (no connection, or the queue is full)."""
        return self._links[peer].send(channel, encode_message(message, self._limits))

    def broadcast(self, channel: str, message: bytes) -> None:
        """Send a message to every peer."""
        frame = encode_message(message, self._limits)
        for link in self._links.values():
            link.send(channel, frame)

    async def request(self, peer: str, service: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask one peer and return its answer.

        Raises:
            RequestError: PeerUnreachableError, RequestRefusedError or RequestTimeoutError.
        """
        link = self._links.get(peer)
        if link is None:
            raise PeerUnreachableError(f"{peer} is no peer of this node")
        try:
            return await link.requester.ask(service, payload, timeout_s)
        except PeerFaultError as fault:
            link.drop(str(fault))
            raise RequestError(str(fault)) from fault

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip a message to all members; what is too large is our bug. Nothing tells who received it."""
        assert self._gossip is not None, "gossip is published while the network runs, on topics with a handler"
        assert topic in self._topics, f"no handler for topic {topic}"
        assert len(data) <= self._limits.gossip_size_bytes_max, f"{len(data)} bytes are too large for gossip"
        self.traffic.messages_out += 1
        self.traffic.bytes_out += len(data)
        await self._gossip.publish(topic, data)

    def statuses(self) -> tuple[PeerStatus, ...]:
        """How it stands with each peer, by name."""
        return tuple(self._links[name].status() for name in sorted(self._links))

    def drop(self, peer: str, reason: str) -> None:
        """Disconnect a peer that misbehaved ("it ..." and the reason must make a sentence) and bar it for a while."""
        link = self._links.get(peer)
        if link is not None:
            link.drop(reason)

    def set_peers(self, peers: Sequence[Peer]) -> None:
        """Change the members: who is gone is disconnected, who is new is dialled, the others stay as they are."""
        self._peers = tuple(peers)
        if self._nursery is None:
            return
        wanted = {peer.name: peer for peer in peers}
        for name, link in list(self._links.items()):
            if wanted.get(name) != link.peer:
                link.remove()
                del self._links[name]
                del self._links_by_id[link.peer_id]
        for name, peer in wanted.items():
            if name not in self._links:
                link = Link(peer, self._link_context())
                assert link.peer_id not in self._links_by_id, f"{name} has the node key of another member"
                self._links[name] = self._links_by_id[link.peer_id] = link
                self._nursery.start_soon(link.keep_connected)
        if self._gossip is not None:
            self._gossip.mesh_router.fit_mesh(len(self._links))

    def _link_context(self) -> LinkContext:
        return LinkContext(
            own_name=self._name,
            transport=self._transport,
            channels=self._channels,
            services=self._services,
            limits=self._limits,
            traffic=self.traffic,
            on_connected=self._on_connected,
            join_gossip=self._join_gossip,
            leave_gossip=self._leave_gossip,
        )

    def _on_connected(self, peer: str) -> None:
        for handler in self._connected_handlers:
            handler(peer)

    async def _join_gossip(self, peer_id: ID) -> bool:
        return self._gossip is None or await self._gossip.add(peer_id)

    def _leave_gossip(self, peer_id: ID) -> None:
        if self._gossip is not None:
            self._gossip.remove(peer_id)

    def _make_gossip(self) -> Gossip:
        report = GossipReport(self._member_name, self._on_fault, self._crash)
        return Gossip(self._transport.host, self._topics, self._limits, self.traffic, report)

    def _member_name(self, peer_id: ID) -> str | None:
        link = self._links_by_id.get(peer_id)
        return link.peer.name if link is not None else None

    def _on_fault(self, peer_id: ID, reason: str) -> None:
        link = self._links_by_id.get(peer_id)
        if link is not None:
            link.drop(reason)

    def _crash(self, bug: Exception) -> None:
        self._bug = bug
        self._failed.set()

    async def _surface_bug(self) -> None:
        """Raise a handler's bug here, where it ends the node and not one of the library's tasks."""
        await self._failed.wait()
        assert self._bug is not None
        raise self._bug

    def _serve_streams(self) -> None:
        for channel in self._channels.values():
            self._serve(channel.protocol, partial(_read_channel, channel))
        self._serve(REQUEST_PROTOCOL, _serve_requests)

    def _serve(self, protocol: str, serve: Callable[[Link, MuxerStream], Awaitable[None]]) -> None:
        """Serve a protocol's streams; here it is decided whose fault an error is."""

        async def handle(peer_id: ID, stream: MuxerStream) -> None:
            link = self._links_by_id.get(peer_id)
            if link is None:
                return
            try:
                await serve(link, stream)
            except STREAM_ENDS:
                pass
            except PeerFaultError as fault:
                link.drop(str(fault))
            except Exception as bug:  # noqa: BLE001 - ours: it must end the node, and the library would log it away
                self._crash(bug)

        self._transport.serve(protocol, handle)

    def _is_welcome(self, peer_id: ID) -> bool:
        link = self._links_by_id.get(peer_id)
        return link is not None and link.is_welcome

    async def _hold(self, muxer: Muxer) -> None:
        link = self._links_by_id.get(muxer.peer_id)
        if link is None:  # It was removed in this moment.
            await muxer.close()
        else:
            await link.hold(muxer)
