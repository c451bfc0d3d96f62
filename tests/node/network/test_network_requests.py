import pytest
import trio

from node.network.framing import encode_frame
from node.network.limits import NetworkLimits
from node.network.peers import PeerUnreachableError, RequestError, RequestRefusedError, RequestTimeoutError
from node.network.requests import PROTOCOL
from tests.support.members import SERVICE, Node, Puppet, make_node, members, running, until

pytestmark = pytest.mark.network


def two_nodes(limits: NetworkLimits | None = None) -> list[Node]:
    everyone = members("ada", "ben")
    return [make_node(member, everyone, limits) for member in everyone]


@pytest.mark.parametrize("size_bytes", [0, 1, 1024 * 1024, 8 * 1024 * 1024])
async def test_a_request_is_answered_whatever_its_size(size_bytes: int) -> None:
    ada, ben = two_nodes()
    async with running(ada, ben):
        payload = bytes(range(256)) * (size_bytes // 256) if size_bytes > 1 else bytes(size_bytes)

        answer = await ada.network.request("ben", SERVICE, payload, timeout_s=5)

        assert answer == payload


async def test_many_requests_at_once_are_all_answered_over_four_streams() -> None:
    ada, ben = two_nodes()
    most = 0
    now = 0

    async def slow(_peer: str, payload: bytes) -> bytes:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await trio.sleep(0.01)
        now -= 1
        return payload

    ben.network.on_request("slow", slow)
    answers: dict[int, bytes] = {}

    async def ask(number: int) -> None:
        answers[number] = await ada.network.request("ben", "slow", b"%d" % number, timeout_s=5)

    async with running(ada, ben), trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(ask, number)

    assert answers == {number: b"%d" % number for number in range(40)}
    assert most == 4


async def test_a_peer_without_a_connection_is_unreachable_and_the_error_says_why() -> None:
    ada, _ben = two_nodes()
    async with running(ada, meshed=False):
        await until(lambda: ada.status("ben").why == "connection refused")

        with pytest.raises(PeerUnreachableError, match="ben is not connected: connection refused"):
            await ada.network.request("ben", SERVICE, b"", timeout_s=1)
        with pytest.raises(PeerUnreachableError, match="zoe is no peer"):
            await ada.network.request("zoe", SERVICE, b"", timeout_s=1)


async def test_a_refusal_travels_with_its_reason() -> None:
    ada, ben = two_nodes()

    async def refuse(peer: str, _payload: bytes) -> bytes:
        raise RequestRefusedError(f"{peer} may not have it")

    ben.network.on_request("refuse", refuse)
    async with running(ada, ben):
        with pytest.raises(RequestRefusedError, match="ada may not have it"):
            await ada.network.request("ben", "refuse", b"", timeout_s=5)
        with pytest.raises(RequestRefusedError, match="no such service"):
            await ada.network.request("ben", "unknown", b"", timeout_s=5)


async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_one() -> None:
    ada, ben = two_nodes()

    async def by_name(_peer: str, payload: bytes) -> bytes:
        await trio.sleep(0.2 if payload == b"slow" else 0)
        return b"answer to " + payload

    ben.network.on_request("ask", by_name)
    async with running(ada, ben):
        with pytest.raises(RequestTimeoutError, match=r"no answer within 0\.05 s"):
            await ada.network.request("ben", "ask", b"slow", timeout_s=0.05)

        answers = [await ada.network.request("ben", "ask", b"quick", timeout_s=5) for _ in range(20)]
        await trio.sleep(0.2)
        answers.append(await ada.network.request("ben", "ask", b"quick", timeout_s=5))

        assert set(answers) == {b"answer to quick"}


async def test_a_handler_that_takes_too_long_is_refused() -> None:
    ada, ben = two_nodes(NetworkLimits(request_handling_s_max=0.05))

    async def forever(_peer: str, _payload: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    ben.network.on_request("forever", forever)
    async with running(ada, ben):
        with pytest.raises(RequestRefusedError, match="took too long"):
            await ada.network.request("ben", "forever", b"", timeout_s=5)


async def test_who_asks_too_often_is_refused() -> None:
    ada, ben = two_nodes(NetworkLimits(requests_per_s=5))
    async with running(ada, ben):
        outcomes = []
        for _ in range(30):
            try:
                outcomes.append(await ada.network.request("ben", SERVICE, b"x", timeout_s=5))
            except RequestRefusedError as refusal:
                outcomes.append(str(refusal).encode())

        assert outcomes[:10] == [b"x"] * 10
        assert outcomes.count(b"asked too often") >= 15
        assert ada.hears("ben")


async def test_a_connection_that_ends_ends_the_request_at_once() -> None:
    ada, ben = two_nodes()

    async def leave(_peer: str, _payload: bytes) -> bytes:
        ben.network.drop("ada", "asked this")
        return b"never arrives"

    ben.network.on_request("leave", leave)
    async with running(ada, ben):
        with trio.fail_after(2), pytest.raises(PeerUnreachableError, match="ended before the answer"):
            await ada.network.request("ben", "leave", b"", timeout_s=5)


async def test_a_bug_in_a_handler_of_requests_ends_the_network_that_has_it() -> None:
    ada, ben = two_nodes()

    async def fail(_peer: str, _payload: bytes) -> bytes:
        raise KeyError("a bug")

    ben.network.on_request("fail", fail)
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with running(ada, ben):
            with pytest.raises(PeerUnreachableError):
                await ada.network.request("ben", "fail", b"", timeout_s=5)
            await trio.sleep_forever()


@pytest.mark.parametrize("request_bytes", [b"", b"\x00", b"\x09short"])
async def test_a_request_that_is_none_drops_its_sender(request_bytes: bytes) -> None:
    everyone = members("ada", "puppet")
    ada, puppet = make_node(everyone[0], everyone), Puppet(everyone[1])
    async with running(ada, meshed=False), puppet.connected_to(everyone[0]) as muxer:
        await until(lambda: ada.hears("puppet"))
        stream = await puppet.transport.open(muxer, PROTOCOL)

        await stream.write(encode_frame(request_bytes))

        await until(lambda: ada.status("puppet").why == "dropped: sent a request without a service")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (encode_frame(b""), "answered a request with something else"),
        (encode_frame(b"\x07x"), "answered a request with something else"),
        (encode_frame(b"\x00x") * 2, "answered one request twice"),
        (b"\xff\xff\xff\xff", "announced a message of 4294967295 bytes"),
    ],
)
async def test_an_answer_that_is_none_drops_its_sender(answer: bytes, why: str) -> None:
    everyone = members("ada", "puppet")
    ada, puppet = make_node(everyone[0], everyone), Puppet(everyone[1])

    async def answer_badly(_peer: object, stream: object) -> None:
        await stream.read()  # type: ignore[attr-defined]
        await stream.write(answer)  # type: ignore[attr-defined]
        await trio.sleep_forever()

    puppet.transport.serve(PROTOCOL, answer_badly)
    async with running(ada, meshed=False), puppet.connected_to(everyone[0]):
        await until(lambda: ada.hears("puppet"))

        with pytest.raises(RequestError, match=why):
            await ada.network.request("puppet", SERVICE, b"", timeout_s=5)

        await until(lambda: why in ada.status("puppet").why)
