from msgspec.structs import replace

from consensus.engine import (
    Accuse,
    Check,
    Checked,
    Deliver,
    Executed,
    Fault,
    Halt,
    LaterEpoch,
)
from consensus.pbft.messages import MESSAGE, Prepared, ViewChange, Vote
from storage.schema.block import VoteType
from tests.consensus.replica_bench import RESULT, Bench, of_kind, said, views_asked_for, votes_of


def test_a_forged_vote_does_not_count_and_names_its_sender() -> None:
    bench = Bench()
    header = bench.header()
    bench.propose_to_it(header)
    bench.step(Executed(header.digest(), RESULT))

    forged = bench.receive(2, replace(bench.vote(2, VoteType.PREPARE, header), signature=bytes(64)))
    honest = bench.receive(3, bench.vote(3, VoteType.PREPARE, header))

    assert of_kind(forged, Fault) == [Fault("m2", "a vote with a bad signature")]
    assert votes_of(forged, VoteType.COMMIT) == []
    assert len(votes_of(honest, VoteType.COMMIT)) == 1


def test_a_second_vote_never_replaces_the_first_and_is_shown() -> None:
    bench = Bench()
    first, second = bench.header(body=b"a"), bench.header(body=b"b")
    votes = [bench.vote(2, VoteType.PREPARE, header) for header in (first, second)]

    bench.receive(2, votes[0])
    effects = bench.receive(2, votes[1])

    (accusation,) = of_kind(effects, Accuse)
    assert accusation.member == "m2"
    assert bench.receive(2, votes[1]) == []
    ballot = bench.state.ballots.ballot(2, VoteType.PREPARE)
    assert ballot is not None
    assert ballot.vote == votes[0]


def test_a_contradiction_with_a_forged_vote_accuses_nobody() -> None:
    bench = Bench()
    good = bench.vote(2, VoteType.PREPARE, bench.header(body=b"b"))
    forged = replace(bench.vote(2, VoteType.PREPARE, bench.header(body=b"a")), signature=bytes(64))

    bench.receive(2, forged)
    effects = bench.receive(2, good)

    assert of_kind(effects, Accuse) == []
    assert of_kind(effects, Fault) == [Fault("m2", "a vote with a bad signature")]
    ballot = bench.state.ballots.ballot(2, VoteType.PREPARE)
    assert ballot is not None
    assert ballot.vote == good


def test_a_primary_that_proposes_two_blocks_is_shown_and_loses_its_view() -> None:
    bench = Bench()
    bench.receive(0, bench.proposal(bench.header(body=b"a")))

    effects = bench.receive(0, bench.proposal(bench.header(body=b"b"), body=b"b"))

    assert len(of_kind(effects, Accuse)) == 1
    assert [message.signed.change.view for message in said(effects, ViewChange)] == [1]


def test_a_proposal_on_another_parent_is_reason_to_leave_the_view() -> None:
    bench = Bench()
    header = replace(bench.header(), parent=bytes(32))

    effects = bench.receive(0, bench.proposal(header))

    assert of_kind(effects, Check) == []
    assert [fault.peer for fault in of_kind(effects, Fault)] == ["m0"]
    assert len(said(effects, ViewChange)) == 1


def test_a_refused_block_gets_no_vote_and_its_view_is_left() -> None:
    bench = Bench()
    header = bench.header()
    bench.receive(0, bench.proposal(header))

    effects = bench.step(Checked(header.digest(), "its clock is wrong"))

    assert said(effects, Vote) == []
    assert [message.signed.change.view for message in said(effects, ViewChange)] == [1]


def test_a_proposal_from_who_is_not_primary_names_its_sender_and_changes_nothing() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.receive(2, bench.proposal(header))

    assert effects == [Fault("m2", "a PROPOSAL from a member that is not its primary")]


def test_a_vote_of_another_member_or_of_the_wrong_kind_names_its_sender() -> None:
    bench = Bench()
    header = bench.header()
    wrong = [
        (2, bench.vote(3, VoteType.PREPARE, header)),
        (2, bench.vote(2, VoteType.PROPOSAL, header)),
        (0, bench.vote(0, VoteType.PREPARE, header)),
        (2, replace(bench.vote(2, VoteType.COMMIT, header), result=bytes(32))),
    ]

    faults = [of_kind(bench.receive(sender, vote), Fault) for sender, vote in wrong]

    assert [len(found) for found in faults] == [1, 1, 1, 1]


