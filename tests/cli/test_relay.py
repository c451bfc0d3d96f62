"""The relay between the nodes of a test network, with plain sockets for nodes: what it carries, holds and delays."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.cluster import Cluster, Place
from cli.errors import CliError
from cli.relay import Relay, main
from cli.weather import Forecast, Slowness, Weather, ask_relay, change_weather, relay_socket, stop_relay, weather_of
from node.config import multiaddr, parse_multiaddr
from tests.support.running_network import base_port, until

WAIT_S = 20.0
CUT_BOTH = Weather(frozenset({("north", "south"), ("south", "north")}))


class Lab:
    """North and south with a relay between them; south listens, north calls it."""

    def __init__(self, folder: Path) -> None:
        port = base_port()
        north, south, north_to_south, south_to_north = (multiaddr("127.0.0.1", port + n) for n in range(4))
        places = (
            Place("north", folder / "north", "off", north, (("south", north_to_south),)),
            Place("south", folder / "south", "off", south, (("north", south_to_north),)),
        )
        self.cluster = Cluster(folder, "testnet", places)
        self._door = parse_multiaddr(north_to_south)
        self.south = socket.create_server(parse_multiaddr(south))
        self.south.settimeout(WAIT_S)

    def call(self) -> socket.socket:
        return socket.create_connection(self._door, timeout=WAIT_S)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A connection that north has opened, at both of its ends."""
        near = self.call()
        far, _ = self.south.accept()
        far.settimeout(WAIT_S)
        return near, far


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    # Loss is decided by the second of two draws, so the middle of every range means none.
    relay = Relay(made.cluster, lambda low, high: (low + high) / 2)
    thread = threading.Thread(target=relay.run)
    thread.start()
    yield made
    stop_relay(made.cluster)
    thread.join(WAIT_S)
    made.south.close()
    assert not thread.is_alive()


def is_silent(end: socket.socket, for_s: float = 0.3) -> bool:
    end.settimeout(for_s)
    try:
        return not end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT_S)


