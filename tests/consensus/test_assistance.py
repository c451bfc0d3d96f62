from msgspec.structs import replace

from consensus.engine import CatchUp, Check, Deliver, Fault, LaterEpoch, PeerConnected, Received, Send
from consensus.pbft.messages import Ask, NewView, Proposal, Status, ViewChange, Vote
from storage.schema.block import VoteType
from tests.consensus.replica_bench import Bench, of_kind, said


def test_one_who_lags_is_told_the_certificate_of_our_head() -> None:
    bench = Bench()
    header = bench.header()
    bench.commit_it(header)

    effects = bench.receive(2, bench.status(2))

    (status,) = said(effects, Status)
    assert (status.height, status.ask) == (1, Ask.NOBODY)
    assert [send.peer for send in of_kind(effects, Send)] == ["m2"]


def test_a_certificate_is_enough_to_commit_a_block_that_we_have_executed() -> None:
    bench = Bench()
    header = bench.header()
    bench.prepare_it(header)

    effects = bench.receive(0, bench.status(0, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 2, 3))))

    assert len(of_kind(effects, Deliver)) == 1


def test_a_block_that_we_do_not_hold_is_fetched_and_asked_for_again_while_we_lack_it() -> None:
    bench = Bench()
    head = bench.certificate(VoteType.COMMIT, bench.header(), signers=(0, 2, 3))

    first = bench.receive(0, bench.status(0, head=head))
    same = bench.receive(2, bench.status(2, head=head))
    later = bench.wait(1_100)

    assert of_kind(first, CatchUp) == [CatchUp(1, ("m0",))]
    assert of_kind(same, CatchUp) == []
    assert of_kind(later, CatchUp) == [CatchUp(1, ("m0", "m2"))]


def test_commits_of_a_block_that_we_do_not_hold_send_us_to_those_who_voted() -> None:
    bench = Bench()
    header = bench.header()

    effects = [
        effect
        for other in bench.others()
        for effect in bench.receive(other, bench.vote(other, VoteType.COMMIT, header))
    ]

    assert of_kind(effects, CatchUp) == [CatchUp(1, ("m0", "m2", "m3"))]


def test_one_at_our_height_and_view_gets_our_votes_again_and_the_block_if_it_lacks_it() -> None:
    bench = Bench(position=0)
    header = bench.header()
    bench.draft(header)

    lacking = bench.receive(2, bench.status(2))
    unsigned = replace(bench.status(2), proposal=header.digest())
    holding = bench.receive(2, replace(unsigned, signature=bench.sign(2, unsigned.preimage(bench.genesis.chain_id))))

    assert [proposal.header for proposal in said(lacking, Proposal)] == [header]
    assert holding == []


def test_everybody_answers_one_who_asks_whether_they_live() -> None:
    bench = Bench()

    asked = bench.receive(2, bench.status(2, ask=Ask.EVERYBODY))
    told = bench.receive(2, bench.status(2, ask=Ask.NOBODY))

    assert [status.ask for status in said(asked, Status)] == [Ask.NOBODY]
    assert told == []


def test_one_whose_view_is_ahead_is_asked_once_a_second() -> None:
    bench = Bench()

    first = bench.receive(2, bench.status(2, view=4, ask=Ask.NOBODY))
    second = bench.receive(2, bench.status(2, view=4, ask=Ask.NOBODY))
    bench.now_ms += 1_000
    third = bench.receive(2, bench.status(2, view=4, ask=Ask.NOBODY))

    assert [len(said(effects, Status)) for effects in (first, second, third)] == [1, 0, 1]


def test_one_in_an_earlier_view_is_shown_the_way() -> None:
    bench = Bench(position=3)
    bench.receive(1, bench.new_view(1, 1, [bench.change(signer, 1) for signer in (0, 1, 2)]))

    entered = bench.receive(0, bench.status(0))
    bench.receive(0, bench.change(0, 2))
    bench.receive(2, bench.change(2, 2))
    waiting = bench.receive(0, bench.status(0, view=1))

    assert [message.view for message in said(entered, NewView)] == [1]
    assert [message.signed.change.view for message in said(waiting, ViewChange)] == [2]


def test_a_view_that_a_certificate_opened_is_shown_by_the_certificate() -> None:
    bench = Bench(position=3)
    header = bench.header()
    bench.commit_it(header)
    later = bench.certificate(VoteType.COMMIT, header, 2, signers=(0, 1, 2))
    bench.receive(2, bench.status(2, view=2, head=later))

    effects = bench.receive(0, bench.status(0, head=bench.certificate(VoteType.COMMIT, header)))

    assert [status.certificate for status in said(effects, Status)] == [later]


def test_a_status_is_left_out_while_blocks_flow() -> None:
    bench = Bench()
    parent = bench.genesis
    bench.work()

    effects = []
    for height in range(1, 12):
        parent = bench.header(height=height, parent=parent)
        effects += bench.commit_it(parent)
        effects += bench.wait(300)

    assert said(effects, Status) == []


def test_a_peer_that_is_there_again_is_told_where_we_are() -> None:
    bench = Bench()
    bench.receive(2, bench.change(2, 6))
    bench.receive(3, bench.change(3, 6))

    effects = bench.step(PeerConnected("m2"))

    assert [send.peer for send in of_kind(effects, Send)] == ["m2", "m2"]
    assert [message.signed.change.view for message in said(effects, ViewChange)] == [6]
    assert bench.step(PeerConnected("a stranger")) == []


def test_a_status_that_does_not_hold_names_its_sender() -> None:
    bench = Bench()
    header = bench.header()
    head = bench.certificate(VoteType.COMMIT, header)
    statuses = [
        replace(bench.status(2), signature=bytes(64)),
        bench.status(3),
        bench.status(2, head=bench.certificate(VoteType.COMMIT, header, signers=(0, 2))),
        bench.status(2, head=bench.certificate(VoteType.COMMIT, header, signers=(2, 2, 2))),
        bench.status(2, head=replace(head, signers=(0, 1, 9))),
        bench.status(2, head=replace(head, epoch=1)),
    ]

    faults = [of_kind(bench.receive(2, status), Fault) for status in statuses]

    assert [len(found) for found in faults] == [1] * len(statuses)
    assert bench.receive(2, replace(bench.status(2), epoch=3)) == [LaterEpoch("m2")]


def test_a_status_without_the_certificate_of_its_height_names_its_sender() -> None:
    bench = Bench()
    unsigned = replace(bench.status(2), height=3)
    status = replace(unsigned, signature=bench.sign(2, unsigned.preimage(bench.genesis.chain_id)))

    assert len(of_kind(bench.receive(2, status), Fault)) == 1


def test_a_stranger_is_not_listened_to() -> None:
    bench = Bench()
    data = bench.step(PeerConnected("m2"))

    effects = bench.step(Received("a stranger", b"\x90"))

    assert [fault.peer for fault in of_kind(effects, Fault)] == ["a stranger"]
    assert of_kind(data, Check) == []
    assert said(effects, Vote) == []
