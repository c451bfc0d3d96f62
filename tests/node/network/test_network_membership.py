import pytest
import trio

from node.network import link
from node.network.limits import NetworkLimits
from node.network.peers import Peer
from node.network.tcp import AddressInUseError, ConnectError, TcpStream, connect, listeners
from node.network.transport import peer_id_of
from tests.support.members import TOPIC, VOTE, Member, Puppet, free_port, make_node, members, running, until

pytestmark = pytest.mark.network


async def test_a_stranger_is_refused_and_the_node_goes_on() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]
    async with running(*nodes):
        with pytest.raises(ConnectError, match="refused by the peer"):
            async with Puppet(Member("mallory", free_port())).connected_to(everyone[0]):
                pass

        assert ada.network.traffic.refused_strangers == 1
        assert [status.name for status in ada.network.statuses()] == ["ben"]
        ben.network.send("ada", VOTE, b"still here")
        await until(lambda: ada.messages)


async def test_a_stranger_learns_from_its_status_that_it_was_refused() -> None:
    ada, mallory = members("ada", "mallory")
    node, stranger = make_node(ada, [ada]), make_node(mallory, [ada, mallory])

    async with running(node, stranger, meshed=False):
        await until(lambda: stranger.status("ada").why == "refused by the peer")

        assert not stranger.hears("ada")


async def test_another_key_at_a_peers_address_is_not_taken_for_the_peer() -> None:
    ada, ben = members("ada", "ben")
    impostor = make_node(Member("mallory", ben.port), [ada])
    node = make_node(ada, [ada, ben])

    async with running(node, impostor, meshed=False):
        await until(lambda: node.status("ben").why == "wrong identity")

        assert not node.hears("ben")
        assert node.connected == []


async def test_a_member_that_is_removed_is_disconnected_and_stays_out() -> None:
    everyone = members("ada", "ben", "cleo")
    ada, ben, cleo = nodes = [make_node(member, everyone) for member in everyone]
    async with running(*nodes):
        ada.network.set_peers([everyone[2].peer])

        await until(lambda: not ben.hears("ada"))
        await until(lambda: ben.status("ada").why == "refused by the peer")

        assert [status.name for status in ada.network.statuses()] == ["cleo"]
        assert ada.hears("cleo")
        assert cleo.hears("ada")


async def test_a_member_that_is_admitted_is_connected() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]
    ada.network.set_peers([])
    async with running(*nodes, meshed=False):
        await until(lambda: ben.status("ada").why == "refused by the peer")

        ada.network.set_peers([everyone[1].peer])

        await until(lambda: ben.hears("ada") and ada.hears("ben"))


async def test_a_member_with_a_new_key_is_another_peer() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]
    async with running(*nodes):
        ada.network.set_peers([Peer("ben", everyone[0].peer.node_key[::-1], everyone[1].peer.addresses)])

        await until(lambda: not ben.hears("ada"))
        await until(lambda: ada.status("ben").why == "wrong identity")


async def test_a_member_without_an_address_is_waited_for() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone) for member in everyone]
    ada.network.set_peers([Peer("ben", everyone[1].peer.node_key, ())])

    async with running(*nodes):
        assert ada.hears("ben")
        assert ben.hears("ada")


async def test_a_taken_port_is_an_error_with_its_address_and_leaves_nothing_behind() -> None:
    everyone = members("ada", "ben")
    ada, second = make_node(everyone[0], everyone), make_node(everyone[0], everyone)
    async with running(ada, meshed=False):
        with pytest.raises(AddressInUseError) as caught:
            async with second.network.run():
                pass

    assert caught.value.address == everyone[0].address


async def test_the_node_tells_the_port_that_it_was_given() -> None:
    ada = make_node(Member("ada", 0), [])

    async with running(ada):
        [address] = ada.network.addresses
        tcp = await connect(address, 2)
        await tcp.close()

    assert address.startswith("/ip4/127.0.0.1/tcp/")
    assert address != "/ip4/127.0.0.1/tcp/0"


