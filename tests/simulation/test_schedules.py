"""The simulator's gate: 500 schedules over the real engine, what they must have seen, and that it finds bugs."""

import os
import subprocess
import sys

import pytest

from consensus.pbft.replica import Pbft
from tests.simulation.agreement_checks import ViolationError
from tests.simulation.planted_bugs import QuorumOffByOne, dropped_certificate
from tests.simulation.replay import figures
from tests.simulation.simulated_cluster import Cluster, EngineMaker, Report
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.simulation

SCHEDULES = 500
# At least so many schedules must have seen it: a simulator that is too kind proves nothing.
SEEN_MIN = {
    "views changed": 200,
    "unsynced writes lost": 50,
    "equivocations": 50,
    "certificates carried": 30,
    "executed again": 20,
}
SEEDS_TO_A_BUG_MAX = 200

_reports: dict[int, Report] = {}


@pytest.mark.seeds(SCHEDULES)
def test_replicas_agree_keep_their_word_and_come_forward_whatever_the_faults(seed: int) -> None:
    _reports[seed] = live_through(seed)

    assert min(_reports[seed].heights) > 0


@pytest.mark.seeds(3)
def test_replicas_agree_with_real_signatures(seed: int) -> None:
    report = live_through(seed, real=True)

    assert min(report.heights) > 0


def test_the_schedules_have_seen_what_they_are_for(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    if pytestconfig.getoption("--seed") is not None:
        pytest.skip("one seed was asked for")

    reports = [_reports.get(seed) or live_through(seed) for seed in range(SCHEDULES)]

    with capsys.disabled():
        sys.stdout.write(f"\n{figures(reports)}\n")
    seen = {name: sum(report.seen[name] > 0 for report in reports) for name in SEEN_MIN}
    assert {name: count for name, count in seen.items() if count < SEEN_MIN[name]} == {}


def test_a_quorum_that_is_one_too_small_is_found() -> None:
    found = first_violation(QuorumOffByOne)

    assert found is not None
    assert "without a quorum" in found


def test_a_prepared_certificate_that_a_view_change_drops_is_found_as_a_fork() -> None:
    with dropped_certificate():
        found = first_violation(Pbft)

    assert found is not None
    assert "commits another block" in found


def test_a_seed_replays_alike_in_another_process_with_another_hash_seed() -> None:
    here = live_through(7)

    told = [replay_with_hash_seed(7, hash_seed) for hash_seed in (1, 2)]

    assert [text.splitlines()[-1] for text in told] == [f"fingerprint {here.fingerprint}"] * 2


def live_through(seed: int, *, real: bool = False) -> Report:
    """Live through a schedule; what fails says how to see it again."""
    try:
        return Cluster(seed, real=real).run()
    except AssertionError as error:
        options = " --real" if real else ""
        raise AssertionError(f"{error}\nreplay: scripts/replay_seed {seed}{options}") from error


def first_violation(make: EngineMaker) -> str | None:
    """Return what the first schedule finds that finds anything in an engine."""
    for seed in range(SEEDS_TO_A_BUG_MAX):
        try:
            Cluster(seed, make=make).run()
        except ViolationError as violation:
            return str(violation)
    return None


def replay_with_hash_seed(seed: int, hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "tests.simulation.replay", str(seed), "--quiet"]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
