"""Whole replicas in a calm network, where the test alone brings the trouble."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from consensus.engine import Halt
from tests.simulation.fault_schedule import Plan
from tests.simulation.simulated_cluster import Cluster
from tests.simulation.virtual_host import Host
from tests.simulation.virtual_network import CALM
from tests.simulation.virtual_world import MS, SECOND

pytestmark = pytest.mark.simulation

QUIET = Plan(
    count=4,
    liars=0,
    tricks=frozenset(),
    weather=CALM,
    calm=CALM,
    rotation_blocks=0,
    inline=1.0,
    clock_refusals=0.0,
    sync_us_max=MS,
    submit_ms=50,
    faults_us=0,
    fault_every_ms=1_000,
    kinds=(),
    strike="isolate",
    spite=0.0,
)


def calm_cluster(plan: Plan = QUIET, seed: int = 1) -> Cluster:
    """A cluster that has started and agrees."""
    cluster = Cluster(seed, plan=plan, traced=True)
    cluster.boot()
    pass_until(cluster, lambda: height(cluster.hosts[0]) >= 5)
    return cluster


def height(host: Host) -> int:
    return len(host.disk.ledger) - 1


def pass_until(cluster: Cluster, done: Callable[[], bool], seconds: int = 30) -> None:
    assert cluster.world.run(cluster.world.now_us + seconds * SECOND, done), "it has not come about in time"


def cut_off(cluster: Cluster, host: Host) -> set[tuple[str, str]]:
    links = {(host.name, other.name) for other in cluster.hosts} | {(other.name, host.name) for other in cluster.hosts}
    cluster.network.cut |= links
    return links


@pytest.mark.parametrize("count", [4, 5, 7, 10])
def test_a_calm_cluster_stays_in_its_first_view(count: int) -> None:
    cluster = calm_cluster(replace(QUIET, count=count))

    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= 100)

    assert {host.engine.view for host in cluster.hosts} == {0}
    assert cluster.checks.seen["catch-ups"] == 0


def test_when_the_primary_dies_the_others_go_on_within_two_timeouts() -> None:
    cluster = calm_cluster()
    primary, *others = cluster.hosts
    before = height(others[0])

    primary.crash()
    pass_until(cluster, lambda: min(map(height, others)) > before + 5, seconds=2)

    assert {host.engine.view for host in others} == {1}


def test_a_replica_that_was_cut_off_stays_in_the_view_that_the_others_are_in() -> None:
    cluster = calm_cluster()
    backup = cluster.hosts[3]

    links = cut_off(cluster, backup)
    cluster.world.run(cluster.world.now_us + 20 * SECOND)
    cluster.network.cut -= links
    goal = height(cluster.hosts[0])
    pass_until(cluster, lambda: height(backup) > goal + 10)

    assert backup.engine.view == 0
    assert backup.engine.state.entered


def test_a_replica_restored_from_an_old_copy_votes_no_more_and_follows() -> None:
    cluster = calm_cluster()
    restored = cluster.hosts[3]
    copy = deepcopy(restored.disk)
    pass_until(cluster, lambda: height(restored) >= 20)

    cluster.checks.excuse(restored.name)
    restored.crash()
    restored.disk = copy
    restored.boot()
    pass_until(cluster, lambda: height(restored) >= 40)

    assert restored.engine.state.halted
    assert [type(effect) for effect in cluster.checks.halts[restored.name]] == [Halt]


def test_a_replica_whose_ledger_is_lost_follows_until_it_stands_where_its_log_does_and_then_votes_again() -> None:
    cluster = calm_cluster()
    healed, other = cluster.hosts[3], cluster.hosts[1]
    pass_until(cluster, lambda: height(healed) >= 20)
    healed.crash()
    log_height = height(healed)
    pass_until(cluster, lambda: height(other) >= log_height + 5)

    healed.disk.ledger, healed.disk.log_height = healed.disk.ledger[:1], log_height
    healed.boot()
    halted = [type(effect) for effect in cluster.checks.halts[healed.name]]
    pass_until(cluster, lambda: height(healed) >= log_height)
    voted_while_behind = healed.engine.may_vote
    healed.crash()
    healed.disk.log_height = 0
    healed.boot()
    other.crash()
    goal = height(cluster.hosts[0]) + 20
    pass_until(cluster, lambda: height(cluster.hosts[0]) >= goal)

    assert halted == [Halt]
    assert not voted_while_behind
    assert healed.engine.may_vote


def test_a_replica_whose_vote_log_is_lost_follows_and_the_others_do_without_it() -> None:
    cluster = calm_cluster()
    forgetful = cluster.hosts[2]

    cluster.checks.excuse(forgetful.name)
    forgetful.crash()
    forgetful.disk.log, forgetful.disk.log_whole = [], False
    forgetful.boot()
    goal = height(cluster.hosts[0]) + 20
    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= goal)

    assert not forgetful.engine.may_vote
    assert {host.engine.view for host in cluster.hosts} == {0}


def test_all_replicas_lose_power_at_once_and_go_on_where_they_were() -> None:
    cluster = calm_cluster()

    for host in cluster.hosts:
        host.crash()
    heights = [height(host) for host in cluster.hosts]
    for host in cluster.hosts:
        host.boot()
    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= max(heights) + 10)

    assert {host.engine.view for host in cluster.hosts} == {0}


def test_rotation_hands_the_primary_on_without_a_view_change() -> None:
    cluster = calm_cluster(replace(QUIET, rotation_blocks=2))

    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= 20)

    proposers = [block.header.proposer for block in cluster.hosts[0].disk.ledger[2:10]]
    assert proposers == ["h1", "h1", "h2", "h2", "h3", "h3", "h0", "h0"]
    assert {host.engine.view for host in cluster.hosts} == {0}


def test_without_work_the_replicas_say_little_and_change_nothing() -> None:
    cluster = calm_cluster()
    cluster.faults.idle = True
    cluster.world.run(cluster.world.now_us + 2 * SECOND)
    before = sum(cluster.checks.sent.values())

    cluster.world.run(cluster.world.now_us + 20 * SECOND)

    said = sum(cluster.checks.sent.values()) - before
    assert said <= 4 * len(cluster.hosts) + 12
    assert {host.engine.view for host in cluster.hosts} == {0}
