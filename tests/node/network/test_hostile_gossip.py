from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from node.network.limits import NetworkLimits
from node.network.stream import MuxerStream
from tests.support.members import TOPIC, Member, Node, Puppet, make_node, members, running, until

pytestmark = pytest.mark.network


def message(
    author: Member, data: bytes, *, topics: tuple[str, ...] = (TOPIC,), seqno: bytes = b"\x00" * 8
) -> rpc_pb2.Message:
    """A gossip message, signed by its author."""
    keys = create_new_key_pair(author.seed)
    signed = rpc_pb2.Message(
        from_id=ID.from_pubkey(keys.public_key).to_bytes(), data=data, seqno=seqno, topicIDs=list(topics)
    )
    signed.signature = keys.private_key.sign(b"libp2p-pubsub:" + signed.SerializeToString())
    signed.key = keys.public_key.serialize()
    return signed


async def send(stream: MuxerStream, rpc: rpc_pb2.RPC) -> None:
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


def control(**fields: list[Any]) -> rpc_pb2.RPC:
    message = rpc_pb2.ControlMessage()
    for field, entries in fields.items():
        getattr(message, field).extend(entries)
    return rpc_pb2.RPC(control=message)


@asynccontextmanager
async def gossiping_puppet() -> AsyncIterator[tuple[Node, list[Member], MuxerStream]]:
    """Ada and the gossip stream on which the puppet, a member, speaks to her; ben is a member elsewhere."""
    everyone = members("ada", "ben", "puppet")
    ada, puppet = make_node(everyone[0], everyone, NetworkLimits(bar_s_min=60)), Puppet(everyone[2])
    async with running(ada, meshed=False), puppet.connected_to(everyone[0]) as muxer:
        await until(lambda: ada.hears("puppet"))
        yield ada, everyone, await puppet.transport.open(muxer, "/meshsub/1.1.0")


async def test_a_well_formed_message_is_delivered_under_its_authors_name() -> None:
    async with gossiping_puppet() as (ada, everyone, stream):
        await send(stream, rpc_pb2.RPC(publish=[message(everyone[2], b"own"), message(everyone[1], b"passed on")]))

        await until(lambda: len(ada.gossip) == 2)

        assert sorted(ada.gossip) == [("ben", b"passed on"), ("puppet", b"own")]


async def test_what_no_member_signed_is_not_delivered() -> None:
    async with gossiping_puppet() as (ada, everyone, stream):
        forged = message(everyone[2], b"forged")
        forged.from_id = message(everyone[1], b"").from_id
        unsigned = message(everyone[1], b"unsigned", seqno=b"\x01" * 8)
        unsigned.ClearField("signature")
        stranger = message(Member("mallory", 1), b"strange")
        nobody = message(everyone[1], b"nobody's", seqno=b"\x02" * 8)
        nobody.from_id = b""

        await send(stream, rpc_pb2.RPC(publish=[forged, unsigned, stranger, nobody, message(everyone[1], b"true")]))
        await until(lambda: ada.gossip)
        await trio.sleep(0.1)

        assert ada.gossip == [("ben", b"true")]
        assert ada.network.traffic.gossip_ignored == 2


async def test_a_replayed_message_is_not_delivered_again() -> None:
    async with gossiping_puppet() as (ada, everyone, stream):
        old = message(everyone[1], b"old")
        resigned = message(everyone[1], b"old", seqno=b"\x07" * 8)

        for replay in (old, old, resigned, old):
            await send(stream, rpc_pb2.RPC(publish=[replay]))
        await send(stream, rpc_pb2.RPC(publish=[message(everyone[1], b"new", seqno=b"\x09" * 8)]))
        await until(lambda: ("ben", b"new") in ada.gossip)

        assert ada.gossip == [("ben", b"old"), ("ben", b"new")]


AUTHOR = Member("puppet", 1)
IDS = [b"%d" % number for number in range(600)]


@pytest.mark.parametrize(
    ("rpc", "why"),
    [
        (rpc_pb2.RPC(publish=[message(AUTHOR, b"x", topics=("other",))]), "a topic that nobody has"),
        (rpc_pb2.RPC(publish=[message(AUTHOR, b"x", topics=(TOPIC, TOPIC))]), "a topic that nobody has"),
        (rpc_pb2.RPC(publish=[message(AUTHOR, b"x", topics=())]), "a topic that nobody has"),
        (rpc_pb2.RPC(publish=[message(AUTHOR, bytes(256 * 1024 + 1))]), "a gossip message of 262145 bytes"),
        (rpc_pb2.RPC(publish=[message(AUTHOR, b"x", seqno=b"1")]), "malformed gossip"),
        (rpc_pb2.RPC(publish=[message(AUTHOR, b"x")] * 3_000), "too large a gossip packet"),
        (control(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"same"] * 2)]), "the same gossip message twice"),
        (control(iwant=[rpc_pb2.ControlIWant(messageIDs=IDS)]), "too large a gossip control message"),
        (control(ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=IDS)]), "too large a gossip control"),
        (control(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)] * 65), "too large a gossip control message"),
        (control(graft=[rpc_pb2.ControlGraft(topicID="other")]), "control for a topic that nobody has"),
        (control(prune=[rpc_pb2.ControlPrune(topicID="other")]), "control for a topic that nobody has"),
        (
            control(prune=[rpc_pb2.ControlPrune(topicID=TOPIC, peers=[rpc_pb2.PeerInfo(peerID=b"x")])]),
            "that this version does not use",
        ),
        (control(idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"x"])]), "that this version does not use"),
    ],
)
async def test_gossip_that_no_honest_peer_sends_drops_its_sender(rpc: rpc_pb2.RPC, why: str) -> None:
    async with gossiping_puppet() as (ada, _everyone, stream):
        await send(stream, rpc)

        await until(lambda: not ada.hears("puppet"))

        assert why in ada.status("puppet").why


async def test_a_packet_larger_than_any_drops_its_sender_before_it_is_read() -> None:
    async with gossiping_puppet() as (ada, _everyone, stream):
        await stream.write(b"\xff\xff\xff\x7f")

        await until(lambda: ada.status("puppet").why == "dropped: announced gossip larger than any")


async def test_a_member_that_floods_gossip_is_dropped() -> None:
    async with gossiping_puppet() as (ada, everyone, stream):
        packet = rpc_pb2.RPC(publish=[message(everyone[2], b"x")] * 500)

        sent = 0
        while not stream.is_over and sent < 20:
            stream.write_at_once(encode_varint_prefixed(packet.SerializeToString()))
            sent += 1
            await trio.sleep(0.01)

        await until(lambda: ada.status("puppet").why == "dropped: floods gossip")
        assert ada.gossip == [("puppet", b"x")]
