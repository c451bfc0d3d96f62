from collections.abc import Sequence

from msgspec.structs import replace

from consensus.engine import (
    Accuse,
    Advanced,
    Broadcast,
    CancelTimer,
    CatchUp,
    Check,
    Checked,
    Deliver,
    Draft,
    Effect,
    Executed,
    Fault,
    Persist,
    SetTimer,
    ViewEntered,
    WorkWaiting,
)
from consensus.pbft.messages import Ask, NewView, Prepared, Proposal, Status, ViewChange
from consensus.pbft.records import RECORD, ViewRecord
from storage.schema.block import Header, VoteType
from tests.consensus.replica_bench import RESULT, Bench, of_kind, said, votes_of


def prepared(bench: Bench, header: Header, view: int = 0) -> Prepared:
    return Prepared(bench.certificate(VoteType.PREPARE, header, view), header)


def changes(bench: Bench, view: int, signers: Sequence[int], what: Prepared | None = None) -> list[ViewChange]:
    """Changes of some members, the first of whom has prepared something."""
    return [bench.change(signer, view, prepared=what if index == 0 else None) for index, signer in enumerate(signers)]


def hear_all(bench: Bench) -> None:
    """Let every other replica show that it lives."""
    for other in bench.others():
        bench.receive(other, bench.status(other, ask=Ask.NOBODY))


def impatient(bench: Bench) -> list[Effect]:
    """Let the replica lose patience while the others are heard and do nothing."""
    bench.work()
    bench.wait(500)
    hear_all(bench)
    return bench.wait(500)


def views_asked_for(effects: Sequence[Effect]) -> list[int]:
    return [message.signed.change.view for message in said(effects, ViewChange)]


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
    hear_all(bench)
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
    hear_all(bench)

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


def test_f_plus_one_who_leave_take_a_replica_along_as_far_as_both_have_gone() -> None:
    bench = Bench()

    alone = bench.receive(2, bench.change(2, 7))
    both = bench.receive(3, bench.change(3, 5))

    assert views_asked_for(alone) == []
    assert views_asked_for(both) == [5]


def test_one_liar_moves_nobody_however_far_it_goes() -> None:
    bench = Bench()

    effects = [effect for view in (1, 2, 10**9) for effect in bench.receive(2, bench.change(2, view))]

    assert effects == []
    assert bench.replica.view == 0


def test_the_new_primary_opens_the_view_with_a_quorum_and_asks_for_a_draft() -> None:
    bench = Bench()

    first = bench.receive(2, bench.change(2, 1))
    second = bench.receive(3, bench.change(3, 1))

    assert said(first, NewView) == []
    (new_view,) = said(second, NewView)
    assert [signed.change.signer for signed in new_view.changes] == [1, 2, 3]
    assert of_kind(second, ViewEntered) == [ViewEntered(1, "m1")]
    assert of_kind(second, Draft) == [Draft(1, 1)]
    opening = next(effect for effect in of_kind(second, Broadcast) if effect.data[1] == 4)
    assert opening.after == of_kind(second, Persist)[-1].token


def test_what_was_prepared_in_the_highest_view_is_proposed_again_with_its_digest() -> None:
    bench = Bench(position=3)
    older, newer = bench.header(body=b"b"), bench.header(view=1, body=b"a")
    for view in (1, 2):
        for signer in (0, 1):
            bench.receive(signer, bench.change(signer, view))

    for change in (bench.change(0, 3, prepared=prepared(bench, newer, 1)), bench.change(1, 3)):
        bench.receive(change.signed.change.signer, change)
    effects = bench.step(Checked(newer.digest(), None))

    (check,) = of_kind(bench.effects, Check)
    assert (check.header, check.certified) == (newer, True)
    (proposal,) = said(effects, Proposal)
    assert (proposal.view, proposal.header.digest()) == (3, newer.digest())
    assert older.digest() != newer.digest()


def test_a_backup_votes_for_nothing_but_what_the_new_view_requires() -> None:
    bench = Bench(position=3)
    required, other = bench.header(body=b"a"), bench.header(view=1, body=b"b")
    opening = bench.new_view(1, 1, changes(bench, 1, (0, 1, 2), prepared(bench, required)))

    bench.receive(1, opening)
    wrong = bench.receive(1, bench.proposal(other, 1, b"b"))

    assert bench.replica.view == 2
    assert [fault.peer for fault in of_kind(wrong, Fault)] == ["m1"]
    assert of_kind(wrong, Check) == []