async def test_two_that_dial_each_other_at_once_keep_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_SECOND_DIALLER_WAITS_S", 0)
    everyone = members("ada", "ben", "cleo", "dora")
    nodes = [make_node(member, everyone) for member in everyone]
    async with running(*nodes):
        await trio.sleep(0.5)

        assert all(status.connected for node in nodes for status in node.network.statuses())
        settled = [list(node.connected) for node in nodes]
        for node in nodes:
            node.network.broadcast(VOTE, b"vote")
            await node.network.publish(TOPIC, node.member.name.encode())
        await until(lambda: all(len(node.messages) == 3 and len(node.gossip) == 3 for node in nodes))
        assert [node.connected for node in nodes] == settled


async def test_a_member_may_come_and_go_as_often_as_it_likes() -> None:
    """Defect 1: the library keeps a slot for every connection that it ever accepted."""
    everyone = members("ada", "ben")
    ada = make_node(everyone[0], everyone, NetworkLimits(handshakes_max=4))
    async with running(ada, meshed=False):
        for _ in range(30):
            async with Puppet(everyone[1]).connected_to(everyone[0]):
                await until(lambda: ada.hears("ben"))
            await until(lambda: not ada.hears("ben"))

        assert ada.connected == ["ben"] * 30


async def test_strangers_that_say_nothing_make_room_for_those_who_do() -> None:
    everyone = members("ada", "ben")
    ada = make_node(everyone[0], everyone, NetworkLimits(handshakes_max=4, handshake_s_max=60))
    async with running(ada, meshed=False):
        silent = [await connect(everyone[0].address, 2) for _ in range(12)]
        for stream in silent[:8]:
            with trio.fail_after(5):
                while await stream.read():
                    pass

        async with Puppet(everyone[1]).connected_to(everyone[0]) as muxer:
            await until(lambda: ada.hears("ben"))
            assert muxer.is_established

        for stream in silent:
            await stream.close()


async def test_a_quiet_connection_stays() -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone, NetworkLimits(ping_interval_s=0.05)) for member in everyone]
    async with running(*nodes):
        await trio.sleep(0.6)

        assert ada.connected == ["ben"]
        assert ben.connected == ["ada"]
        assert ada.status("ben").latency_ms is not None


@pytest.mark.parametrize(("puppet_name", "kept"), [("abe", "the puppet's"), ("zoe", "ada's")])
async def test_of_two_that_dial_at_once_the_lower_names_connection_is_kept(puppet_name: str, kept: str) -> None:
    everyone = members("ada", puppet_name)
    ada, puppet = make_node(everyone[0], everyone), Puppet(everyone[1])
    async with listeners([everyone[1].address]) as [listener], running(ada, meshed=False):
        accepted = TcpStream(await listener.accept(), is_initiator=False)
        dialled_by_ada = await puppet.transport.shake_hands(accepted, None, lambda _peer: True)
        async with puppet.transport.run():
            await puppet.transport.adopt(dialled_by_ada)
            await until(lambda: ada.hears(puppet_name))
            tcp = await connect(everyone[0].address, 2)
            dialled_by_puppet = await puppet.transport.shake_hands(
                tcp, peer_id_of(everyone[0].peer.node_key), lambda _peer: True
            )
            await puppet.transport.adopt(dialled_by_puppet)

            refused, stays = (
                (dialled_by_puppet, dialled_by_ada) if kept == "ada's" else (dialled_by_ada, dialled_by_puppet)
            )
            await until(lambda: refused.is_closed)
            await until(lambda: ada.hears(puppet_name))

            assert not stays.is_closed
            stays.abort("the test is over")


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff" + bytes(65_535),
        b"\x13/multistream/1.0.0\n\x03ls\n",
    ],
)
async def test_a_greeting_that_is_no_handshake_harms_nobody(greeting: bytes) -> None:
    everyone = members("ada", "ben")
    ada, ben = nodes = [make_node(member, everyone, NetworkLimits(handshake_s_max=0.5)) for member in everyone]
    async with running(*nodes):
        stream = await trio.open_tcp_stream("127.0.0.1", everyone[0].port)
        await stream.send_all(greeting)

        with trio.fail_after(3):
            async for _ in stream:
                pass
        ben.network.send("ada", VOTE, b"still here")
        await until(lambda: ada.messages)

        await until(lambda: ada.network.traffic.refused_strangers == 1)
        await stream.aclose()