def test_another_result_than_the_quorums_halts_and_delivers_nothing() -> None:
    bench = Bench()
    header = bench.header()
    bench.propose_to_it(header)
    bench.step(Executed(header.digest(), bytes([7]) * 32))

    for other in bench.others():
        bench.receive(other, bench.vote(other, VoteType.COMMIT, header))

    assert len(of_kind(bench.effects, Halt)) == 1
    assert of_kind(bench.effects, Deliver) == []
    assert not bench.replica.may_vote


def test_votes_of_a_later_epoch_only_show_that_there_may_be_one() -> None:
    bench = Bench()
    header = bench.header()

    effects = bench.receive(2, replace(bench.vote(2, VoteType.PREPARE, header), epoch=1))
    effects += bench.receive(0, bench.proposal(replace(header, epoch=1)))

    assert effects == [LaterEpoch("m2"), LaterEpoch("m0")]


def test_a_proposal_whose_header_does_not_fit_this_chain_is_never_checked() -> None:
    good = Bench().header()
    misfits = [
        replace(good, version=1),
        replace(good, chain_id=bytes(32)),
        replace(good, parent_result=bytes(32)),
        replace(good, validators_hash=bytes(32)),
        replace(good, tx_count=2),
        replace(good, proposer="m2"),
    ]

    for header in misfits:
        bench = Bench()
        effects = bench.receive(0, bench.proposal(header))

        assert of_kind(effects, Check) == []
        assert len(of_kind(effects, Fault)) == 1
        assert bench.replica.view == 1


def test_a_proposal_with_a_forged_signature_is_forgotten_and_the_real_one_taken() -> None:
    bench = Bench()
    header = bench.header()

    forged = bench.receive(0, replace(bench.proposal(header), signature=bytes(64)))
    real = bench.receive(0, bench.proposal(header))

    assert of_kind(forged, Fault) == [Fault("m0", "a vote with a bad signature")]
    assert len(of_kind(real, Check)) == 1


def test_a_quorum_with_one_forged_vote_is_no_quorum() -> None:
    bench = Bench()
    header = bench.header()
    bench.receive(0, bench.proposal(header))
    bench.receive(2, replace(bench.vote(2, VoteType.COMMIT, header), signature=bytes(64)))

    effects = [
        effect for other in (0, 3) for effect in bench.receive(other, bench.vote(other, VoteType.COMMIT, header))
    ]

    assert of_kind(effects, Fault) == [Fault("m2", "a vote with a bad signature")]
    assert bench.state.slot.decided is None


def test_a_primary_that_told_each_of_two_backups_another_block_is_found_out_by_what_one_of_them_brings() -> None:
    bench = Bench()
    mine, theirs = bench.header(body=b"b"), bench.header(body=b"a")
    bench.receive(0, bench.proposal(mine, body=b"b"))
    prepared = Prepared(bench.certificate(VoteType.PREPARE, theirs, signers=(0, 2, 3)), theirs)

    effects = bench.receive(2, bench.change(2, 1, prepared=prepared))

    (accusation,) = of_kind(effects, Accuse)
    votes = [MESSAGE.decode(accusation.first), MESSAGE.decode(accusation.second)]
    assert accusation.member == "m0"
    assert votes == [bench.vote(0, VoteType.PROPOSAL, mine), bench.vote(0, VoteType.PROPOSAL, theirs)]
    assert views_asked_for(effects) == [1]


def test_a_backup_whose_commit_stands_in_a_certificate_of_something_else_is_found_out() -> None:
    bench = Bench()
    header, other = bench.header(), bench.header(body=b"b")
    bench.receive(3, bench.vote(3, VoteType.COMMIT, other))

    effects = bench.receive(2, bench.status(2, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 2, 3))))

    assert [accusation.member for accusation in of_kind(effects, Accuse)] == ["m3"]


def test_a_certificate_of_another_view_accuses_nobody() -> None:
    bench = Bench()
    header, other = bench.header(), bench.header(body=b"b")
    bench.receive(3, bench.vote(3, VoteType.COMMIT, other, view=2))
    bench.receive(0, bench.proposal(other, body=b"b"))

    shown = bench.certificate(VoteType.COMMIT, header, view=1, signers=(0, 2, 3))
    effects = bench.receive(2, bench.status(2, head=shown))

    assert of_kind(effects, Accuse) == []


def test_a_forged_vote_beside_a_certificate_accuses_nobody() -> None:
    bench = Bench()
    header, other = bench.header(), bench.header(body=b"b")
    bench.receive(3, replace(bench.vote(3, VoteType.COMMIT, other), signature=bytes(64)))

    effects = bench.receive(2, bench.status(2, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 2, 3))))

    assert of_kind(effects, Accuse) == []
    assert of_kind(effects, Fault) == [Fault("m3", "a vote with a bad signature")]
