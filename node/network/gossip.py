"""GossipSub between members: what one publishes reaches all, also those it has no connection to.

The library's defaults lose messages (docs/adr/0006-libp2p.md); the mends stand at their places below. What a peer
sends is checked synchronously, before the library keeps or forwards it: an asynchronous validator delivers twice
(defect 7).
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import read_varint_prefixed_bytes_limited

from node.network.channels import Traffic
from node.network.limits import KIB, Allowance, NetworkLimits
from node.network.peers import PeerFaultError

GossipHandler = Callable[[str, bytes], None]

# Version 1.2 (IDONTWANT) costs more CPU for small messages and saves none for large ones.
_PROTOCOL = TProtocol("/meshsub/1.1.0")
_ENVELOPE_BYTES_MAX = 64 * KIB
_CONTROL_ENTRIES_MAX = 64
_MESSAGE_IDS_MAX = 512
_MESSAGES_MAX = _MESSAGE_IDS_MAX
_SEQNO_BYTES = 8
_OUTBOUND_RPCS_MAX = 1024
_REMEMBERED_MESSAGES = 16_384
_FULL_MESH_PEERS_MAX = 4
_JOIN_S_MAX = 5.0


class _KeepsNothing(dict[Any, Any]):
    """For tables of the library that grow with every message and serve nothing here."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forget it."""

    def __missing__(self, key: object) -> list[float]:
        return []


class Router(GossipSub):
    """GossipSub with the library's traps closed."""

    def __init__(self, topics: Mapping[str, GossipHandler]) -> None:
        """``topics`` may still grow."""
        super().__init__(
            protocols=[_PROTOCOL],
            degree=1,
            degree_low=1,
            degree_high=1,
            heartbeat_interval=1,  # The default is 120 s.
            adaptive_gossip_enabled=False,  # Defect 12: it stretches the heartbeat to 30-60 s.
            spam_protection_enabled=False,  # Defect 5: 10 messages a second a peer, the rest silently dropped.
            eclipse_protection_enabled=False,
            max_pending_messages_per_peer=8,
        )
        self._topics = topics
        # Defect 10: its signs are the specification's inverted. A peer that misbehaves is disconnected.
        self.scorer = None
        # Defect 11: up to 1000 whole messages. We drop equal content by its hash, and sign what must not differ.
        self.equivocation_detection = _KeepsNothing()
        # The time of every message, forgotten only while adaptive gossip is on.
        self.recent_message_deliveries = _KeepsNothing()

    def fit_mesh(self, peers: int) -> None:
        """Everyone to everyone while that is cheap, else about four each: 2.5 times cheaper at eight nodes."""
        full = peers <= _FULL_MESH_PEERS_MAX
        self.degree = max(1, peers) if full else 4
        self.degree_low = self.degree if full else 3
        # Well above: while members change, nodes count differently, and who is pruned stays out for a minute.
        self.degree_high = 12 if full else 6

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Take a peer's control messages if they stay within bounds."""
        self._check_control(rpc.control)
        await super().handle_rpc(rpc, sender_peer_id)

    def _check_control(self, control: rpc_pb2.ControlMessage) -> None:
        """Refuse what makes the library remember or send without bound.

        It keeps state for any topic that a peer names, answers the same id as often as one IWANT repeats it
        (a request of 1 MiB would be answered with gigabytes), and dials whom a PRUNE recommends.
        """
        topics = [entry.topicID for entry in control.ihave]
        topics += [entry.topicID for entry in control.graft] + [entry.topicID for entry in control.prune]
        iwanted = [message_id for iwant in control.iwant for message_id in iwant.messageIDs]
        ids = len(iwanted) + sum(len(ihave.messageIDs) for ihave in control.ihave)
        if len(topics) + len(control.iwant) > _CONTROL_ENTRIES_MAX or ids > _MESSAGE_IDS_MAX:
            raise PeerFaultError("sent too large a gossip control message")
        if len(set(iwanted)) < len(iwanted):
            raise PeerFaultError("asked for the same gossip message twice at once")
        if any(topic not in self._topics for topic in topics):
            raise PeerFaultError("sent gossip control for a topic that nobody has")
        if control.idontwant or any(prune.peers for prune in control.prune):
            raise PeerFaultError("sent gossip control that this version does not use")


class _OutboundQueues(dict[ID, RpcQueue]):
    """The library's queues to its peers, made large enough: 32 messages of 1 MiB are dropped silently (defect 6)."""

    def __init__(self, size_bytes_max: int) -> None:
        super().__init__()
        self._size_bytes_max = size_bytes_max

    def __setitem__(self, peer_id: ID, queue: RpcQueue) -> None:
        queue.max_message_size = self._size_bytes_max
        queue._queue.max_size = _OUTBOUND_RPCS_MAX
        super().__setitem__(peer_id, queue)


@dataclass(frozen=True)
class GossipReport:
    """Whom gossip tells what."""

    member_name: Callable[[ID], str | None]
    """A member's name by its libp2p id; None is no member."""
    fault: Callable[[ID, str], None]
    """A peer misbehaved."""
    crash: Callable[[Exception], None]
    """A handler has a bug."""


