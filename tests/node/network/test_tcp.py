import socket

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError

from node.network.tcp import (
    AddressError,
    AddressInUseError,
    ConnectError,
    ListenError,
    TcpStream,
    address_of,
    connect,
    listeners,
    parse_address,
)
from tests.support.members import free_port

pytestmark = pytest.mark.network


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("/ip4/10.0.0.2/tcp/4001", "10.0.0.2", 4001),
        ("/ip6/::1/tcp/1", "::1", 1),
        ("/dns4/node.clinic.example/tcp/4001", "node.clinic.example", 4001),
    ],
)
def test_the_address_of_a_tcp_port_is_understood(address: str, host: str, port: int) -> None:
    assert parse_address(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10.0.0.2:4001",
        "/ip4/10.0.0.2",
        "/ip4/10.0.0.2/udp/4001",
        "/ip4/10.0.0.2/tcp/4001/ws",
        "/tcp/1",
        "/ip4/x/tcp/1",
    ],
)
def test_any_other_address_is_refused_with_its_text(address: str) -> None:
    with pytest.raises(AddressError, match=r"not the multiaddr of a TCP port"):
        parse_address(address)


async def test_a_taken_port_is_named() -> None:
    async with listeners(["/ip4/127.0.0.1/tcp/0"]) as [first]:
        taken = address_of(first)

        with pytest.raises(AddressInUseError, match="another process uses this port") as caught:
            async with listeners([taken]):
                pass

    assert caught.value.address == taken


async def test_a_port_is_not_shared_with_a_process_that_would_share_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()

        with pytest.raises(AddressInUseError):
            async with listeners([f"/ip4/127.0.0.1/tcp/{other.getsockname()[1]}"]):
                pass


async def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on /ip4/192\.0\.2\.1/tcp/4001: Cannot assign"):
        async with listeners(["/ip4/192.0.2.1/tcp/4001"]):
            pass


async def test_when_one_address_fails_the_others_are_free_again() -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"

    with pytest.raises(AddressInUseError):
        async with listeners([address, address]):
            pass

    async with listeners([address]) as opened:
        assert len(opened) == 1


async def test_a_refused_connection_says_so_in_words() -> None:
    with pytest.raises(ConnectError, match=r"^connection refused$"):
        await connect(f"/ip4/127.0.0.1/tcp/{free_port()}", 2)


async def test_a_host_that_does_not_answer_is_given_up() -> None:
    with socket.socket() as full:  # Its queue of one is full: the kernel drops what comes next.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"/ip4/127.0.0.1/tcp/{full.getsockname()[1]}"
        first = await connect(address, 2)

        with pytest.raises(ConnectError, match=r"^no answer$"):
            await connect(address, 0.2)

        await first.close()


async def pair_of_streams() -> tuple[TcpStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    return (
        TcpStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), is_initiator=False),
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
    )


async def test_a_message_is_read_whole_however_small_its_segments() -> None:
    reader, writer = await pair_of_streams()
    message = bytes(range(256)) * 2

    async def drip() -> None:
        for byte in message:
            await writer.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        received = await reader.read(len(message))

    assert received == message
    await reader.close()
    await writer.aclose()


async def test_a_length_that_a_stranger_invents_reserves_no_memory() -> None:
    reader, writer = await pair_of_streams()

    with pytest.raises(ConnectionClosedError, match="announced before the peer was known"):
        await reader.read(2**31)

    await reader.close()
    await writer.aclose()


async def test_the_end_of_a_connection_is_an_empty_or_a_short_read() -> None:
    reader, writer = await pair_of_streams()
    await writer.send_all(b"ab")
    await writer.aclose()

    assert await reader.read(5) == b"ab"
    assert await reader.read(5) == b""
    await reader.close()
    await reader.close()
