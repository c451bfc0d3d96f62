"""Cables between running nodes are cut, one way or both, and slowed, while clients work: nobody is told an untruth."""

from collections.abc import Iterator

import pytest

from tests.support.running_network import RunningNetwork, running_network, until
from tests.support.workload import Workload

pytestmark = pytest.mark.cluster
WITHIN_S = 60.0
ALONE = "a quorum is 3 validators, and 1 are reachable"


@pytest.fixture(scope="module")
def cabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """A network whose nodes reach each other through the relay."""
    with running_network(tmp_path_factory.mktemp("n") / "net", "--relay") as network:
        yield network


@pytest.fixture(autouse=True)
def healed(cabled: RunningNetwork) -> Iterator[None]:
    """Each test begins with whole cables."""
    yield
    cabled.ask("testnet", "heal")
    until(lambda: all(map(cabled.is_ready, cabled.names)), WITHIN_S)


def test_a_hospital_that_is_cut_off_says_so_and_follows_when_the_cable_is_mended(cabled: RunningNetwork) -> None:
    with Workload(cabled, seed=1) as work:
        work.goes_on()
        cabled.ask("testnet", "partition", "west")
        until(lambda: ALONE in cabled.status("west").get("why_not", ()))
        while_cut = cabled.status("west")
        work.goes_on()
        cabled.ask("testnet", "heal")
        until(lambda: cabled.is_ready("west"), WITHIN_S)
        work.goes_on()

    assert cabled.status("west")["height"] > while_cut["height"]
    assert work.found() == []


def test_a_primary_that_hears_and_is_not_heard_is_replaced(cabled: RunningNetwork) -> None:
    with Workload(cabled, seed=2) as work:
        work.goes_on()
        primary = cabled.status("north")["primary"]
        witness = next(name for name in cabled.names if name != primary)
        cabled.ask("testnet", "partition", primary, "--one-way")
        until(lambda: cabled.status(witness)["primary"] != primary, WITHIN_S)
        work.goes_on()

        cabled.ask("testnet", "heal")
        work.goes_on()

    assert work.found() == []


def test_two_halves_commit_nothing_and_go_on_as_one_when_they_are_joined(cabled: RunningNetwork) -> None:
    with Workload(cabled, seed=3) as work:
        work.goes_on()
        cabled.ask("testnet", "partition", "north,east", "south,west")
        until(lambda: not any(map(cabled.is_ready, cabled.names)))
        heights = [cabled.status(name)["height"] for name in cabled.names]
        before = len(work.acknowledged)
        until(lambda: all(cabled.status(name)["mempool"] for name in cabled.names), WITHIN_S)
        meanwhile = [cabled.status(name)["height"] for name in cabled.names]
        acknowledged = len(work.acknowledged) - before
        cabled.ask("testnet", "heal")
        work.goes_on()

    assert (meanwhile, acknowledged) == (heights, 0)
    assert work.found() == []


def test_a_hospital_far_away_over_a_bad_cable_slows_nobody_to_a_halt(cabled: RunningNetwork) -> None:
    cabled.ask("testnet", "slow", "south", "--delay", "50ms", "--jitter", "20ms", "--loss", "5")
    with Workload(cabled, seed=4) as work:
        work.goes_on(24)
        latencies_ms = {peer["name"]: peer["latency_ms"] for peer in cabled.status("south")["peers"]}

    assert all(latency_ms >= 60 for latency_ms in latencies_ms.values()), latencies_ms
    assert work.found() == []
