from msgspec.structs import replace

from consensus.engine import (
    Advanced,
    Broadcast,
    CatchUp,
    Check,
    Checked,
    Draft,
    Fault,
    Persist,
    Recovered,
    ViewEntered,
)
from consensus.pbft.messages import NewView, Prepared, Proposal
from storage.schema.block import VoteType
from tests.consensus.replica_bench import RESULT, Bench, of_kind, said, votes_of


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


def test_a_backup_votes_for_nothing_but_what_the_new_view_requires() -> None:
    bench = Bench(position=3)
    required, other = bench.header(body=b"a"), bench.header(view=1, body=b"b")
    opening = bench.new_view(1, 1, bench.changes(1, (0, 1, 2), bench.prepared(required)))

    bench.receive(1, opening)
    wrong = bench.receive(1, bench.proposal(other, 1, b"b"))

    assert bench.replica.view == 2
    assert [fault.peer for fault in of_kind(wrong, Fault)] == ["m1"]
    assert of_kind(wrong, Check) == []


def test_a_required_block_is_checked_without_the_clock_and_voted_for_in_the_new_view() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2), bench.prepared(header))))

    asked = bench.receive(1, bench.proposal(header, 1))
    voted = bench.step(Checked(header.digest(), None))

    (check,) = of_kind(asked, Check)
    assert check.certified
    assert votes_of(voted, VoteType.PREPARE) == [bench.vote(3, VoteType.PREPARE, header, 1)]


def test_a_fresh_block_must_have_been_proposed_first_in_its_own_view() -> None:
    bench = Bench(position=3)
    stale = bench.header(view=0)
    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))

    effects = bench.receive(1, bench.proposal(stale, 1))

    assert effects == []


def test_a_proposal_that_comes_before_its_new_view_waits_for_it() -> None:
    bench = Bench(position=3)
    header = bench.header(view=1)

    early = bench.receive(1, bench.proposal(header, 1))
    effects = bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))

    assert of_kind(early, Check) == []
    assert [check.header for check in of_kind(effects, Check)] == [header]


def test_a_new_view_that_does_not_hold_names_its_sender_and_opens_nothing() -> None:
    bench = Bench(position=3)
    good = bench.changes(1, (0, 1, 2))
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


def test_no_vote_is_cast_below_the_height_on_which_a_view_was_opened() -> None:
    bench = Bench(position=3)
    first = bench.header()
    head = bench.certificate(VoteType.COMMIT, first, signers=(0, 1, 2))
    ahead = [bench.change(0, 1, head=head), *bench.changes(1, (1, 2))]

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
    carried = bench.prepared(second)
    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))

    higher = [bench.change(0, 1, head=head, prepared=carried), *bench.changes(1, (1, 2))]
    bench.receive(1, bench.new_view(1, 1, higher))

    assert (bench.state.base, bench.state.selected) == (1, second.digest())
    assert bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2)))) == []


def test_who_lacks_our_view_gets_the_new_view_and_who_waits_with_us_gets_nothing() -> None:
    bench = Bench(position=3)
    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))

    entered = bench.receive(0, bench.change(0, 1))
    bench.hear_all()
    bench.receive(0, bench.change(0, 2))
    bench.receive(2, bench.change(2, 2))
    waiting = bench.receive(0, bench.change(0, 2))

    assert [message.view for message in said(entered, NewView)] == [1]
    assert waiting == []


def test_a_new_primary_that_lags_opens_the_view_and_proposes_once_it_has_caught_up() -> None:
    bench = Bench()
    first = bench.header()
    head = bench.certificate(VoteType.COMMIT, first, signers=(0, 2, 3))
    second = bench.header(height=2, parent=first)
    carried = Prepared(bench.certificate(VoteType.PREPARE, second, signers=(0, 2, 3)), second)

    opened = bench.receive(2, bench.change(2, 1, head, carried)) + bench.receive(3, bench.change(3, 1))
    caught_up = bench.step(Advanced(first, head))
    proposed = bench.step(Checked(second.digest(), None))

    assert len(said(opened, NewView)) == 1
    assert of_kind(opened, Check) == []
    assert of_kind(opened, Draft) == []
    assert [(check.header, check.certified) for check in of_kind(caught_up, Check)] == [(second, True)]
    assert [(proposal.view, proposal.header) for proposal in said(proposed, Proposal)] == [(1, second)]


def test_a_primary_that_no_longer_holds_what_its_view_requires_proposes_nothing_else() -> None:
    bench = Bench(position=1)
    header = bench.header()
    carried = Prepared(bench.certificate(VoteType.PREPARE, header, signers=(0, 2, 3)), header)
    bench.receive(2, bench.change(2, 1, prepared=carried))
    bench.receive(3, bench.change(3, 1))
    log = bench.log()
    bench.effects.clear()

    bench.boot(Recovered(bench.genesis, None, RESULT, log))
    bench.answer()

    assert (bench.replica.view, bench.state.required) == (1, header.digest())
    assert of_kind(bench.effects, Draft) == []
    assert said(bench.effects, Proposal) == []


def test_a_new_view_without_changes_or_of_a_past_view_is_left_alone() -> None:
    bench = Bench(position=3)
    old = bench.new_view(1, 1, bench.changes(1, (0, 1, 2)))
    bench.receive(2, bench.new_view(2, 2, bench.changes(2, (0, 1, 2))))

    assert bench.receive(1, old) == []
    assert bench.receive(1, bench.new_view(1, 9, [])) == []
