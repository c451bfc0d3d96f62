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

import trio
from libp2p.abc import INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import read_varint_prefixed_bytes_limited

from node.network.channels import Traffic
from node.network.limits import KIB, Allowance, NetworkLimits
from node.network.peers import PeerFaultError
from node.network.router import CONTROL_ENTRIES_MAX, MESSAGE_IDS_MAX, OutboundQueues, Router

GossipHandler = Callable[[str, bytes], None]

_ENVELOPE_BYTES_MAX = 64 * KIB
_MESSAGES_MAX = MESSAGE_IDS_MAX
_SEQNO_BYTES = 8
_REMEMBERED_MESSAGES = 16_384
_JOIN_S_MAX = 5.0


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
        self.mesh_router = Router(topics, traffic)
        super().__init__(
            host,
            self.mesh_router,
            strict_signing=True,
            max_inbound_rpc_size=4 * limits.gossip_size_bytes_max + _ENVELOPE_BYTES_MAX,
            max_subscriptions_per_rpc=CONTROL_ENTRIES_MAX,
            max_subscriptions_per_peer=CONTROL_ENTRIES_MAX,
            allowed_topics=topics.keys(),
        )
        # Defect 4: it starts at the time in seconds, so that after a restart peers take up to two minutes of
        # messages for ones they have seen. It must rise, and only a clock survives kill -9.
        self.counter = time.time_ns()  # noqa: TID251 - see above; it orders nothing of ours
        self.peer_queues = OutboundQueues(self.max_inbound_rpc_size)
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
