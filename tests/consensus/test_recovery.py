from msgspec.structs import replace

from consensus.engine import (
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
    Send,
    SetTimer,
    Truncate,
    ViewEntered,
)
from consensus.pbft.messages import Answer, Hello, Proposal, Status, ViewChange, Vote
from consensus.pbft.records import RECORD, ViewRecord
from storage.schema.block import VoteType
from storage.schema.codec import encode
from tests.consensus.replica_bench import RESULT, START, Bench, of_kind, said, votes_of


def restart(bench: Bench, *, answered: bool = True) -> Bench:
    """Crash and come back with everything that was persisted."""
    log = bench.log()
    bench.effects.clear()
    bench.boot(Recovered(bench.genesis, None, RESULT, log))
    if answered:
        bench.answer()
    return bench


def restart_above(bench: Bench, deliver: Deliver, records: tuple[bytes, ...]) -> None:
    bench.effects.clear()
    bench.boot(Recovered(deliver.header, deliver.certificate, RESULT, records))
    bench.answer()


def test_no_vote_is_cast_until_a_quorum_less_itself_has_answered() -> None:
    bench = Bench(started=False)
    header = bench.header()
    bench.propose_to_it(header)

    first = bench.receive(0, Answer(START, None, None))
    again = bench.receive(0, Answer(START, None, None))
    second = bench.receive(2, Answer(START, None, None))

    assert not said([*bench.effects[: -len(second)]], Vote)
    assert first == again == []
    assert len(votes_of(second, VoteType.PREPARE)) == 1


def test_answers_to_an_earlier_start_do_not_count() -> None:
    bench = Bench(started=False)

    for other in bench.others():
        bench.receive(other, Answer(bytes(16), None, None))

    assert not bench.replica.may_vote


def test_the_question_of_the_start_is_asked_again_until_it_is_answered() -> None:
    bench = Bench(started=False)

    unanswered = bench.wait(3_000)
    connected = bench.step(PeerConnected("m2"))
    bench.answer()
    answered = bench.wait(3_000)

    assert len(said(unanswered, Hello)) == 3
    assert [send.peer for send in of_kind(connected, Send)] == ["m2", "m2"]
    assert said(answered, Hello) == []


def test_one_who_starts_is_told_the_newest_vote_and_change_of_its_key() -> None:
    bench = Bench()
    older, newer = bench.vote(2, VoteType.PREPARE, bench.header()), bench.vote(2, VoteType.COMMIT, bench.header())
    bench.receive(2, older)
    bench.receive(2, newer)
    bench.receive(2, bench.change(2, 5))

    (answer,) = said(bench.receive(2, Hello(0, b"another start 16")), Answer)

    assert answer == Answer(b"another start 16", newer, bench.change(2, 5).signed)
    assert said(bench.receive(2, Hello(7, START)), Answer) == []


def test_a_vote_of_its_key_that_its_log_lacks_halts_a_replica_for_good() -> None:
    bench = Bench(started=False)
    forgotten = bench.vote(1, VoteType.COMMIT, bench.header())

    effects = bench.receive(0, Answer(START, forgotten, None))
    bench.answer()
    voted = bench.propose_to_it(bench.header())
    log = bench.log()
    bench.boot(Recovered(bench.genesis, None, RESULT, log))

    (halt,) = of_kind(effects, Halt)
    assert "new node key" in halt.reason
    assert len(of_kind(effects, Persist)) == 1
    assert said(voted, Vote) == []
    assert not bench.replica.may_vote
    assert bench.state.halted


def test_a_view_change_of_its_key_that_its_log_lacks_halts_a_replica() -> None:
    bench = Bench(started=False)

    effects = bench.receive(0, Answer(START, None, bench.change(1, 3).signed))

    assert len(of_kind(effects, Halt)) == 1


def test_a_forged_reminder_halts_nobody() -> None:
    bench = Bench(started=False)
    forged = replace(bench.vote(1, VoteType.COMMIT, bench.header()), signature=bytes(64))
    change = replace(bench.change(1, 3).signed, signature=bytes(64))

    effects = bench.receive(0, Answer(START, forged, None)) + bench.receive(2, Answer(START, None, change))
    effects += bench.receive(3, Answer(START, bench.vote(2, VoteType.COMMIT, bench.header()), None))

    assert of_kind(effects, Halt) == []
    assert bench.replica.may_vote


def test_a_certificate_with_a_vote_of_ours_that_we_never_cast_halts_us_later_too() -> None:
    bench = Bench()
    with_us = bench.certificate(VoteType.COMMIT, bench.header(), signers=(0, 1, 2))

    effects = bench.receive(0, bench.status(0, head=with_us))

    assert len(of_kind(effects, Halt)) == 1


def test_a_certificate_with_a_vote_that_we_did_cast_is_no_surprise() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)
    restart(bench)

    effects = bench.receive(0, bench.status(0, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))
    effects += bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))

    assert of_kind(effects, Halt) == []


def test_catching_up_over_a_vote_that_we_never_cast_halts_us() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))

    assert len(of_kind(effects, Halt)) == 1
    assert bench.state.height == 2


def test_after_a_restart_votes_are_said_again_byte_for_byte() -> None:
    bench = Bench()
    header = bench.header()
    before = said(bench.prepare_it(header), Vote)

    restart(bench)

    assert said(bench.effects, Vote) == before
    assert of_kind(bench.effects, Persist) == []


def test_after_a_restart_no_vote_contradicts_what_was_said_before() -> None:
    bench = Bench()
    bench.propose_to_it(bench.header(body=b"a"))
    restart(bench)
    other = bench.header(body=b"b")

    bench.receive(0, bench.proposal(other, body=b"b"))
    effects = bench.step(Checked(other.digest(), None))

    assert said(effects, Vote) == []


def test_a_primary_that_restarts_goes_on_with_its_proposal() -> None:
    bench = Bench(position=0)
    header = bench.header()
    (proposal,) = said(bench.draft(header), Proposal)

    restart(bench)

    assert [again.signature for again in said(bench.effects, Proposal)] == [proposal.signature]
    assert of_kind(bench.effects, Draft) == []
    assert [check.header for check in of_kind(bench.effects, Check)] == [header]


def test_a_replica_that_restarts_prepared_commits_with_the_others() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)
    restart(bench)

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

    restart(bench)

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

    restart(bench)

    assert "older copy" in of_kind(bench.effects, Halt)[0].reason
    assert not bench.replica.may_vote


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


def test_alone_a_replica_waits_for_nobody() -> None:
    bench = Bench(position=0, count=1, started=False)
    header = bench.header()

    effects = bench.draft(header) + bench.step(Executed(header.digest(), RESULT))

    assert len(of_kind(effects, Deliver)) == 1
    assert ViewEntered(0, "m0") in bench.effects
