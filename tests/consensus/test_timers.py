from consensus.engine import CancelTimer, Checked, Effect, SetTimer
from consensus.pbft.timers import TIMEOUT_MS_MAX, TIMEOUT_MS_MIN, Patience, Timers
from tests.consensus.replica_bench import Bench, views_asked_for


def test_the_timeout_follows_the_usual_time_to_a_commit_between_its_bounds() -> None:
    patience = Patience()
    timeouts_ms = [patience.timeout_ms()]

    for latency_ms in (10, 1_000, 60_000):
        for _ in range(60):
            patience.committed(latency_ms)
        timeouts_ms.append(patience.timeout_ms())

    assert timeouts_ms[:2] == [TIMEOUT_MS_MIN] * 2
    assert 3_900 <= timeouts_ms[2] <= 4_000
    assert timeouts_ms[3] == TIMEOUT_MS_MAX


def test_one_slow_commit_alone_does_not_make_a_replica_patient() -> None:
    patience = Patience()

    patience.committed(2_000)

    assert patience.timeout_ms() == TIMEOUT_MS_MIN


def test_each_view_given_up_doubles_the_timeout_up_to_the_cap_and_a_commit_resets_it() -> None:
    patience = Patience()
    timeouts_ms = []

    for failed in (0, 1, 2, 3, 4, 5, 1_000):
        patience.failed = failed
        timeouts_ms.append(patience.timeout_ms())
    patience.committed(None)

    assert timeouts_ms == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert patience.timeout_ms() == TIMEOUT_MS_MIN


def test_a_timer_that_is_moved_later_costs_no_effect_until_it_fires() -> None:
    effects: list[Effect] = []
    timers = Timers(effects)

    timers.set("block", 100)
    timers.set("block", 200)
    early = timers.is_due("block", 100)
    late = timers.is_due("block", 200)

    assert (early, late) == (False, True)
    assert effects == [SetTimer("block", 100), SetTimer("block", 200)]
    assert not timers.is_set("block")


def test_a_timer_that_is_moved_earlier_is_set_at_once() -> None:
    effects: list[Effect] = []
    timers = Timers(effects)

    timers.set("block", 200)
    timers.set_no_later("block", 300)
    timers.set_no_later("block", 100)

    assert effects == [SetTimer("block", 200), SetTimer("block", 100)]


def test_a_timer_is_cancelled_once() -> None:
    effects: list[Effect] = []
    timers = Timers(effects)
    timers.set("block", 200)

    timers.clear("block")
    timers.clear("block")

    assert effects == [SetTimer("block", 200), CancelTimer("block")]
    assert not timers.is_due("block", 200)


def test_when_every_primary_was_refused_in_turn_only_patience_leaves_the_view() -> None:
    bench = Bench(position=3)
    for view in (0, 1, 2, 4):
        refuse(bench, view)
    assert views_asked_for(bench.effects) == [1, 2, 3, 5]

    effects = refuse(bench, 5)

    assert bench.replica.view == 5
    assert views_asked_for(effects) == []
    assert bench.state.timers.is_set("block")


def refuse(bench: Bench, view: int) -> list[Effect]:
    """Enter a view by its NEW-VIEW, and have its proposal refused by the host."""
    header, primary = bench.header(view=view), view % bench.count
    if view > 0:
        bench.receive(primary, bench.new_view(primary, view, [bench.change(signer, view) for signer in (0, 1, 2)]))
    bench.receive(primary, bench.proposal(header, view))
    return bench.step(Checked(header.digest(), "clock"))
