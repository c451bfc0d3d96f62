"""The wall clock of a running node jumps by an hour: its proposals are not voted for, and it costs its turn only."""

from collections.abc import Iterator

import pytest

from storage.schema.calls import Grant
from tests.support.jumping_clock import COMPILER, NO_COMPILER, build_clock, give_clock, set_clock
from tests.support.raw_calls import caller, provision, refusal_of
from tests.support.running_network import RunningNetwork, running_network, until
from tests.support.workload import PASSING, WRONG_CLOCK, Workload

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not COMPILER, reason=NO_COMPILER)]
HOUR_S = 3600
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def clocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """A network whose nodes have clocks that can be set, and show the right time."""
    folder = tmp_path_factory.mktemp("n")
    with running_network(folder / "net", environment=build_clock(folder)) as network:
        network.ask("testnet", "down")
        for name in network.names:
            give_clock(network, name)
        network.ask("testnet", "up")
        network.enrol()
        yield network


@pytest.mark.parametrize(
    ("jump_s", "lifetime_s", "refusal"),
    [(HOUR_S, HOUR_S // 2, "tx.expired"), (-HOUR_S, 24 * HOUR_S - HOUR_S // 2, "tx.too_far_future")],
    ids=["forward", "back"],
)
def test_a_primary_whose_clock_jumps_is_replaced_and_votes_on(
    clocked: RunningNetwork, jump_s: int, lifetime_s: int, refusal: str
) -> None:
    good_call = caller(clocked, "pia", "north").call("consent.grant", Grant(provision(), None), lifetime_s=lifetime_s)
    with Workload(clocked, seed=jump_s, passing=PASSING | WRONG_CLOCK) as work:
        work.goes_on()
        primary = clocked.status("north")["primary"]
        witness = next(name for name in clocked.names if name != primary)
        set_clock(clocked, primary, jump_s)
        try:
            until(lambda: clocked.status(witness)["primary"] != primary, WITHIN_S)
            words = refusal_of(clocked, primary, good_call)
            work.goes_on()
        finally:
            set_clock(clocked, primary, 0)
        work.goes_on()

    assert words == refusal
    assert work.found() == []
    assert all(map(clocked.is_ready, clocked.names))
