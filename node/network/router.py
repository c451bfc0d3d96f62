"""GossipSub's router with the library's traps closed: what it forgets, refuses and keeps of each peer."""

from collections.abc import Collection
from typing import Any

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue

from node.network.channels import Traffic
from node.network.peers import PeerFaultError

# Version 1.2 (IDONTWANT) costs more CPU for small messages and saves none for large ones.
_PROTOCOL = TProtocol("/meshsub/1.1.0")
CONTROL_ENTRIES_MAX = 64
MESSAGE_IDS_MAX = 512
_OUTBOUND_RPCS_MAX = 256
_FULL_MESH_PEERS_MAX = 4


class _KeepsNothing(dict[Any, Any]):
    """For tables of the library that grow with every message and serve nothing here."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forget it."""

    def __missing__(self, key: object) -> list[float]:
        return []


class Router(GossipSub):
    """Decides whom a message goes to, and what of a peer's control messages is taken."""

    def __init__(self, topics: Collection[str], traffic: Traffic) -> None:
        """Route these topics."""
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
        self._traffic = traffic
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

    def _handle_dropped_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC, reason: str) -> None:
        """Count what does not fit into the queue of a slow peer: the library drops it silently."""
        self._traffic.dropped_queue_full += len(rpc.publish)
        super()._handle_dropped_rpc(peer_id, rpc, reason)

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
        if len(topics) + len(control.iwant) > CONTROL_ENTRIES_MAX or ids > MESSAGE_IDS_MAX:
            raise PeerFaultError("sent too large a gossip control message")
        if len(set(iwanted)) < len(iwanted):
            raise PeerFaultError("asked for the same gossip message twice at once")
        if any(topic not in self._topics for topic in topics):
            raise PeerFaultError("sent gossip control for a topic that nobody has")
        if control.idontwant or any(prune.peers for prune in control.prune):
            raise PeerFaultError("sent gossip control that this version does not use")


class OutboundQueues(dict[ID, RpcQueue]):
    """The library's queues to its peers, made large enough: 32 messages of 1 MiB are dropped silently (defect 6)."""

    def __init__(self, size_bytes_max: int) -> None:
        super().__init__()
        self._size_bytes_max = size_bytes_max

    def __setitem__(self, peer_id: ID, queue: RpcQueue) -> None:
        queue.max_message_size = self._size_bytes_max
        queue._queue.max_size = _OUTBOUND_RPCS_MAX
        super().__setitem__(peer_id, queue)
