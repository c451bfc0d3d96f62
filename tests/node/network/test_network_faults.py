from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from node.network.framing import encode_frame
from node.network.limits import NetworkLimits
from node.network.muxer import Muxer
from node.network.peers import PeerFaultError
from node.network.stream import MuxerStream
from tests.support.members import BULK, VOTE, Node, Puppet, make_node, members, running, until

pytestmark = pytest.mark.network

BARRED = NetworkLimits(bar_s_min=60, message_size_bytes_max=1000)


@asynccontextmanager
async def node_and_puppet(limits: NetworkLimits = BARRED) -> AsyncIterator[tuple[Node, Node, Puppet, Muxer]]:
    """Ada, connected to ben, an honest member, and to the puppet."""
    everyone = members("ada", "ben", "puppet")
    ada, ben = make_node(everyone[0], everyone, limits), make_node(everyone[1], everyone, limits)
    ben.network.set_peers([everyone[0].peer])
    puppet = Puppet(everyone[2])
    async with running(ada, ben, meshed=False), puppet.connected_to(everyone[0]) as muxer:
        await until(lambda: ada.hears("puppet") and ada.hears("ben"))
        yield ada, ben, puppet, muxer


async def is_dropped(ada: Node, ben: Node, reason: str) -> None:
    """The puppet is out, with the reason, and ada goes on."""
    await until(lambda: not ada.hears("puppet"))
    assert reason in ada.status("puppet").why
    assert ada.network.traffic.peers_dropped == 1
    ben.network.send("ada", VOTE, b"still here")
    await until(lambda: ("ben", b"still here") in ada.messages)


async def test_a_message_over_the_limit_drops_its_sender() -> None:
    async with node_and_puppet() as (ada, ben, puppet, muxer):
        stream = await puppet.transport.open(muxer, f"/caretrace/{BULK}/1")

        await stream.write(encode_frame(bytes(1001)))

        await is_dropped(ada, ben, "announced a message of 1001 bytes; 1000 are allowed")


async def test_what_a_handler_calls_a_fault_drops_the_sender_with_the_handlers_reason() -> None:
    everyone = members("ada", "ben", "cleo")
    ada, ben, cleo = nodes = [make_node(member, everyone, BARRED) for member in everyone]

    def judge(peer: str, message: bytes) -> None:
        if message == b"lie":
            raise PeerFaultError("voted twice")
        ada.messages.append((peer, message))

    ada.network.on_message(VOTE, judge)
    async with running(*nodes):
        ben.network.send("ada", VOTE, b"truth")
        ben.network.send("ada", VOTE, b"lie")

        await until(lambda: not ada.hears("ben"))
        cleo.network.send("ada", VOTE, b"still here")
        await until(lambda: len(ada.messages) == 2)

        assert ada.status("ben").why == "dropped: voted twice"
        assert ada.messages == [("ben", b"truth"), ("cleo", b"still here")]


async def test_a_dropped_peer_stays_out_for_a_while_and_then_comes_back() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone, NetworkLimits(bar_s_min=0.5)) for member in everyone]
    async with running(*nodes):
        start = trio.current_time()

        ada.network.drop("ben", "sent an invalid block")
        await until(lambda: not ada.hears("ben"))
        await until(lambda: ada.hears("ben"))

        assert trio.current_time() - start >= 0.5
        assert ben.connected.count("ada") == 2


async def test_a_peer_that_misbehaves_again_stays_out_longer() -> None:
    everyone = members("ada", "ben")
    ada, _ben = nodes = [make_node(member, everyone, NetworkLimits(bar_s_min=0.2)) for member in everyone]
    async with running(*nodes):
        ada.network.drop("ben", "sent an invalid block")
        await until(lambda: len(ada.connected) == 2)
        start = trio.current_time()
        ada.network.drop("ben", "sent an invalid block")
        await until(lambda: len(ada.connected) == 3)

        assert trio.current_time() - start >= 0.4


async def test_a_bug_in_a_handler_of_messages_ends_the_network() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]

    def fail(_peer: str, _message: bytes) -> None:
        raise KeyError("a bug")

    ada.network.on_message(VOTE, fail)
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with running(*nodes):
            ben.network.send("ada", VOTE, b"anything")
            await trio.sleep_forever()


async def test_a_bug_in_a_handler_of_connections_ends_the_network() -> None:
    everyone = members("ada", "ben")
    nodes = [make_node(member, everyone) for member in everyone]

    def fail(_peer: str) -> None:
        raise KeyError("a bug")

    nodes[0].network.on_connected(fail)
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with running(*nodes):
            await trio.sleep_forever()


async def test_a_second_stream_of_a_channel_replaces_the_first() -> None:
    """A peer cannot make us keep an unfinished message for each of many streams."""
    async with node_and_puppet() as (ada, _ben, puppet, muxer):
        first = await puppet.transport.open(muxer, f"/caretrace/{VOTE}/1")
        await first.write(encode_frame(bytes(1000))[:500])

        second = await puppet.transport.open(muxer, f"/caretrace/{VOTE}/1")
        await second.write(encode_frame(b"vote"))

        await until(lambda: first.is_over)
        await until(lambda: ada.messages == [("puppet", b"vote")])


@pytest.mark.parametrize(
    ("protocol", "garbage"),
    [
        ("/meshsub/1.1.0", b"\x05\xff\xff\xff\xff\xff"),  # No protobuf: the library's DecodeError once ended the host.
        ("/meshsub/1.1.0", b"\x04\x1a\x02\x0a\x00"),
        ("", b"\x04\xff\xfe\xfd\n"),  # No UTF-8 in the line that asks for a protocol.
    ],
)
async def test_bytes_that_the_library_cannot_read_drop_their_sender_and_nobody_else(
    protocol: str, garbage: bytes
) -> None:
    async with node_and_puppet() as (ada, ben, puppet, muxer):
        stream = await _open_raw(puppet, muxer, protocol)

        await stream.write(garbage)
        await stream.close()

        ben.network.send("ada", VOTE, b"still here")
        await until(lambda: ("ben", b"still here") in ada.messages)
        await until(lambda: ada.network.traffic.peers_dropped == 1)
        assert not ada.hears("puppet")


async def _open_raw(puppet: Puppet, muxer: Muxer, protocol: str) -> MuxerStream:
    if protocol:
        return await puppet.transport.open(muxer, protocol)
    stream = await muxer.open_stream()
    await stream.write(b"\x13/multistream/1.0.0\n")
    return stream


async def test_a_member_that_opens_streams_without_end_gets_a_bounded_number() -> None:
    async with node_and_puppet() as (ada, ben, _puppet, muxer):
        streams = [await muxer.open_stream() for _ in range(200)]
        for stream in streams:
            stream.write_at_once(b"\x13/multistream/1.0.0\n")

        await until(lambda: sum(not stream.is_over for stream in streams) <= 32)

        ben.network.send("ada", VOTE, b"still here")
        await until(lambda: ("ben", b"still here") in ada.messages)
