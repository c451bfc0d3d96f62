from consensus.engine import (
    Accuse,
    Advanced,
    Broadcast,
    Check,
    Checked,
    Deliver,
    Draft,
    Executed,
    Halt,
    PeerConnected,
    Persist,
    Recovered,
    SetTimer,
    Truncate,
)
from consensus.pbft.messages import Answer, Hello, Proposal, Status, ViewChange, Vote
from consensus.pbft.records import RECORD, ViewRecord, VoteRecord
from storage.schema.block import ZERO_DIGEST, Header, VoteType
from storage.schema.codec import encode
from tests.consensus.replica_bench import RESULT, START, Bench, leaves, of_kind, said


def restart_above(bench: Bench, deliver: Deliver, records: tuple[bytes, ...]) -> None:
    bench.effects.clear()
    bench.boot(Recovered(deliver.header, deliver.certificate, RESULT, records))
    bench.answer()


def test_after_a_restart_votes_are_said_again_byte_for_byte() -> None:
    bench = Bench()
    header = bench.header()
    before = said(bench.prepare_it(header), Vote)

    bench.restart()

    assert said(bench.effects, Vote) == before
    assert of_kind(bench.effects, Persist) == []


def test_after_a_restart_no_vote_contradicts_what_was_said_before() -> None:
    bench = Bench()
    bench.propose_to_it(bench.header(body=b"a"))
    bench.restart()
    other = bench.header(body=b"b")

    bench.receive(0, bench.proposal(other, body=b"b"))
    effects = bench.step(Checked(other.digest(), None))

    assert said(effects, Vote) == []


def test_a_primary_that_restarts_goes_on_with_its_proposal() -> None:
    bench = Bench(position=0)
    header = bench.header()
    (proposal,) = said(bench.draft(header), Proposal)

    bench.restart()

    assert [again.signature for again in said(bench.effects, Proposal)] == [proposal.signature]
    assert of_kind(bench.effects, Draft) == []
    assert [check.header for check in of_kind(bench.effects, Check)] == [header]


def test_a_replica_that_restarts_prepared_commits_with_the_others() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)
    bench.restart()

    (check,) = of_kind(bench.effects, Check)
    bench.step(Checked(header.digest(), None))
    bench.step(Executed(header.digest(), RESULT))
    effects = [
        effect
        for other in bench.others()
        for effect in bench.receive(other, bench.vote(other, VoteType.COMMIT, header))
    ]

    assert check.certified
    assert len(of_kind(effects, Deliver)) == 1


def test_a_replica_that_left_its_view_still_asks_for_the_next_after_a_restart() -> None:
    bench = Bench()
    bench.prepare_it(bench.header())
    bench.receive(2, bench.change(2, 6))
    (before,) = said(bench.receive(3, bench.change(3, 6)), ViewChange)

    bench.restart()

    (after,) = said(bench.effects, ViewChange)
    assert encode(after) == encode(before)
    assert (bench.replica.view, bench.state.entered) == (6, False)


def test_what_truncate_names_is_enough_to_stay_bound_to_the_view() -> None:
    bench = Bench(position=3)
    changes = [bench.change(signer, 1) for signer in (0, 1, 2)]
    bench.receive(1, bench.new_view(1, 1, changes))
    effects = bench.commit_it(bench.header(view=1), 1)
    (deliver,), (truncate,) = of_kind(effects, Deliver), of_kind(effects, Truncate)

    restart_above(bench, deliver, truncate.records)

    assert (bench.replica.view, bench.state.entered, bench.state.height) == (1, True, 2)
    record = RECORD.decode(truncate.records[0])
    assert isinstance(record, ViewRecord)
    assert record.new_view is None


def test_spent_records_before_those_that_are_needed_do_no_harm() -> None:
    bench = Bench(position=3)
    effects = bench.commit_it(bench.header())
    (deliver,), (truncate,) = of_kind(effects, Deliver), of_kind(effects, Truncate)

    restart_above(bench, deliver, (*bench.log(), *truncate.records))

    assert said(bench.effects, Vote) == []
    assert bench.state.votes == {}


