"""The libp2p host of this node: its identity, the handshake that names a peer, and streams by protocol.

What of the library is used: Noise, multistream-select, its swarm and host (GossipSub stands on them). What is not:
its sockets (``tcp``), its dialler, its multiplexer (``muxer``), Identify, resource manager, auto-dialling. With
these go defects 1 (a slot kept for each connection ever accepted), 3 (a peer banned for 60 s by one failed dial),
13 (QUIC costs 25 times the CPU: nothing but TCP is offered) and the 250 ms of every connect.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import libp2p
import trio
from libp2p.abc import INetStream, ISecureConn
from libp2p.crypto.ed25519 import Ed25519PublicKey, create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectClientError, ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from node.network import yamux
from node.network.muxer import Muxer
from node.network.peers import REFUSED, PeerFaultError
from node.network.stream import MuxerStream
from node.network.tcp import ConnectError, TcpStream

# Private attributes and measured behaviour of exactly this version are relied on; see docs/adr/0006-libp2p.md.
LIBRARY_VERSION = "0.8.1"
if libp2p.__version__ != LIBRARY_VERSION:
    raise ImportError(f"libp2p {LIBRARY_VERSION} is needed, {libp2p.__version__} is installed: its mends fit no other")

_NEGOTIATION_S_MAX = 5
_LIBRARY_LOGGERS = ("libp2p", "multiaddr")

STREAM_ENDS = (IOException, MuxedStreamError, MuxedConnError, MultiselectClientError)
"""What reading or writing raises when a stream or its connection ends: nobody's fault, the connection is redialled."""


class ProtocolRefusedError(Exception):
    """The peer does not offer the protocol of a stream."""


def peer_id_of(node_key: bytes) -> ID:
    """The libp2p name of an Ed25519 public key of 32 bytes."""
    return ID.from_pubkey(Ed25519PublicKey.from_bytes(node_key))


