from msgspec.structs import replace

from consensus.engine import (
    Accuse,
    Advanced,
    Check,
    Checked,
    Deliver,
    Executed,
    Fault,
    Persist,
    ViewEntered,
)
from consensus.pbft.messages import Prepared, Proposal, SignedChange, ViewChange
from storage.schema.block import VoteType
from tests.consensus.replica_bench import RESULT, Bench, of_kind, said, views_asked_for, votes_of


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


def test_what_was_prepared_in_the_highest_view_is_proposed_again_with_its_digest() -> None:
    bench = Bench(position=3)
    older, newer = bench.header(body=b"b"), bench.header(view=1, body=b"a")
    for view in (1, 2):
        for signer in (0, 1):
            bench.receive(signer, bench.change(signer, view))

    for change in (bench.change(0, 3, prepared=bench.prepared(newer, 1)), bench.change(1, 3)):
        bench.receive(change.signed.change.signer, change)
    effects = bench.step(Checked(newer.digest(), None))

    (check,) = of_kind(bench.effects, Check)
    assert (check.header, check.certified) == (newer, True)
    (proposal,) = said(effects, Proposal)
    assert (proposal.view, proposal.header.digest()) == (3, newer.digest())
    assert older.digest() != newer.digest()


def test_a_block_refused_by_the_clock_is_asked_about_again_once_a_certificate_exempts_it() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.receive(0, bench.proposal(header))

    bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2), bench.prepared(header))))
    bench.receive(1, bench.proposal(header, 1))
    effects = bench.step(Checked(header.digest(), "clock"))

    assert [check.certified for check in of_kind(effects, Check)] == [True]
    assert bench.replica.view == 1


def test_one_change_with_a_bad_certificate_is_dropped_and_the_others_still_count() -> None:
    bench = Bench()
    header = bench.header()
    too_few = Prepared(bench.certificate(VoteType.PREPARE, header, signers=(0, 2)), header)
    other_header = replace(bench.prepared(header), header=bench.header(body=b"b"))
    of_this_view = bench.prepared(bench.header(view=1), 1)
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
    change = bench.change(3, 1, prepared=bench.prepared(bench.header()))

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

    effects = bench.impatient()

    (change,) = said(effects, ViewChange)
    assert change.signed.change.prepared is not None
    assert change.signed.change.prepared.header == header
    assert change.leaves == bench.proposal(header).leaves


def test_a_replica_that_waits_for_a_view_votes_no_more_but_still_commits() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)
    bench.impatient()

    effects = []
    for other in bench.others():
        effects += bench.receive(other, bench.vote(other, VoteType.COMMIT, header))
    later = bench.receive(0, bench.proposal(bench.header(height=2, parent=header)))

    assert len(of_kind(effects, Deliver)) == 1
    assert (bench.replica.view, bench.state.entered) == (1, False)
    assert of_kind(later, Check) == []


def test_catching_up_into_a_later_view_ends_the_wait_for_an_earlier_one() -> None:
    bench = Bench()
    bench.impatient()
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
    bench.impatient()

    effects = bench.step(Executed(header.digest(), RESULT))

    assert votes_of(effects, VoteType.COMMIT) == []


def test_who_may_not_vote_yet_helps_nobody_into_a_view_and_leaves_none() -> None:
    bench = Bench(started=False)
    header = bench.header()
    bench.receive(0, bench.proposal(replace(header, parent=bytes(32))))
    bench.step(Checked(header.digest(), None))

    bench.receive(2, bench.change(2, 1))
    bench.receive(3, bench.change(3, 1))
    effects = bench.receive(2, bench.status(2))

    assert effects == []
    assert bench.replica.view == 0
    assert bench.answer() != []
    assert bench.replica.view == 1


def test_a_change_into_view_0_or_from_a_height_that_it_does_not_prove_is_refused() -> None:
    bench = Bench()
    change = bench.change(2, 1).signed.change

    faults = []
    for bad in (replace(change, view=0), replace(change, height=3)):
        signature = bench.sign(2, SignedChange(bad, bytes(64)).preimage(bench.genesis.chain_id))
        faults.append(of_kind(bench.receive(2, ViewChange(SignedChange(bad, signature), ())), Fault))

    assert [len(found) for found in faults] == [1, 1]


def test_an_earlier_change_of_a_member_heard_again_takes_nothing_back() -> None:
    bench = Bench(position=3)
    old, new = bench.change(0, 1), bench.change(0, 4)
    bench.receive(0, new)

    replayed = bench.receive(0, old)
    effects = bench.receive(1, bench.change(1, 4))
    again = bench.receive(0, old) + bench.receive(0, new)

    assert views_asked_for(replayed) == []
    assert bench.state.changes[0] == new
    assert views_asked_for(effects) == [4]
    assert bench.replica.view == 4
    assert of_kind(again, ViewEntered) == []


def test_who_has_voted_to_commit_leaves_with_f_plus_one_and_brings_what_it_voted_for() -> None:
    bench = Bench(position=3)
    header = bench.header()
    committed = votes_of(bench.prepare_it(header), VoteType.COMMIT)

    effects = [effect for other in (0, 2) for effect in bench.receive(other, bench.change(other, 1))]
    opened = bench.receive(1, bench.new_view(1, 1, bench.changes(1, (0, 1, 2))))

    (change,) = said(effects, ViewChange)
    prepared = change.signed.change.prepared
    assert prepared is not None
    assert (len(committed), prepared.certificate.digest) == (1, header.digest())
    assert of_kind(opened, ViewEntered) == [ViewEntered(1, "m1")]


def test_blocks_caught_up_with_in_the_view_that_was_left_do_not_end_the_promise_to_leave_it() -> None:
    bench = Bench()
    bench.impatient()
    header = bench.header()

    effects = bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, signers=(0, 2, 3))))
    asked = bench.wait(1_000)

    assert (bench.replica.view, bench.state.entered, bench.state.height) == (1, False, 2)
    assert votes_of(effects, VoteType.PREPARE) == []
    (change, *_) = said(asked, ViewChange)
    assert (change.signed.change.view, change.signed.change.height) == (1, 1)
