from msgspec.structs import replace

from consensus.engine import (
    Broadcast,
    CatchUp,
    Check,
    Checked,
    Deliver,
    Draft,
    Execute,
    Executed,
    Persist,
    Truncate,
)
from consensus.pbft.messages import Proposal, Vote
from consensus.pbft.records import RECORD, PreparedRecord, VoteRecord
from storage.schema.block import VoteType, verify_certificate
from tests.consensus.replica_bench import RESULT, Bench, of_kind, said, votes_of
from tests.simulation.signing import RealSigner


def test_the_primary_asks_for_a_draft_and_proposes_it_once_it_is_persisted() -> None:
    bench = Bench(position=0)
    header = bench.header()

    effects = bench.draft(header)

    assert of_kind(bench.effects, Draft) == [Draft(0, 1)]
    (persist,) = of_kind(effects, Persist)
    (broadcast,) = of_kind(effects, Broadcast)
    assert broadcast.after == persist.token
    assert persist.bodies_of == header.digest()
    assert [proposal.header for proposal in said(effects, Proposal)] == [header]
    assert effects.index(persist) < effects.index(broadcast)


def test_a_draft_that_comes_too_late_or_for_another_height_is_dropped() -> None:
    bench = Bench(position=0)
    bench.draft(bench.header(body=b"a"))

    effects = bench.draft(bench.header(body=b"b"), b"b")

    assert effects == []


def test_a_backup_prepares_only_what_its_host_has_checked() -> None:
    bench = Bench()
    header = bench.header()

    before = bench.receive(0, bench.proposal(header))
    after = bench.step(Checked(header.digest(), None))

    (check,) = of_kind(before, Check)
    assert (check.header, check.certified, check.holders) == (header, False, ("m0",))
    assert said(before, Vote) == []
    assert votes_of(after, VoteType.PREPARE) == [bench.vote(1, VoteType.PREPARE, header)]
    assert of_kind(after, Broadcast)[0].after == of_kind(after, Persist)[0].token


def test_an_answer_about_another_block_counts_for_nothing() -> None:
    bench = Bench()
    bench.receive(0, bench.proposal(bench.header()))

    effects = bench.step(Checked(bench.header(body=b"b").digest(), None))

    assert said(effects, Vote) == []


def test_execution_starts_with_the_vote_and_the_commit_waits_for_both_quorum_and_result() -> None:
    bench = Bench()
    header = bench.header()

    prepared = bench.propose_to_it(header)
    executed = bench.step(Executed(header.digest(), RESULT))
    quorum = bench.receive(2, bench.vote(2, VoteType.PREPARE, header))

    assert of_kind(prepared, Execute) == [Execute(header, bench.proposal(header).leaves)]
    assert votes_of(executed, VoteType.COMMIT) == []
    assert votes_of(quorum, VoteType.COMMIT) == [bench.vote(1, VoteType.COMMIT, header)]


def test_a_quorum_of_prepares_alone_does_not_commit_what_was_not_executed() -> None:
    bench = Bench()
    header = bench.header()

    bench.propose_to_it(header)
    quorum = bench.receive(2, bench.vote(2, VoteType.PREPARE, header))
    late = bench.step(Executed(header.digest(), RESULT))

    assert votes_of(quorum, VoteType.COMMIT) == []
    assert len(votes_of(late, VoteType.COMMIT)) == 1


def test_certificate_and_bodies_are_kept_before_the_commit_is_said() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.prepare_it(header)

    persist = of_kind(effects, Persist)[-1]
    kept, promise = [RECORD.decode(record) for record in persist.records]
    assert isinstance(kept, PreparedRecord)
    assert isinstance(promise, VoteRecord)
    assert (kept.certificate.digest, kept.header) == (header.digest(), header)
    assert promise.vote.kind is VoteType.COMMIT
    assert persist.bodies_of == header.digest()
    assert of_kind(effects, Broadcast)[-1].after == persist.token


def test_a_quorum_of_commits_delivers_with_a_certificate_that_anyone_can_check() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.commit_it(header)

    (deliver,) = of_kind(effects, Deliver)
    (truncate,) = of_kind(effects, Truncate)
    certificate = deliver.certificate
    assert (certificate.height, certificate.digest, certificate.result) == (1, header.digest(), RESULT)
    assert bench.state.members.is_certificate(certificate, VoteType.COMMIT)
    assert deliver.after is not None
    assert effects.index(truncate) == effects.index(deliver) + 1
    assert bench.state.height == 2


def test_a_block_costs_two_persists_and_four_signature_checks() -> None:
    bench = Bench()

    effects = bench.commit_it(bench.header())

    assert len(of_kind(effects, Persist)) == 2
    assert len(bench.signer.checked) == 4
    assert len(set(bench.signer.checked)) == 4


def test_votes_that_come_before_the_proposal_count() -> None:
    bench = Bench()
    header = bench.header()
    bench.receive(2, bench.vote(2, VoteType.PREPARE, header))
    bench.receive(3, bench.vote(3, VoteType.PREPARE, header))

    bench.propose_to_it(header)
    effects = bench.step(Executed(header.digest(), RESULT))

    assert len(votes_of(effects, VoteType.COMMIT)) == 1


def test_what_others_say_about_the_next_height_waits_until_this_one_is_committed() -> None:
    bench = Bench()
    first = bench.header()
    second = bench.header(height=2, body=b"b", parent=first)
    early = bench.receive(0, bench.proposal(second, body=b"b"))
    bench.receive(2, bench.vote(2, VoteType.PREPARE, second))

    effects = bench.commit_it(first)

    assert of_kind(early, Check) == []
    assert of_kind(effects, Check)[-1].header == second


def test_votes_far_ahead_are_not_kept_but_asked_about_once() -> None:
    bench = Bench()
    far = replace(bench.header(), height=9)

    first = bench.receive(2, bench.vote(2, VoteType.COMMIT, far))
    second = bench.receive(2, bench.vote(2, VoteType.COMMIT, far))

    assert len(first) == 1
    assert second == []
    assert bench.state.ballots.ballot(2, VoteType.COMMIT) is None


def test_the_primary_rotates_with_the_height_when_the_chain_says_so() -> None:
    bench = Bench(position=0, rotation_blocks=2)

    primaries = [bench.state.members.primary(0, height) for height in range(6)]

    assert primaries == [0, 0, 1, 1, 2, 2]
    assert bench.replica.primary == "m0"


def test_a_certificate_made_here_passes_the_ledgers_own_check() -> None:
    bench = Bench(signers=RealSigner)
    header = bench.header()

    (deliver,) = of_kind(bench.commit_it(header), Deliver)

    verify_certificate(deliver.certificate, VoteType.COMMIT, bench.genesis.chain_id, bench.validators)


def test_commits_that_come_first_wait_for_check_and_execution() -> None:
    bench = Bench()
    header = bench.header()
    bench.receive(0, bench.proposal(header))
    for other in bench.others():
        bench.receive(other, bench.vote(other, VoteType.COMMIT, header))

    checked = bench.step(Checked(header.digest(), None))
    executed = bench.step(Executed(header.digest(), RESULT))

    assert of_kind(bench.effects, CatchUp) == []
    assert of_kind(checked, Deliver) == []
    assert len(of_kind(executed, Deliver)) == 1


def test_a_vote_heard_twice_changes_nothing() -> None:
    bench = Bench()
    vote = bench.vote(2, VoteType.PREPARE, bench.header())
    bench.receive(2, vote)

    assert bench.receive(2, vote) == []