def quiet_library_logs() -> None:
    """Keep libp2p's own logging out of the operator's sight: it prints every refused connection as an error.

    ``caretrace.network`` says in one line each what matters of it.
    """
    for name in ("libp2p", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LIBRARY_LOGGERS:  # One by one: some of them set a level of their own.
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # This module logs on the root logger, which would even install a handler there.
    setattr(swarm_connection, "logging", logging.getLogger("libp2p.network.connection"))  # noqa: B010 - a module


class _DiscreetHost(BasicHost):
    """Announces no addresses, as gossip otherwise does with every message: where members are, the ledger says."""

    def get_addrs(self) -> list[Multiaddr]:
        """Nothing."""
        return []


class Transport:
    """This node's libp2p host; it speaks of peers by libp2p id, everything above it by member name."""

    def __init__(self, node_seed: bytes, handshake_s_max: float) -> None:
        """Take the node's Ed25519 seed of 32 bytes; nothing is opened yet."""
        keys = create_new_key_pair(node_seed)
        self.peer_id = ID.from_pubkey(keys.public_key)
        self.on_fault: Callable[[ID, str], None] = lambda _peer_id, _reason: None
        """Told when a peer sends what the library cannot read, or what a handler calls a fault."""
        self._handshake_s_max = handshake_s_max
        self._client = MultiselectClient()
        self._muxers = Multiselect({TProtocol(yamux.PROTOCOL): None})
        noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
        self._upgrader = TransportUpgrader({NOISE: noise}, {})
        peers = PeerStore()
        peers.add_key_pair(self.peer_id, keys)
        self._swarm = Swarm(
            self.peer_id,
            peers,
            self._upgrader,
            transports=[],  # Without one the library cannot dial, whatever address a peer tells it.
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                min_connections=0,
                low_watermark=0,
                inbound_stream_protocol_negotiation_timeout=_NEGOTIATION_S_MAX,
                outbound_stream_protocol_negotiation_timeout=_NEGOTIATION_S_MAX,
            ),
        )
        self.host = _DiscreetHost(network=self._swarm, disable_identify_address_discovery=True)
        # Identify, its push and ping tell strangers what we run and let a peer write into our address book.
        self.host.multiselect.handlers.clear()
        self._swarm.notifees.clear()
        self._swarm.set_stream_handler(self._on_stream)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run the library's background tasks while the context lasts."""
        async with background_trio_service(self._swarm):
            yield

    async def shake_hands(self, tcp: TcpStream, expected: ID | None, is_welcome: Callable[[ID], bool]) -> Muxer:
        """Learn who is at the other end, and return the connection if that peer is welcome.

        Its id is the key that it proved to hold in the Noise handshake. A stranger learns ours, and nothing more.

        Raises:
            ConnectError: another identity than expected, not welcome, or no handshake that we understand.
        """
        muxer: Muxer | None = None
        words = "no libp2p handshake"
        try:
            with trio.fail_after(self._handshake_s_max):
                secured = await self._upgrader.upgrade_security(tcp, tcp.is_initiator, expected)
                peer_id = secured.get_remote_peer()
                if not is_welcome(peer_id):
                    raise ConnectError("not a member")
                words = REFUSED
                await self._agree_on_muxer(secured)
                muxer = Muxer(secured, peer_id)
                return muxer
        except ConnectError:
            raise
        except trio.TooSlowError as error:
            raise ConnectError("no answer to the handshake") from error
        except Exception as error:  # Anything: the library parses what strangers send.
            raise ConnectError("wrong identity" if _is_wrong_identity(error) else words) from error
        finally:
            if muxer is None:
                await tcp.close()

    async def _agree_on_muxer(self, secured: ISecureConn) -> None:
        communicator = MultiselectCommunicator(secured)
        if secured.is_initiator:
            await self._client.handshake(communicator)
            await self._client.try_select(communicator, TProtocol(yamux.PROTOCOL))
        else:
            await self._muxers.negotiate(communicator)

    async def adopt(self, muxer: Muxer) -> None:
        """Hand a connection to the library, which carries it until it ends.

        Raises:
            ConnectError: it ended before.
        """
        try:
            await self._swarm.add_conn(muxer, "outbound" if muxer.is_initiator else "inbound")
        except SwarmException as error:
            raise ConnectError(muxer.close_reason or "connection lost") from error

    def forget(self, muxer: Muxer) -> None:
        """Take an ended connection off the library's list now, not 100 ms later when it has tidied up."""
        for connection in self._swarm.get_connections(muxer.peer_id):
            if isinstance(connection, swarm_connection.SwarmConn) and connection.muxed_conn is muxer:
                self._swarm.remove_conn(connection)

    def serve(self, protocol: str, handler: Callable[[ID, MuxerStream], Awaitable[None]]) -> None:
        """Handle the streams that peers open under a protocol; the stream is broken off when the handler returns."""

        async def on_stream(stream: INetStream) -> None:
            assert isinstance(stream, NetStream)
            assert isinstance(stream.muxed_stream, MuxerStream)
            await handler(stream.muxed_conn.peer_id, stream.muxed_stream)

        self.host.set_stream_handler(TProtocol(protocol), on_stream)

    async def open(self, muxer: Muxer, protocol: str) -> MuxerStream:
        """Open a stream under a protocol.

        Raises:
            ProtocolRefusedError: the peer does not offer it.
            trio.TooSlowError: it does not answer.
            STREAM_ENDS: the connection ended.
        """
        stream = await muxer.open_stream()
        communicator = MultiselectCommunicator(stream)
        try:
            with trio.fail_after(_NEGOTIATION_S_MAX):
                await self._client.handshake(communicator)
                await self._client.try_select(communicator, TProtocol(protocol))
        except ProtocolNotSupportedError as error:
            stream.break_off()
            raise ProtocolRefusedError(protocol) from error
        except BaseException:
            stream.break_off()
            raise
        return stream

    async def _on_stream(self, stream: INetStream) -> None:
        """Let the library find the handler of a new stream, and outlive what comes of it.

        Defect 2: an exception that leaves a stream's handler ends the whole host, and hostile bytes raise what
        the library forgot to catch (protobuf's DecodeError, UnicodeDecodeError, StreamFailure).
        """
        peer_id = stream.muxed_conn.peer_id
        try:
            await self.host._swarm_stream_handler(stream)
        except STREAM_ENDS:
            pass
        except PeerFaultError as fault:
            self.on_fault(peer_id, str(fault))
        except Exception as error:  # noqa: BLE001 - see above; our own handlers let nothing else out
            self.on_fault(peer_id, f"sent what libp2p cannot read ({type(error).__name__})")
        finally:
            await stream.reset()


def _is_wrong_identity(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, PeerIDMismatchesPubkey) or "Peer ID mismatch" in str(error):
            return True
        error = error.__cause__
    return False
