"""A member's node key without a member's manners: real libp2p, and above it whatever a test decides."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import trio

from consensus.pbft.messages import MESSAGE, Message, Vote
from node.custody.wire import CONTENT_SERVICE, KEY_SERVICE
from node.network.host import Network
from node.network.limits import MIB, NetworkLimits
from node.network.peers import Peer, PeerStatus, RequestError, RequestRefusedError
from node.network.transport import STREAM_ENDS, quiet_library_logs
from node.replication.driver import BLOCK_CHANNEL, VOTE_CHANNEL
from node.replication.intake import CHANNEL as TRANSACTIONS_CHANNEL
from node.replication.intake import OVERDUE_CHANNEL
from node.replication.wire import BLOCKS_SERVICE, BODIES_SERVICE, HEADS_TOPIC, TRANSACTIONS_TOPIC
from storage.schema.codec import encode
from storage.schema.genesis import Genesis
from tests.support.running_network import until

# It says more than anyone may, and waits for nobody's allowance.
LIMITS = NetworkLimits(message_size_bytes_max=64 * MIB, gossip_size_bytes_max=8 * MIB, queue_bytes_max=512 * MIB)
FLOOD_S_MAX = 30
CHANNELS = (VOTE_CHANNEL, BLOCK_CHANNEL, TRANSACTIONS_CHANNEL, OVERDUE_CHANNEL)
TOPICS = (TRANSACTIONS_TOPIC, HEADS_TOPIC)
SERVICES = (BODIES_SERVICE, BLOCKS_SERVICE, CONTENT_SERVICE, KEY_SERVICE)

T = TypeVar("T")


class HostileMember:
    """One member's libp2p host, in a thread of its own: it answers nothing that a test has not written.

    Attributes:
        heard: every engine message that came, with the member that sent it, in order.
        answers: what to answer peers that ask, by service; called in a thread, so that it may wait.
        answered: how often that was done, by service.
    """

    def __init__(self, genesis: Genesis, name: str, node_seed: bytes, peers: Sequence[str], listen: str = "") -> None:
        self.name = name
        self.genesis = genesis
        self.node_seed = node_seed
        self.heard: list[tuple[str, Message]] = []
        self.answers: dict[str, Callable[[str, bytes], bytes]] = {}
        self.answered: Counter[str] = Counter()
        known = [Peer(m.name, m.node_key, m.addresses) for m in genesis.body.members if m.name in peers]
        self.network = Network(name, node_seed, (listen,) if listen else (), known, limits=LIMITS)
        for channel in CHANNELS:
            self.network.on_message(channel, partial(self._hear, channel))
        for service in SERVICES:
            self.network.on_request(service, partial(self._answer, service))
        for topic in TOPICS:
            self.network.on_gossip(topic, lambda _publisher, _data: None)
        self._running, self._stopped = threading.Event(), trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def _hear(self, channel: str, peer: str, data: bytes) -> None:
        if channel in (VOTE_CHANNEL, BLOCK_CHANNEL):
            self.heard.append((peer, MESSAGE.decode(data)))

    async def _answer(self, service: str, peer: str, payload: bytes) -> bytes:
        if service not in self.answers:
            raise RequestRefusedError("not from me")
        answer = await trio.to_thread.run_sync(self.answers[service], peer, payload)
        self.answered[service] += 1
        return answer

    async def serve(self) -> None:
        """Run until ``stop``."""
        quiet_library_logs()
        async with self.network.run():
            self._token = trio.lowlevel.current_trio_token()
            self._running.set()
            await self._stopped.wait()

    def stop(self) -> None:
        """End the thread."""
        if self._token is not None:
            self._token.run_sync_soon(self._stopped.set)

    @property
    def is_running(self) -> bool:
        return self._running.is_set()

    def send(self, peer: str, message: Message | bytes, channel: str = VOTE_CHANNEL) -> bool:
        """Say something to a peer; False if there is no connection."""
        data = message if isinstance(message, bytes) else encode(message)
        return self.call(self.network.send, peer, channel, data)

    def tell(self, message: Message | bytes, *peers: str, channel: str = VOTE_CHANNEL) -> None:
        """Say the same to several peers, all of which must be there."""
        for peer in peers:
            assert self.send(peer, message, channel), f"{peer} is connected"

    def flood(self, messages: Sequence[bytes], *peers: str, channel: str = VOTE_CHANNEL) -> None:
        """Send many messages as fast as peers take them."""

        async def send_all() -> None:
            with trio.fail_after(FLOOD_S_MAX):
                for message in messages:
                    for peer in peers:
                        while not self.network.send(peer, channel, message):  # noqa: ASYNC110 - a queue tells nobody
                            await trio.sleep(0.001)
                    await trio.lowlevel.checkpoint()

        trio.from_thread.run(send_all, trio_token=self._token)

    def begin_to_say(self, peer: str, protocol: str, data: bytes) -> None:
        """Open one more stream under a protocol, and leave what is said on it unfinished."""

        async def begin() -> None:
            muxer = self.network._links[peer]._muxer
            assert muxer is not None, f"{peer} is connected"
            with suppress(*STREAM_ENDS):  # One too many is broken off by the peer, in the midst of writing.
                await (await self.network._transport.open(muxer, protocol)).write(data)

        trio.from_thread.run(begin, trio_token=self._token)

    def ask(self, peer: str, service: str, payload: bytes, timeout_s: float = 30.0) -> bytes:
        """Ask a peer, and return its answer."""
        return trio.from_thread.run(self.network.request, peer, service, payload, timeout_s, trio_token=self._token)

    def ask_in_vain(self, peer: str, service: str, payload: bytes) -> str:
        """Ask a peer that must not answer; returns the reason."""
        try:
            answer = self.ask(peer, service, payload)
        except RequestError as error:
            return str(error)
        raise AssertionError(f"{peer} answered {len(answer)} bytes")

    def reaches(self, peer: str, topic: str) -> bool:
        """Whether a peer takes this member's gossip on a topic directly."""
        gossip, link = self.network._gossip, self.network._links[peer]
        assert gossip is not None, "gossip runs while the network does"
        return link.peer_id in gossip.mesh_router.mesh.get(topic, ())

    def publish(self, topic: str, data: bytes) -> None:
        """Gossip something."""
        trio.from_thread.run(self.network.publish, topic, data, trio_token=self._token)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of the network in its thread."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def status(self, peer: str) -> PeerStatus:
        return next(status for status in self.call(self.network.statuses) if status.name == peer)

    def is_connected(self, *peers: str) -> bool:
        return all(self.status(peer).connected for peer in peers)

    def votes_for(self, digest: bytes) -> list[tuple[str, Vote]]:
        """The votes heard about a block, with the member that cast each."""
        return [
            (peer, message) for peer, message in self.heard if isinstance(message, Vote) and message.digest == digest
        ]


@contextmanager
def running(member: HostileMember) -> Iterator[HostileMember]:
    """Run a member's host; what went wrong in its thread is raised here."""
    with ThreadPoolExecutor(1, f"hostile-{member.name}") as threads:
        ended = threads.submit(trio.run, member.serve)
        try:
            until(lambda: member.is_running or ended.done())
            if member.is_running:
                yield member
        finally:
            member.stop()
            ended.result()
