from consensus.engine import (
    Broadcast,
    CancelTimer,
    CatchUp,
    Persist,
    SetTimer,
    WorkWaiting,
)
from consensus.pbft.messages import Ask, Status, ViewChange
from consensus.pbft.records import RECORD, ViewRecord
from storage.schema.block import VoteType
from tests.consensus.replica_bench import Bench, of_kind, said, views_asked_for


def test_without_work_no_timer_runs_but_the_seldom_status() -> None:
    bench = Bench()

    effects = bench.wait(60_000)

    assert {effect.name for effect in of_kind(bench.effects, SetTimer)} <= {"status", "hello"}
    assert len(said(effects, Status)) == 12
    assert said(effects, ViewChange) == []


def test_a_replica_asks_whether_the_others_live_before_it_leaves_a_view() -> None:
    bench = Bench()
    bench.work()

    half = bench.wait(500)
    bench.hear_all()
    whole = bench.wait(500)

    assert [status.ask for status in said(half, Status)] == [Ask.EVERYBODY]
    assert views_asked_for(half) == []
    assert views_asked_for(whole) == [1]
    (persist,) = of_kind(whole, Persist)
    record = RECORD.decode(persist.records[-1])
    assert isinstance(record, ViewRecord)
    assert (record.view, record.entered) == (1, False)
    assert next(effect for effect in of_kind(whole, Broadcast)).after == persist.token


def test_a_replica_that_hears_no_quorum_stays_in_its_view() -> None:
    bench = Bench()
    bench.work()

    effects = []
    for _ in range(20):
        effects += bench.wait(500)
        bench.receive(2, bench.status(2, ask=Ask.NOBODY))

    assert views_asked_for(effects) == []


def test_a_replica_that_knows_of_a_commit_fetches_it_and_stays_in_its_view() -> None:
    bench = Bench()
    head = bench.certificate(VoteType.COMMIT, bench.header(), signers=(0, 2, 3))
    bench.work()
    bench.wait(500)
    bench.hear_all()

    effects = bench.receive(0, bench.status(0, head=head))
    effects += bench.wait(600)

    assert views_asked_for(effects) == []
    assert of_kind(effects, CatchUp)[0] == CatchUp(1, ("m0",))


def test_a_commit_gives_new_patience_and_work_done_stops_the_timer() -> None:
    bench = Bench()
    bench.work()
    bench.wait(400)

    bench.commit_it(bench.header())
    effects = bench.wait(400)

    assert said(effects, Status) == []
    bench.step(WorkWaiting(False))
    assert of_kind(bench.effects, CancelTimer)[-1] == CancelTimer("block")


def test_the_wait_for_a_new_view_starts_with_a_quorum_and_doubles() -> None:
    bench = Bench(position=0)
    bench.impatient()
    alone = bench.wait(30_000)

    waits_ms = []
    for view in (1, 2, 3):
        for other in (2, 3):
            bench.receive(other, bench.change(other, view))
        start_ms = bench.now_ms
        while bench.replica.view == view and bench.now_ms < start_ms + 60_000:
            bench.wait(100)
        waits_ms.append(bench.now_ms - start_ms)

    assert set(views_asked_for(alone)) == {1}
    assert [round(wait_ms, -3) for wait_ms in waits_ms] == [2_000, 4_000, 8_000]


def test_our_view_change_is_said_again_until_the_view_opens() -> None:
    bench = Bench(position=3)
    bench.impatient()

    again = bench.wait(4_000)
    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))
    after = bench.wait(4_000)

    assert len(views_asked_for(again)) >= 3
    assert views_asked_for(after) == []
