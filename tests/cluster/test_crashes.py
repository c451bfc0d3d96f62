"""Nodes are killed, frozen and stopped while transactions flow: what was acknowledged stands on all of them."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.bench_people import Person
from cli.client import Json
from cli.story_flow import Flow
from storage.schema.calls import Grant
from tests.support.raw_calls import caller, outcome_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, until

pytestmark = pytest.mark.cluster


@contextmanager
def flowing(network: RunningNetwork) -> Iterator[Flow]:
    """Grants by pia through every node that answers, each acknowledged by a receipt that verifies."""
    pia = caller(network, "pia", "north")
    nodes = [network.node(name) for name in network.names]
    flow = Flow(network.genesis, [Person(pia.seed, pia.key, "north")], nodes, pause_s=0.2)
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()


def goes_on(flow: Flow, count: int = 8) -> None:
    """Wait until so many more transactions are acknowledged."""
    before = len(flow.acknowledged)
    until(lambda: len(flow.acknowledged) >= before + count or flow.failure)


def check_nothing_is_lost(network: RunningNetwork, acknowledged: list[str]) -> None:
    until(network.is_level)
    for name in network.names:
        # All stand on one chain, whose every entry the last test checks: on three nodes a part will do.
        for tx_id in acknowledged if name == "north" else acknowledged[::5]:
            assert network.node(name).get(f"/v1/transactions/{tx_id}", Json)["transaction"] == tx_id


def test_each_node_in_turn_is_killed_and_started_again_and_nothing_is_lost(own_network: RunningNetwork) -> None:
    network = own_network
    early = caller(network, "pia", "north").call("consent.grant", Grant(provision(), None))
    assert outcome_of(network, "north", early) == "ok"
    replays = []
    with flowing(network) as flow:
        for name in network.names:
            goes_on(flow)
            network.ask("testnet", "kill", name)
            goes_on(flow)
            network.start(name)
            replays.append(refusal_of(network, name, early))

    assert replays == ["tx.replayed"] * 4
    check_nothing_is_lost(network, flow.acknowledged)


def test_all_nodes_are_killed_at_once_and_nothing_is_lost(own_network: RunningNetwork) -> None:
    network = own_network
    with flowing(network) as flow:
        goes_on(flow)
        network.kill(*network.names)
        check_that_it_starts_whole_or_not_at_all(network)
        ready = {name: network.ask("testnet", "start", name)["ready"] for name in network.names}
        goes_on(flow)

    # Four nodes agree by three: who is started before the third runs, and waits for it.
    assert list(ready.values()) == [False, False, True, True]

    check_nothing_is_lost(network, flow.acknowledged)


def check_that_it_starts_whole_or_not_at_all(network: RunningNetwork) -> None:
    """Try to start a network while somebody sits on a port of west: who has started is stopped again."""
    address = network.place("west").p2p.split("/")
    with socket.create_server((address[2], int(address[4]))):
        error = network.refusal("testnet", "up", exit_code=1)

    assert error["code"] == "testnet.failed"
    assert "west has ended" in error["message"]
    assert "another process uses this port" in error["message"]
    assert [place.pid for place in network.places] == [None] * 4


def test_a_primary_that_freezes_is_replaced_and_follows_when_it_thaws(own_network: RunningNetwork) -> None:
    network = own_network
    with flowing(network) as flow:
        goes_on(flow)
        primary = network.status("north")["primary"]
        witness = next(name for name in network.names if name != primary)
        network.signal(primary, signal.SIGSTOP)
        frozen_at = time.monotonic()
        try:
            goes_on(flow)
            until(lambda: time.monotonic() > frozen_at + 5)
            while_frozen = network.status(witness)
        finally:
            network.signal(primary, signal.SIGCONT)
        goes_on(flow)
        until(lambda: network.is_ready(primary))

    assert while_frozen["primary"] != primary
    assert network.status(primary)["height"] > while_frozen["height"]
    check_nothing_is_lost(network, flow.acknowledged)


def test_a_second_node_of_one_home_is_refused_and_the_first_goes_on(own_network: RunningNetwork) -> None:
    network = own_network
    pid = network.place("west").pid

    done = network.run("start", "--home", str(network.place("west").home))

    assert done.returncode == 1
    assert done.stderr.startswith("caretrace: home.in_use: a node runs in")
    assert "Traceback" not in done.stderr
    assert network.place("west").pid == pid
    assert network.is_ready("west")


def test_hangup_reads_the_log_level_again_and_stops_nothing(own_network: RunningNetwork) -> None:
    network, config = own_network, own_network.place("west").home / "config.toml"
    text = config.read_text()

    config.write_text(text + 'log_level = "debug"\n')
    network.signal("west", signal.SIGHUP)
    until(lambda: "log level is debug" in network.log("west"))
    config.write_text("log_level = [\n")
    network.signal("west", signal.SIGHUP)
    until(lambda: "the settings stay as they were" in network.log("west"))

    config.write_text(text)
    assert network.is_ready("west")


def test_after_all_this_each_ledger_is_what_follows_from_genesis(own_network: RunningNetwork) -> None:
    network = own_network
    until(network.is_level)

    reports = [network.ask("ledger", "verify", "--node", name) for name in network.names]
    answer = network.ask("testnet", "down")

    assert [report["ok"] for report in reports] == [True] * 4
    assert len({report["to"] for report in reports}) == 1
    assert answer["running"] == 0
    assert [place.pid for place in network.places] == [None] * 4
