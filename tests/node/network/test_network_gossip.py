import pytest
import trio

from node.network.limits import NetworkLimits
from node.network.peers import Peer, PeerFaultError
from tests.support.members import TOPIC, Node, make_node, members, running, until

pytestmark = pytest.mark.network


def nodes_named(*names: str, limits: NetworkLimits | None = None) -> list[Node]:
    everyone = members(*names)
    return [make_node(member, everyone, limits) for member in everyone]


async def test_what_one_member_publishes_the_others_hear_once_and_it_does_not_hear_itself() -> None:
    ada, *others = nodes = nodes_named("ada", "ben", "cleo", "dora")
    async with running(*nodes):
        await ada.network.publish(TOPIC, b"batch")
        await until(lambda: all(node.gossip for node in others))
        await trio.sleep(0.2)

        assert all(node.gossip == [("ada", b"batch")] for node in others)
        assert ada.gossip == []


async def test_a_burst_from_everyone_is_delivered_whole() -> None:
    """Defect 5: the library drops what exceeds ten messages a second and a peer."""
    nodes = nodes_named("ada", "ben", "cleo", "dora")
    async with running(*nodes):
        for number in range(50):
            for node in nodes:
                await node.network.publish(TOPIC, b"%s %d" % (node.member.name.encode(), number))
        await until(lambda: all(len(node.gossip) >= 150 for node in nodes))

        for node in nodes:
            published = {
                (other.member.name, b"%s %d" % (other.member.name.encode(), number))
                for other in nodes
                if other is not node
                for number in range(50)
            }
            assert set(node.gossip) == published
            assert len(node.gossip) == 150


@pytest.mark.parametrize("size_bytes", [256 * 1024, 2 * 1024 * 1024])
async def test_the_largest_message_allowed_is_delivered(size_bytes: int) -> None:
    """Defect 6: the library drops what exceeds its own limits without a word."""
    ada, ben = nodes = nodes_named("ada", "ben", limits=NetworkLimits(gossip_size_bytes_max=size_bytes))
    async with running(*nodes):
        await ada.network.publish(TOPIC, b"small")
        await until(lambda: ben.gossip)
        await trio.sleep(0.1)
        for number in range(4):
            await ada.network.publish(TOPIC, bytes([number]) * size_bytes)

        await until(lambda: len(ben.gossip) == 5)


async def test_a_message_reaches_members_without_a_connection_to_its_publisher() -> None:
    everyone = members("ada", "ben", "cleo")
    ada, ben, cleo = nodes = [make_node(member, everyone) for member in everyone]
    without_address = [Peer(member.name, member.peer.node_key, ()) for member in everyone]
    ada.network.set_peers([everyone[1].peer, without_address[2]])
    cleo.network.set_peers([everyone[1].peer, without_address[0]])
    async with running(*nodes, meshed=False):
        await until(lambda: ben.hears("ada") and ben.hears("cleo"))

        await ada.network.publish(TOPIC, b"batch")
        await until(lambda: cleo.gossip)

        assert cleo.gossip == [("ada", b"batch")]
        assert not cleo.hears("ada")


async def test_a_restarted_member_is_heard_at_once() -> None:
    """Defect 4: its sequence numbers began anew, and peers took up to two minutes of messages for known ones."""
    everyone = members("ada", "ben")
    ada, ben = make_node(everyone[0], everyone), make_node(everyone[1], everyone)
    async with running(ada, meshed=False):
        async with running(ben):
            await until(lambda: ada.hears("ben"))
            for number in range(100):
                await ben.network.publish(TOPIC, b"before %d" % number)
            await until(lambda: len(ada.gossip) == 100)

        restarted = make_node(everyone[1], everyone)
        async with running(restarted):
            await until(lambda: ada.hears("ben"))
            for number in range(100):
                await restarted.network.publish(TOPIC, b"after %d" % number)
            await until(lambda: len(ada.gossip) == 200)


async def test_gossip_flows_again_after_a_connection_broke() -> None:
    ada, ben = nodes = nodes_named("ada", "ben", limits=NetworkLimits(bar_s_min=0.05))
    async with running(*nodes):
        await ada.network.publish(TOPIC, b"one")
        await until(lambda: len(ben.gossip) == 1)

        ben.network.drop("ada", "stands for a broken cable")
        await until(lambda: len(ben.connected) == 2 and len(ada.connected) == 2)
        await ada.network.publish(TOPIC, b"two")
        await ben.network.publish(TOPIC, b"three")

        await until(lambda: ("ada", b"two") in ben.gossip and ("ben", b"three") in ada.gossip)
        assert len(ben.gossip) == 2


async def test_the_same_content_from_two_members_is_delivered_for_each() -> None:
    """Whoever copies a message first does not silence the original."""
    ada, ben, cleo = nodes = nodes_named("ada", "ben", "cleo")
    async with running(*nodes):
        await ada.network.publish(TOPIC, b"batch")
        await ben.network.publish(TOPIC, b"batch")
        await ada.network.publish(TOPIC, b"batch")
        await until(lambda: len(cleo.gossip) == 2 and cleo.network.traffic.gossip_ignored == 1)

        assert sorted(cleo.gossip) == [("ada", b"batch"), ("ben", b"batch")]


async def test_a_publisher_that_lies_is_dropped_and_its_message_not_passed_on() -> None:
    everyone = members("ada", "ben", "cleo")
    ada, ben, cleo = nodes = [make_node(member, everyone, NetworkLimits(bar_s_min=60)) for member in everyone]
    without_address = [Peer(member.name, member.peer.node_key, ()) for member in everyone]
    ada.network.set_peers([everyone[1].peer, without_address[2]])
    cleo.network.set_peers([everyone[1].peer, without_address[0]])

    def judge(publisher: str, data: bytes) -> None:
        if data == b"lie":
            raise PeerFaultError("published an invalid batch")
        ben.gossip.append((publisher, data))

    ben.network.on_gossip(TOPIC, judge)
    async with running(*nodes, meshed=False):
        await until(lambda: ben.hears("ada") and ben.hears("cleo"))

        await ada.network.publish(TOPIC, b"lie")
        await until(lambda: ben.status("ada").why == "dropped: published an invalid batch")
        await ben.network.publish(TOPIC, b"truth")
        await until(lambda: cleo.gossip)

        assert cleo.gossip == [("ben", b"truth")]
        assert ben.hears("cleo")


async def test_a_bug_in_a_handler_of_gossip_ends_the_network() -> None:
    ada, ben = nodes = nodes_named("ada", "ben")

    def fail(_publisher: str, _data: bytes) -> None:
        raise KeyError("a bug")

    ada.network.on_gossip(TOPIC, fail)
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with running(*nodes):
            await ben.network.publish(TOPIC, b"anything")
            await trio.sleep_forever()


async def test_what_is_too_large_or_has_no_handler_is_not_published() -> None:
    ada, _ben = nodes = nodes_named("ada", "ben")
    async with running(*nodes):
        with pytest.raises(AssertionError, match="too large for gossip"):
            await ada.network.publish(TOPIC, bytes(256 * 1024 + 1))
        with pytest.raises(AssertionError, match="no handler for topic"):
            await ada.network.publish("unheard-of", b"")
