"""Members with real networks on loopback, and a member that speaks libp2p correctly and everything else as it likes."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import trio
from nacl.signing import SigningKey

from node.network.host import Network
from node.network.limits import NetworkLimits
from node.network.muxer import Muxer
from node.network.peers import Peer, PeerStatus
from node.network.tcp import connect
from node.network.transport import Transport, peer_id_of, quiet_library_logs

quiet_library_logs()

VOTE, BULK, TOPIC, SERVICE = "vote", "bulk", "transactions", "echo"


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Member:
    """A member's name, key and port."""

    name: str
    port: int

    @property
    def seed(self) -> bytes:
        return self.name.encode().ljust(32, b"\x00")

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    @property
    def peer(self) -> Peer:
        return Peer(self.name, bytes(SigningKey(self.seed).verify_key), (self.address,))


def members(*names: str) -> list[Member]:
    return [Member(name, free_port()) for name in names]


@dataclass
class Node:
    """One member's network, and everything it heard."""

    member: Member
    network: Network
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    gossip: list[tuple[str, bytes]] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)

    def status(self, peer: str) -> PeerStatus:
        return next(status for status in self.network.statuses() if status.name == peer)

    def hears(self, peer: str) -> bool:
        return self.status(peer).connected


def make_node(member: Member, peers: Sequence[Member], limits: NetworkLimits | None = None) -> Node:
    """A node that records messages and gossip and echoes requests."""
    network = Network(
        member.name, member.seed, (member.address,), [peer.peer for peer in peers if peer != member], limits=limits
    )
    node = Node(member, network)
    network.on_message(VOTE, lambda peer, message: node.messages.append((peer, message)), drop_oldest=True)
    network.on_message(BULK, lambda peer, message: node.messages.append((peer, message)))
    network.on_gossip(TOPIC, lambda publisher, data: node.gossip.append((publisher, data)))
    network.on_connected(node.connected.append)

    async def echo(_peer: str, payload: bytes) -> bytes:
        return payload

    network.on_request(SERVICE, echo)
    return node


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait for something that other tasks bring about."""
    with trio.fail_after(within_s):
        for _ in count():
            if condition():
                return
            await trio.sleep(0.005)


@asynccontextmanager
async def running(*nodes: Node, meshed: bool = True) -> AsyncIterator[None]:
    """Run the networks; ``meshed`` waits until each hears every peer of its own."""
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.network.run())
        if meshed:
            await until(lambda: all(status.connected for node in nodes for status in node.network.statuses()))
        yield


class Puppet:
    """A member, or a stranger, whose every byte the test decides: real libp2p up to the streams."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.transport = Transport(member.seed, handshake_s_max=5)
        for protocol in (f"/caretrace/{VOTE}/1", f"/caretrace/{BULK}/1", "/meshsub/1.1.0"):
            self.transport.serve(protocol, self.on_stream)

    async def on_stream(self, _peer: object, _stream: object) -> None:
        """Take a stream and never read it."""
        await trio.sleep_forever()

    @asynccontextmanager
    async def connected_to(self, member: Member) -> AsyncIterator[Muxer]:
        """Dial a member; raises ConnectError if it refuses."""
        tcp = await connect(member.address, 2)
        muxer = await self.transport.shake_hands(tcp, peer_id_of(member.peer.node_key), lambda _peer: True)
        async with self.transport.run():
            await self.transport.adopt(muxer)
            yield muxer
            muxer.abort("the test is over")