def test_the_certificate_of_the_head_tells_the_view_when_the_log_does_not() -> None:
    bench = Bench()
    header = bench.header(view=2)

    bench.boot(Recovered(header, bench.certificate(VoteType.COMMIT, header, 2), RESULT, ()))

    assert bench.replica.view == 2


def test_a_log_that_is_ahead_of_the_ledger_makes_an_observer() -> None:
    bench = Bench()
    first = bench.header()
    bench.commit_it(first)
    bench.effects.clear()
    bench.propose_to_it(bench.header(height=2, parent=first))

    bench.restart()

    assert "older copy" in of_kind(bench.effects, Halt)[0].reason
    assert not bench.replica.may_vote


def test_below_the_block_that_its_log_knows_of_a_replica_votes_not_and_from_there_on_again() -> None:
    bench = Bench(started=False)
    bench.effects.clear()
    first = bench.header()
    certificate = bench.certificate(VoteType.COMMIT, first)

    behind = bench.boot(Recovered(bench.genesis, None, RESULT, (), log_height=1))
    may_vote_behind = bench.replica.may_vote
    bench.boot(Recovered(first, certificate, RESULT, (), log_height=1))
    bench.answer()

    assert "votes again" in of_kind(behind, Halt)[0].reason
    assert not may_vote_behind
    assert bench.replica.may_vote


def test_a_lost_or_unreadable_log_makes_an_observer_that_still_follows() -> None:
    for recovered in (
        Recovered(Bench().genesis, None, RESULT, (), log_whole=False),
        Recovered(Bench().genesis, None, RESULT, (b"no record",)),
    ):
        bench = Bench(started=False)
        bench.effects.clear()
        effects = bench.boot(recovered)
        bench.answer()
        header = bench.header()

        bench.propose_to_it(header)
        bench.step(Executed(header.digest(), RESULT))
        for signer in (0, 2, 3):
            bench.receive(signer, bench.vote(signer, VoteType.COMMIT, header))
        bench.wait(10_000)

        assert len(of_kind(effects, Halt)) == 1
        assert said(bench.effects, Vote) == []
        assert of_kind(bench.effects, Persist) == []
        assert len(of_kind(bench.effects, Deliver)) == 1


def test_an_observer_follows_by_catching_up_and_says_nothing() -> None:
    bench = Bench(position=9, count=4, started=False)
    header = bench.header()
    certificate = bench.certificate(VoteType.COMMIT, header)

    bench.receive(0, bench.status(0, head=certificate))
    bench.receive(2, Hello(0, START))
    bench.receive(2, Answer(START, None, None))
    bench.step(PeerConnected("m0"))
    bench.step(Advanced(header, certificate))
    bench.work()
    bench.wait(60_000)

    assert of_kind(bench.effects, Broadcast) == []
    assert of_kind(bench.effects, SetTimer) == []
    assert said(bench.effects, Status) == []
    assert bench.state.height == 2


def test_advancing_to_a_height_that_was_committed_here_changes_nothing() -> None:
    bench = Bench()
    header = bench.header()
    (deliver,) = of_kind(bench.commit_it(header), Deliver)

    assert bench.step(Advanced(header, deliver.certificate)) == []


def test_what_a_replica_says_again_after_a_restart_is_evidence_of_nothing() -> None:
    bench, witness = Bench(), Bench(position=2)
    header = bench.header()
    bench.prepare_it(header)
    before = said(bench.effects, Vote)

    bench.restart()
    again = said(bench.effects, Vote)
    effects = [effect for vote in before + again for effect in witness.receive(1, vote)]

    assert again == before
    assert len(again) == 2
    assert of_kind(effects, Accuse) == []


def test_a_restart_takes_up_no_proposals_of_views_that_were_left() -> None:
    bench = Bench(position=1)
    mine = [bench.header(view=view, body=b"a") for view in (1, 5)]
    records = [encode(VoteRecord(proposed(bench, header), header, leaves(b"a"))) for header in mine]
    opened = encode(ViewRecord(0, 5, True, 0, ZERO_DIGEST, None))

    bench.boot(Recovered(bench.genesis, None, RESULT, (*records, opened)))

    assert list(bench.state.slot.blocks) == [mine[1].digest()]


def proposed(bench: Bench, header: Header) -> Vote:
    return bench.vote(bench.position, VoteType.PROPOSAL, header, header.first_view)