def test_a_required_block_is_checked_without_the_clock_and_voted_for_in_the_new_view() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2), prepared(bench, header))))

    asked = bench.receive(1, bench.proposal(header, 1))
    voted = bench.step(Checked(header.digest(), None))

    (check,) = of_kind(asked, Check)
    assert check.certified
    assert votes_of(voted, VoteType.PREPARE) == [bench.vote(3, VoteType.PREPARE, header, 1)]


def test_a_block_refused_by_the_clock_is_asked_about_again_once_a_certificate_exempts_it() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.receive(0, bench.proposal(header))

    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2), prepared(bench, header))))
    bench.receive(1, bench.proposal(header, 1))
    effects = bench.step(Checked(header.digest(), "clock"))

    assert [check.certified for check in of_kind(effects, Check)] == [True]
    assert bench.replica.view == 1


def test_a_fresh_block_must_have_been_proposed_first_in_its_own_view() -> None:
    bench = Bench(position=3)
    stale = bench.header(view=0)
    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2))))

    effects = bench.receive(1, bench.proposal(stale, 1))

    assert effects == []


def test_a_proposal_that_comes_before_its_new_view_waits_for_it() -> None:
    bench = Bench(position=3)
    header = bench.header(view=1)

    early = bench.receive(1, bench.proposal(header, 1))
    effects = bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2))))

    assert of_kind(early, Check) == []
    assert [check.header for check in of_kind(effects, Check)] == [header]


def test_a_new_view_that_does_not_hold_names_its_sender_and_opens_nothing() -> None:
    bench = Bench(position=3)
    good = changes(bench, 1, (0, 1, 2))
    forged = replace(good[0], signed=replace(good[0].signed, signature=bytes(64)))
    openings = [
        bench.new_view(1, 1, good[:2]),
        bench.new_view(1, 1, [good[0], good[0], good[1]]),
        bench.new_view(1, 1, [good[1], good[0], good[2]]),
        bench.new_view(2, 1, good),
        bench.new_view(1, 1, [forged, *good[1:]]),
        bench.new_view(1, 1, [*good[:2], bench.change(2, 2)]),
        replace(bench.new_view(1, 1, good), signature=bytes(64)),
    ]

    faults = [of_kind(bench.receive(2, opening), Fault) for opening in openings]

    assert [len(found) for found in faults] == [1] * len(openings)
    assert bench.replica.view == 0


def test_one_change_with_a_bad_certificate_is_dropped_and_the_others_still_count() -> None:
    bench = Bench()
    header = bench.header()
    too_few = Prepared(bench.certificate(VoteType.PREPARE, header, signers=(0, 2)), header)
    other_header = replace(prepared(bench, header), header=bench.header(body=b"b"))
    of_this_view = prepared(bench, bench.header(view=1), 1)
    uncertain = bench.change(3, 1, head=bench.certificate(VoteType.PREPARE, header))

    faults = [
        of_kind(bench.receive(3, bench.change(3, 1, prepared=bad)), Fault)
        for bad in (too_few, other_header, of_this_view)
    ]
    faults.append(of_kind(bench.receive(3, uncertain), Fault))
    for signer in (0, 2):
        bench.receive(signer, bench.change(signer, 1))

    assert [len(found) for found in faults] == [1, 1, 1, 1]
    assert bench.state.entered
    assert bench.replica.view == 1


def test_leaves_that_a_certified_header_does_not_name_are_refused() -> None:
    bench = Bench()
    change = bench.change(3, 1, prepared=prepared(bench, bench.header()))

    faults = [of_kind(bench.receive(3, replace(change, leaves=leaves)), Fault) for leaves in ((), (bytes(32),))]
    faults.append(of_kind(bench.receive(3, replace(bench.change(3, 1), leaves=(bytes(32),))), Fault))

    assert [len(found) for found in faults] == [1, 1, 1]


def test_a_change_in_the_name_of_another_is_refused() -> None:
    bench = Bench()

    effects = bench.receive(2, bench.change(3, 1))

    assert [fault.peer for fault in of_kind(effects, Fault)] == ["m2"]


def test_a_replica_brings_along_what_it_has_prepared() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)

    effects = impatient(bench)

    (change,) = said(effects, ViewChange)
    assert change.signed.change.prepared is not None
    assert change.signed.change.prepared.header == header
    assert change.leaves == bench.proposal(header).leaves


