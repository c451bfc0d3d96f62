from msgspec.structs import replace

from consensus.engine import (
    Advanced,
    Deliver,
    Executed,
    Halt,
    PeerConnected,
    Persist,
    Recovered,
    Send,
    ViewEntered,
)
from consensus.pbft.messages import Answer, Hello, Vote
from storage.schema.block import VoteType
from tests.consensus.replica_bench import RESULT, START, Bench, of_kind, said, votes_of


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
    bench.restart()

    effects = bench.receive(0, bench.status(0, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))
    effects += bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))

    assert of_kind(effects, Halt) == []


def test_catching_up_over_a_vote_that_we_never_cast_halts_us() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.step(Advanced(header, bench.certificate(VoteType.COMMIT, header, signers=(0, 1, 2))))

    assert len(of_kind(effects, Halt)) == 1
    assert bench.state.height == 2


def test_alone_a_replica_waits_for_nobody() -> None:
    bench = Bench(position=0, count=1, started=False)
    header = bench.header()

    effects = bench.draft(header) + bench.step(Executed(header.digest(), RESULT))

    assert len(of_kind(effects, Deliver)) == 1
    assert ViewEntered(0, "m0") in bench.effects