def received(end: socket.socket, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        piece = end.recv(size_bytes - len(data))
        assert piece, "it ended early"
        data += piece
    return data


def test_what_one_node_sends_arrives_at_the_other_and_back_whatever_its_length(lab: Lab) -> None:
    near, far = lab.pair()
    long = bytes(range(256)) * 8192
    with near, far:
        threading.Thread(target=near.sendall, args=(long,)).start()
        there = received(far, len(long))
        far.sendall(b"answer")

        assert there == long
        assert received(near, 6) == b"answer"


def test_the_end_of_one_side_is_the_end_of_the_other(lab: Lab) -> None:
    near, far = lab.pair()
    with far:
        near.sendall(b"last words")
        near.close()

        assert received(far, 10) == b"last words"
        assert far.recv(1) == b""


def test_a_call_to_a_node_that_does_not_listen_ends(lab: Lab) -> None:
    lab.south.close()

    with lab.call() as near:
        assert near.recv(1) == b""


def test_a_cut_holds_what_is_sent_and_mending_lets_it_arrive_in_order(lab: Lab) -> None:
    near, far = lab.pair()
    with near, far:
        change_weather(lab.cluster, CUT_BOTH)
        near.sendall(b"one ")
        near.sendall(b"two")
        was_silent = is_silent(far)
        change_weather(lab.cluster, Weather())

        assert was_silent
        assert received(far, 7) == b"one two"


def test_a_cut_in_one_direction_leaves_the_other_open(lab: Lab) -> None:
    near, far = lab.pair()
    with near, far:
        change_weather(lab.cluster, Weather(frozenset({("north", "south")})))
        near.sendall(b"lost")
        far.sendall(b"heard")

        assert received(near, 5) == b"heard"
        assert is_silent(far)


def test_the_end_of_a_connection_is_not_heard_through_a_cut(lab: Lab) -> None:
    near, far = lab.pair()
    with far:
        change_weather(lab.cluster, CUT_BOTH)
        near.close()
        was_silent = is_silent_and_open(far)
        change_weather(lab.cluster, Weather())

        assert was_silent
        assert far.recv(1) == b""


def is_silent_and_open(end: socket.socket) -> bool:
    end.settimeout(0.3)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(WAIT_S)
    return False


@pytest.mark.parametrize("cut", [("north", "south"), ("south", "north")])
def test_no_call_gets_through_a_cut_in_either_direction(lab: Lab, cut: tuple[str, str]) -> None:
    change_weather(lab.cluster, Weather(frozenset({cut})))
    lab.south.settimeout(0.3)
    with lab.call() as given_up, lab.call() as near:
        with pytest.raises(TimeoutError):
            lab.south.accept()
        change_weather(lab.cluster, Weather())
        lab.south.settimeout(WAIT_S)
        far, _ = lab.south.accept()
        with far:
            near.sendall(b"at last")

            assert received(far, 7) == b"at last"
            # Of the calls of one node to another, the newest is the one that it waits for.
            assert given_up.recv(1) == b""


def test_each_piece_takes_longer_over_a_slow_cable_each_way(lab: Lab) -> None:
    near, far = lab.pair()
    change_weather(lab.cluster, Weather(slow={"south": Slowness(150, 0, 0)}))
    with near, far:
        began_s = time.monotonic()
        near.sendall(b"ping")
        received(far, 4)
        there_s = time.monotonic()
        far.sendall(b"pong")
        received(near, 4)
        back_s = time.monotonic()

    assert there_s - began_s >= 0.15
    assert back_s - there_s >= 0.15


def test_a_lost_piece_arrives_when_it_was_sent_again(lab: Lab) -> None:
    near, far = lab.pair()
    change_weather(lab.cluster, Weather(slow={"south": Slowness(0, 0, 100)}))
    with near, far:
        began_s = time.monotonic()
        near.sendall(b"ping")
        received(far, 4)

    assert time.monotonic() - began_s >= 0.2


def test_nothing_overtakes_over_a_cable_whose_delay_changes(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    # By turns the longest and the shortest delay, and never a loss.
    draws = iter([50.0, 100.0, -50.0, 100.0] * 1000)
    relay = Relay(lab.cluster, lambda *_: next(draws))
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        near, far = lab.pair()
        change_weather(lab.cluster, Weather(slow={"north": Slowness(50, 50, 0)}))
        with near, far:
            for number in range(200):
                near.sendall(b"%03d" % number)

            assert received(far, 600) == b"".join(b"%03d" % number for number in range(200))
    finally:
        stop_relay(lab.cluster)
        thread.join(WAIT_S)
        lab.south.close()


def test_the_weather_is_told_and_stays_until_it_changes(lab: Lab) -> None:
    changed = change_weather(lab.cluster, Weather(CUT_BOTH.cuts, {"north": Slowness(5, 1, 2)}))

    assert weather_of(lab.cluster) == changed
    assert changed.weather.cuts == CUT_BOTH.cuts
    assert changed.weather.slow == {"north": Slowness(5, 1, 2)}


@pytest.mark.parametrize("said", [b"", b"{", b'{"weather": 1}', b'{"more": 1}', bytes(2 << 20)], ids=len)
def test_who_talks_nonsense_to_the_relay_gets_no_answer_and_it_goes_on(lab: Lab, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(WAIT_S)
        asker.connect(str(relay_socket(lab.cluster.folder)))
        try:
            asker.sendall(said)
            asker.shutdown(socket.SHUT_WR)
            answer = asker.recv(1)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""

    assert answer == b""
    assert ask_relay(lab.cluster.folder, Forecast()) is not None


def test_a_network_whose_relay_has_ended_says_so(lab: Lab) -> None:
    stop_relay(lab.cluster)

    until(lambda: ask_relay(lab.cluster.folder, Forecast()) is None)
    with pytest.raises(CliError, match="the relay does not run"):
        weather_of(lab.cluster)


def test_a_relay_that_cannot_listen_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = Lab(tmp_path)
    lab.cluster.save()
    with lab.south, socket.create_server(parse_multiaddr(dict(lab.cluster.places[0].reach)["south"])):
        exit_code = main(tmp_path)

    assert exit_code == 1
    assert "Address already in use" in capsys.readouterr().err
