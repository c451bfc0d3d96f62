"""A primary that orders everything but one transaction, among replicas whose hosts watch it."""

from dataclasses import replace

import pytest

from consensus.engine import Neglected
from tests.simulation.simulated_cluster import Cluster
from tests.simulation.test_scenarios import QUIET, calm_cluster, height, pass_until
from tests.simulation.virtual_disk import StoredBlock
from tests.simulation.virtual_host import Host
from tests.simulation.virtual_world import SECOND

pytestmark = pytest.mark.simulation

PATIENCE_US = 3 * SECOND
CENSORED = b"tx200"


def watch(host: Host) -> None:
    """Let a host complain of a primary whose blocks pass over for long what waits here."""
    commit, since_us = host.commit, dict[bytes, int]()

    def judge(block: StoredBlock) -> None:
        commit(block)
        for transaction in host.pool:
            since_us.setdefault(transaction, host.world.now_us)
            if host.world.now_us - since_us[transaction] >= PATIENCE_US:
                host.later(0, host.step, Neglected(host.engine.primary))

    host.commit = judge  # type: ignore[method-assign]


def censor(host: Host) -> None:
    """Let a host never take a transaction up, and so never propose it."""
    offer = host.offer
    host.offer = lambda transaction: None if transaction == CENSORED else offer(transaction)  # type: ignore[method-assign]


def is_committed(cluster: Cluster, by: Host) -> bool:
    return CENSORED in cluster.checks.acknowledged and by.desk.is_committed(CENSORED)


@pytest.mark.parametrize("count", [4, 7])
def test_what_f_primaries_in_turn_leave_out_is_committed_by_the_next(count: int) -> None:
    cluster = calm_cluster(replace(QUIET, count=count))
    faults_tolerated = (count - 1) // 3
    for host in cluster.hosts[:faults_tolerated]:
        censor(host)
    for host in cluster.hosts[faults_tolerated:]:
        watch(host)

    pass_until(cluster, lambda: is_committed(cluster, cluster.hosts[-1]), seconds=10 + 5 * faults_tolerated)

    assert {host.engine.view for host in cluster.hosts} == {faults_tolerated}
    goal = height(cluster.hosts[0]) + 10
    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= goal, seconds=5)


@pytest.mark.parametrize("count", [4, 7])
def test_f_who_complain_without_end_of_an_honest_primary_change_no_view_and_cost_no_block(count: int) -> None:
    cluster = calm_cluster(replace(QUIET, count=count))
    liars = cluster.hosts[-((count - 1) // 3) :]

    def complain(host: Host) -> None:
        host.step(Neglected(host.engine.primary))
        host.later(SECOND // 20, complain, host)

    before, began_us = height(cluster.hosts[0]), cluster.world.now_us
    for liar in liars:
        complain(liar)
    cluster.world.run(began_us + 20 * SECOND)

    assert {host.engine.view for host in cluster.hosts} == {0}
    assert min(map(height, cluster.hosts)) > before + 200


def test_a_primary_that_leaves_nothing_out_is_complained_of_by_nobody() -> None:
    cluster = calm_cluster()
    for host in cluster.hosts:
        watch(host)

    pass_until(cluster, lambda: min(map(height, cluster.hosts)) >= 300)

    assert {host.engine.view for host in cluster.hosts} == {0}