class Gossip(Pubsub):
    """Topics, who published what, and each message once."""

    def __init__(
        self,
        host: BasicHost,
        topics: Mapping[str, GossipHandler],
        limits: NetworkLimits,
        traffic: Traffic,
        report: GossipReport,
    ) -> None:
        """Deliver messages of these topics to their handlers."""
        self._topics = topics
        self._limits = limits
        self._traffic = traffic
        self._report = report
        self._allowances: defaultdict[ID, Allowance] = defaultdict(
            lambda: Allowance(limits.gossip_per_s, 2 * limits.gossip_per_s)
        )
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self.mesh_router = Router(topics)
        super().__init__(
            host,
            self.mesh_router,
            strict_signing=True,
            max_inbound_rpc_size=4 * limits.gossip_size_bytes_max + _ENVELOPE_BYTES_MAX,
            max_subscriptions_per_rpc=_CONTROL_ENTRIES_MAX,
            max_subscriptions_per_peer=_CONTROL_ENTRIES_MAX,
            allowed_topics=topics.keys(),
        )
        # Defect 4: it starts at the time in seconds, so that after a restart peers take up to two minutes of
        # messages for ones they have seen. It must rise, and only a clock survives kill -9.
        self.counter = time.time_ns()  # noqa: TID251 - see above; it orders nothing of ours
        self.peer_queues = _OutboundQueues(self.max_inbound_rpc_size)
        # Connections are told by ``add`` and ``remove``, in their order; the library's own notices race a reconnect.
        swarm = host.get_network()
        assert isinstance(swarm, Swarm)
        self._unused_notifees = list(swarm.notifees)
        swarm.notifees.clear()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Take part while the context lasts."""
        async with background_trio_service(self), background_trio_service(self.mesh_router):
            await self.wait_until_ready()
            for topic in self._topics:
                await self.subscribe(topic)
            yield

    async def add(self, peer_id: ID) -> bool:
        """Speak with a peer that has just been connected; False if it does not answer."""
        return await self.ensure_peer_stream(peer_id, timeout=_JOIN_S_MAX)

    def remove(self, peer_id: ID) -> None:
        """Forget a peer whose connection has ended."""
        self._handle_dead_peer(peer_id)

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read what a peer gossips, one message after the other.

        The library starts a task for each message, and each start looks through all tasks: 3000 small messages in
        one packet held everything up for 5 s.

        Raises:
            PeerFaultError: no honest peer publishes or forwards this.
        """
        peer_id = stream.muxed_conn.peer_id
        try:
            while True:
                packet = await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size)
                rpc = rpc_pb2.RPC.FromString(packet)
                await self._take_rpc(rpc, peer_id)
        except MessageTooLarge:
            raise PeerFaultError("announced gossip larger than any") from None
        except IOException:
            return  # The stream ended.

    async def _take_rpc(self, rpc: rpc_pb2.RPC, peer_id: ID) -> None:
        if len(rpc.publish) > _MESSAGES_MAX or len(rpc.subscriptions) > self.max_subscriptions_per_rpc:
            raise PeerFaultError("sent too large a gossip packet")
        for message in rpc.publish:
            self._check_message(message)
            await self.push_msg(peer_id, message)
            await trio.lowlevel.checkpoint()
        for subscription in rpc.subscriptions:
            self.handle_subscription(peer_id, subscription)
        if rpc.HasField("control"):
            await self.mesh_router.handle_rpc(rpc, peer_id)

    def _check_message(self, message: rpc_pb2.Message) -> None:
        if len(message.topicIDs) != 1 or message.topicIDs[0] not in self._topics:
            raise PeerFaultError("sent gossip on a topic that nobody has")
        if len(message.data) > self._limits.gossip_size_bytes_max:
            raise PeerFaultError(f"sent a gossip message of {len(message.data)} bytes")
        if len(message.seqno) != _SEQNO_BYTES:
            raise PeerFaultError("sent a malformed gossip message")

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Verify, deliver and forward one message; whatever it holds, the service survives it.

        Raises:
            PeerFaultError: its forwarder sends too many.
        """
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        if not self._allowances[msg_forwarder].take():
            raise PeerFaultError("floods gossip")
        if self._report.member_name(ID(msg.from_id)) is None:
            self._traffic.gossip_ignored += 1
            return
        try:
            await super().push_msg(msg_forwarder, msg)
        except PeerFaultError as fault:
            # The handler's verdict, so the message is not forwarded; its signature proves whose it is.
            self._report.fault(ID(msg.from_id), str(fault))
        except Exception as error:  # noqa: BLE001 - the library lets out whatever its parsers raise, and would end
            self._report.fault(msg_forwarder, f"sent gossip that cannot be read ({type(error).__name__})")

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Deliver a verified message at once: the library's channel to a subscriber drops what exceeds 32.

        Raises:
            PeerFaultError: the handler found that its publisher lies.
        """
        publisher = ID(publish_message.from_id)
        name = self._report.member_name(publisher)
        if publisher == self.my_id or name is None:
            return
        topic, data = publish_message.topicIDs[0], publish_message.data
        if self._is_repeated(publisher, topic, data):
            self._traffic.gossip_ignored += 1
            return
        self._traffic.messages_in += 1
        self._traffic.bytes_in += len(data)
        try:
            self._topics[topic](name, data)
        except PeerFaultError:
            raise
        except Exception as bug:  # noqa: BLE001 - ours: it ends the node, where ``push_msg`` would blame the peer
            self._report.crash(bug)

    def _is_repeated(self, publisher: ID, topic: str, data: bytes) -> bool:
        """Whether this was delivered before.

        The library remembers two minutes; then a peer could replay what others published. The publisher is part
        of the hash, else whoever copies a message first would have the original dropped.
        """
        digest = sha256(b"\x00".join((publisher.to_bytes(), topic.encode(), data))).digest()
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
            return True
        self._remembered[digest] = None
        if len(self._remembered) > _REMEMBERED_MESSAGES:
            self._remembered.popitem(last=False)
        return False
