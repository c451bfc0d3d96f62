"""Two ends of one encrypted connection, each with its multiplexer running."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport as NoiseTransport

from node.network.muxer import Muxer
from node.network.stream import MuxerStream
from node.network.tcp import TcpStream


def _end(sock: socket.socket, *, is_initiator: bool) -> TcpStream:
    return TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), is_initiator=is_initiator)


async def secured_pair() -> tuple[ISecureConn, ISecureConn]:
    """Both ends of a connection after the Noise handshake: the dialler's and the listener's."""
    here, there = socket.socketpair()
    ends: dict[bool, ISecureConn] = {}
    keys = {is_initiator: create_new_key_pair(bytes([is_initiator + 1]) * 32) for is_initiator in (True, False)}

    async def shake_hands(sock: socket.socket, is_initiator: bool) -> None:
        noise = NoiseTransport(keys[is_initiator], noise_privkey=create_noise_key_pair().private_key)
        tcp = _end(sock, is_initiator=is_initiator)
        if is_initiator:
            ends[True] = await noise.secure_outbound(tcp, ID.from_pubkey(keys[False].public_key))
        else:
            ends[False] = await noise.secure_inbound(tcp)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands, here, True)
        nursery.start_soon(shake_hands, there, False)
    return ends[True], ends[False]


@asynccontextmanager
async def running_muxers(make_other: Callable[[ISecureConn, ID], Muxer] = Muxer) -> AsyncIterator[tuple[Muxer, Muxer]]:
    """A dialler and a listener, both running until the context ends; ``make_other`` makes the dialler."""
    dialled, accepted = await secured_pair()
    dialler = make_other(dialled, dialled.get_remote_peer())
    listener = Muxer(accepted, accepted.get_remote_peer())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialler.start)
        nursery.start_soon(listener.start)
        await dialler.event_started.wait()
        await listener.event_started.wait()
        yield dialler, listener
        dialler.abort("the test is over")
        listener.abort("the test is over")


async def stream_between(opener: Muxer, acceptor: Muxer) -> tuple[MuxerStream, MuxerStream]:
    """A stream, as the one who opened it and the one who accepted it see it."""
    opened = await opener.open_stream()
    return opened, await acceptor.accept_stream()


async def read_exactly(stream: MuxerStream, size_bytes: int) -> bytes:
    """Read until so many bytes have arrived."""
    received = b""
    while len(received) < size_bytes:
        received += await stream.read(size_bytes - len(received))
    return received