def test_a_replica_that_waits_for_a_view_votes_no_more_but_still_commits() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)
    impatient(bench)

    effects = []
    for other in bench.others():
        effects += bench.receive(other, bench.vote(other, VoteType.COMMIT, header))
    later = bench.receive(0, bench.proposal(bench.header(height=2, parent=header)))

    assert len(of_kind(effects, Deliver)) == 1
    assert (bench.replica.view, bench.state.entered) == (1, False)
    assert of_kind(later, Check) == []


def test_catching_up_into_a_later_view_ends_the_wait_for_an_earlier_one() -> None:
    bench = Bench()
    impatient(bench)
    header = bench.header(view=3)

    effects = bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, 3, signers=(0, 2, 3))))

    assert (bench.replica.view, bench.state.entered) == (3, True)
    assert of_kind(effects, ViewEntered) == [ViewEntered(3, "m3")]


def test_a_certificate_of_our_own_head_opens_the_view_that_it_is_of() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.commit_it(header)

    later = bench.certificate(VoteType.COMMIT, header, 2, signers=(0, 1, 2))
    effects = bench.receive(2, bench.status(2, view=2, head=later))

    assert (bench.replica.view, bench.state.entered) == (2, True)
    assert len(of_kind(effects, Persist)) == 1


def test_no_vote_is_cast_below_the_height_on_which_a_view_was_opened() -> None:
    bench = Bench(position=3)
    first = bench.header()
    head = bench.certificate(VoteType.COMMIT, first, signers=(0, 1, 2))
    ahead = [bench.change(0, 1, head=head), *changes(bench, 1, (1, 2))]

    effects = bench.receive(1, bench.new_view(1, 1, ahead))
    effects += bench.receive(1, bench.proposal(bench.header(view=1), 1))

    assert bench.replica.view == 1
    assert of_kind(effects, Check) == []
    assert of_kind(effects, CatchUp) == [CatchUp(1, ("m0",))]


def test_a_new_view_that_knows_a_higher_commit_replaces_one_of_the_same_view() -> None:
    bench = Bench(position=3)
    first = bench.header()
    head = bench.certificate(VoteType.COMMIT, first, signers=(0, 1, 2))
    second = bench.header(height=2, parent=first)
    carried = prepared(bench, second)
    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2))))

    higher = [bench.change(0, 1, head=head, prepared=carried), *changes(bench, 1, (1, 2))]
    bench.receive(1, bench.new_view(1, 1, higher))

    assert (bench.state.base, bench.state.selected) == (1, second.digest())
    assert bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2)))) == []


def test_who_lacks_our_view_gets_the_new_view_and_who_waits_with_us_gets_nothing() -> None:
    bench = Bench(position=3)
    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2))))

    entered = bench.receive(0, bench.change(0, 1))
    hear_all(bench)
    bench.receive(0, bench.change(0, 2))
    bench.receive(2, bench.change(2, 2))
    waiting = bench.receive(0, bench.change(0, 2))

    assert [message.view for message in said(entered, NewView)] == [1]
    assert waiting == []


def test_the_wait_for_a_new_view_starts_with_a_quorum_and_doubles() -> None:
    bench = Bench(position=0)
    impatient(bench)
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
    impatient(bench)

    again = bench.wait(4_000)
    bench.receive(1, bench.new_view(1, 1, changes(bench, 1, (0, 1, 2))))
    after = bench.wait(4_000)

    assert len(views_asked_for(again)) >= 3
    assert views_asked_for(after) == []


def test_an_equivocation_of_another_view_or_by_a_backup_costs_no_view() -> None:
    bench = Bench()
    for header in (bench.header(body=b"a"), bench.header(body=b"b")):
        bench.receive(0, bench.vote(0, VoteType.COMMIT, header))

    assert len(of_kind(bench.effects, Accuse)) == 1
    assert bench.replica.view == 0


def test_a_result_that_comes_after_its_view_was_left_gives_no_vote() -> None:
    bench = Bench()
    header = bench.header()
    bench.propose_to_it(header)
    bench.receive(2, bench.vote(2, VoteType.PREPARE, header))
    impatient(bench)

    effects = bench.step(Executed(header.digest(), RESULT))

    assert votes_of(effects, VoteType.COMMIT) == []
