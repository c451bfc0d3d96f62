from consensus.engine import Broadcast, Effect, Neglected, Persist, Send
from consensus.pbft.messages import MESSAGE, Complaint
from storage.schema.block import VoteType
from tests.consensus.replica_bench import Bench, of_kind, said, views_asked_for, votes_of

FAR = 2**63 - 1


def complaints(effects: list[Effect]) -> list[Complaint]:
    return said(effects, Complaint)


def test_a_replica_whose_host_finds_the_primary_negligent_says_so_and_stays_bound_to_the_view() -> None:
    bench = Bench()

    effects = bench.step(Neglected("m0"))

    assert complaints(effects) == [Complaint(0, 0, 1)]
    assert len(of_kind(effects, Broadcast)) == 1
    assert views_asked_for(effects) == []
    assert of_kind(effects, Persist) == []
    assert len(votes_of(bench.prepare_it(bench.header()), VoteType.COMMIT)) == 1


def test_f_plus_one_who_complain_end_the_view_and_one_of_them_repeated_does_not() -> None:
    bench = Bench()

    once = bench.receive(2, Complaint(0, 0, 1))
    again = bench.receive(2, Complaint(0, 0, 1))
    second = bench.receive(3, Complaint(0, 0, 1))

    assert views_asked_for(once + again) == []
    assert views_asked_for(second) == [1]


def test_ones_own_complaint_counts_as_one() -> None:
    bench = Bench()

    own = bench.step(Neglected("m0")) + bench.step(Neglected("m0"))
    other = bench.receive(2, Complaint(0, 0, 1))

    assert views_asked_for(own) == []
    assert views_asked_for(other) == [1]


def test_of_seven_it_takes_three() -> None:
    bench = Bench(count=7)

    asked = [views_asked_for(bench.receive(sender, Complaint(0, 0, 1))) for sender in (3, 4, 5)]

    assert asked == [[], [], [1]]


def test_a_complaint_about_another_primary_view_or_epoch_counts_for_nothing() -> None:
    bench = Bench(rotation_blocks=2)
    bench.receive(2, Complaint(0, 0, 1))

    others = [(0, 0, 2), (0, 0, FAR), (1, 0, 1), (FAR, FAR, FAR), (0, 1, 1)]
    effects = [effect for place in others for effect in bench.receive(3, Complaint(*place))]

    assert views_asked_for(effects) == []
    assert bench.replica.view == 0
    assert bench.state.complaints == {2}


def test_who_complains_about_a_later_view_is_asked_about_it_once_a_second() -> None:
    bench = Bench()

    effects = bench.receive(3, Complaint(0, 5, 1)) + bench.receive(3, Complaint(0, FAR, FAR))

    assert [send.peer for send in of_kind(effects, Send)] == ["m3"]


def test_with_the_primary_the_complaints_about_it_are_gone() -> None:
    bench = Bench(rotation_blocks=2)
    bench.receive(2, Complaint(0, 0, 1))

    bench.commit_it(bench.header())
    effects = bench.receive(3, Complaint(0, 0, 2)) + bench.receive(3, Complaint(0, 0, 1))

    assert bench.replica.primary == "m1"
    assert views_asked_for(effects) == []


def test_a_host_that_speaks_of_an_earlier_primary_is_too_late() -> None:
    bench = Bench()

    effects = bench.step(Neglected("m3"))

    assert effects == []


def test_a_primary_does_not_complain_about_itself_and_leaves_when_others_do() -> None:
    bench = Bench(position=0)

    own = bench.step(Neglected("m0"))
    effects = bench.receive(1, Complaint(0, 0, 1)) + bench.receive(2, Complaint(0, 0, 1))

    assert complaints(own) == []
    assert views_asked_for(effects) == [1]


def test_who_may_not_vote_or_waits_for_a_view_complains_about_nobody() -> None:
    unstarted = Bench(started=False)
    waiting = Bench()
    waiting.impatient()
    observer = Bench(position=4)

    effects = [bench.step(Neglected(bench.replica.primary)) for bench in (unstarted, waiting, observer)]
    effects += [unstarted.receive(2, Complaint(0, 0, 1)), unstarted.receive(3, Complaint(0, 0, 1))]

    assert effects == [[]] * 5


def test_after_a_complaint_was_heeded_the_next_primary_begins_with_a_clean_slate() -> None:
    bench = Bench(position=3)
    bench.receive(1, Complaint(0, 0, 1))
    bench.receive(2, Complaint(0, 0, 1))

    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))
    effects = bench.receive(0, Complaint(0, 1, 1))

    assert bench.replica.primary == "m1"
    assert views_asked_for(effects) == []
    assert bench.state.complaints == {0}


def test_a_committed_height_of_the_same_reign_forgets_no_complaint() -> None:
    bench = Bench()
    bench.receive(2, Complaint(0, 0, 1))

    bench.commit_it(bench.header())
    effects = bench.receive(3, Complaint(0, 0, 2))

    assert views_asked_for(effects) == [1]


def test_a_complaint_takes_few_bytes() -> None:
    encoded = of_kind(Bench().step(Neglected("m0")), Broadcast)[0].data

    assert MESSAGE.decode(encoded) == Complaint(0, 0, 1)
    assert encoded == bytes.fromhex("9408000001")
