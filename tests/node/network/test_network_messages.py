from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from node.network.limits import NetworkLimits
from node.network.peers import Peer
from tests.support.members import BULK, VOTE, Node, Puppet, make_node, members, running, until

pytestmark = pytest.mark.network


async def test_four_members_started_together_all_hear_each_other_within_three_seconds() -> None:
    everyone = members("ada", "ben", "cleo", "dora")
    nodes = [make_node(member, everyone) for member in everyone]
    start = trio.current_time()

    async with running(*nodes):
        meshed_s = trio.current_time() - start

        assert meshed_s < 3
        for node in nodes:
            assert sorted(set(node.connected)) == sorted(m.name for m in everyone if m != node.member)


async def test_messages_reach_one_peer_or_all_whole_and_in_order() -> None:
    everyone = members("ada", "ben", "cleo")
    ada, ben, cleo = nodes = [make_node(member, everyone) for member in everyone]
    async with running(*nodes):
        votes = [b"vote %d" % number for number in range(500)]

        for vote in votes:
            ada.network.broadcast(VOTE, vote)
        ada.network.send("ben", BULK, bytes(1_000_000))
        await until(lambda: len(ben.messages) == 501 and len(cleo.messages) == 500)

        assert [message for peer, message in cleo.messages] == votes
        assert [message for peer, message in ben.messages if len(message) < 20] == votes
        assert ("ada", bytes(1_000_000)) in ben.messages
        assert ada.messages == []
        assert ada.network.traffic.messages_out == ben.network.traffic.messages_in + cleo.network.traffic.messages_in


async def test_a_peer_is_told_as_connected_when_messages_to_it_arrive() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]
    ada.network.on_connected(lambda peer: ada.network.broadcast(VOTE, b"hello " + peer.encode()))

    async with running(*nodes):
        await until(lambda: ben.messages)

    assert ben.messages == [("ada", b"hello ben")]


async def test_a_message_to_a_peer_without_a_connection_is_dropped_and_counted() -> None:
    everyone = members("ada", "ben")
    ada = make_node(everyone[0], everyone)
    async with running(ada, meshed=False):
        await until(lambda: ada.status("ben").why == "connection refused")

        was_sent = ada.network.send("ben", VOTE, b"nobody hears this")

        assert not was_sent
        assert ada.network.traffic.dropped_not_connected == 1
        assert ada.network.traffic.failed_dials > 0
        assert not ada.status("ben").connected


@asynccontextmanager
async def node_with_a_stalled_peer(limits: NetworkLimits) -> AsyncIterator[tuple[Node, Node]]:
    """Ada, connected to ben, who reads, and to the puppet, who takes streams and reads nothing."""
    everyone = members("ada", "ben", "puppet")
    ada, ben = make_node(everyone[0], everyone, limits), make_node(everyone[1], everyone)
    ben.network.set_peers([everyone[0].peer])
    async with running(ada, ben, meshed=False), Puppet(everyone[2]).connected_to(everyone[0]):
        await until(lambda: ada.hears("puppet") and ada.hears("ben"))
        yield ada, ben


async def test_a_stalled_reader_does_not_hold_up_the_others() -> None:
    async with node_with_a_stalled_peer(NetworkLimits()) as (ada, ben):
        for _ in range(40):
            ada.network.broadcast(BULK, bytes(100_000))
        ada.network.broadcast(VOTE, b"urgent")

        await until(lambda: len(ben.messages) == 41)

        assert ("ada", b"urgent") in ben.messages


async def test_the_queue_of_a_channel_that_refuses_the_newest_is_bounded() -> None:
    async with node_with_a_stalled_peer(NetworkLimits(queue_bytes_max=1_000_000)) as (ada, _ben):
        taken = [ada.network.send("puppet", BULK, bytes(99_990)) for _ in range(30)]

        # What stands in the window and the socket was taken too; from the first refusal on all are refused.
        assert 10 <= sum(taken) <= 16
        assert taken == sorted(taken, reverse=True)
        assert ada.network.traffic.dropped_queue_full == 30 - sum(taken)


async def test_the_queue_of_a_channel_that_drops_the_oldest_takes_the_newest() -> None:
    async with node_with_a_stalled_peer(NetworkLimits(queue_messages_max=5)) as (ada, _ben):
        taken = [ada.network.send("puppet", VOTE, bytes(65_000)) for _ in range(30)]

        assert all(taken)
        assert 30 - 5 - 6 <= ada.network.traffic.dropped_queue_full <= 30 - 5


async def test_a_peer_that_floods_us_is_slowed_down_and_not_believed_to_be_dead() -> None:
    everyone = members("ada", "ben")
    ada = make_node(everyone[0], everyone, NetworkLimits(messages_per_s=1_000))
    ben = make_node(everyone[1], everyone)
    async with running(ada, ben):
        for _ in range(4_000):
            ben.network.send("ada", BULK, b"flood")
        await trio.sleep(0.3)
        heard = len(ada.messages)
        ben.network.send("ada", VOTE, b"urgent")

        assert 1_000 <= heard <= 1_800
        assert ada.hears("ben")


async def test_a_message_too_large_to_be_taken_is_not_sent() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone, NetworkLimits(message_size_bytes_max=1000)) for member in everyone]
    async with running(*nodes):
        with pytest.raises(AssertionError, match="too large to send"):
            ada.network.send("ben", BULK, bytes(1001))

        assert ada.network.send("ben", BULK, bytes(1000))
        await until(lambda: ben.messages)


async def test_messages_survive_a_network_that_cuts_them_into_crumbs() -> None:
    """The library gives up on a message of more than 100 pieces."""
    everyone = members("ada", "ben", "proxy")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone[:2]]
    ada.network.set_peers([Peer("ben", everyone[1].peer.node_key, (everyone[2].address,))])
    ben.network.set_peers([Peer("ada", everyone[0].peer.node_key, ())])

    async def crumble(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for data in source:
            for start in range(0, len(data), 200):
                await target.send_all(data[start : start + 200])

    async def carry(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", everyone[1].port)
        async with client, server, trio.open_nursery() as both:
            both.start_soon(crumble, client, server)
            both.start_soon(crumble, server, client)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_tcp, carry, everyone[2].port)
        async with running(*nodes):
            ada.network.send("ben", BULK, bytes(400_000))
            await until(lambda: ben.messages)

            assert ben.messages == [("ada", bytes(400_000))]
        nursery.cancel_scope.cancel()
