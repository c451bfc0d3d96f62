from dataclasses import dataclass

from msgspec.structs import replace

from consensus.engine import Effect, Fault, Halt, LaterEpoch, Received, Recovered, Send
from consensus.pbft.messages import MESSAGE, Answer, Ask, SignedChange, Status, ViewChange
from consensus.pbft.records import RECORD, PreparedRecord, ViewRecord, VoteRecord
from consensus.pbft.replica import Pbft
from storage.schema.block import Header, VoteType
from storage.schema.codec import encode
from storage.schema.validators import ValidatorSet
from tests.consensus.replica_bench import CHAIN_ID, RESULT, START, Bench, of_kind

HANDOVER = 1


@dataclass
class Later:
    """m1 as a replica of epoch 1, which took over after height 1; the bench signs for the others."""

    bench: Bench
    replica: Pbft
    header: Header


def later(*records: bytes, log_whole: bool = True) -> tuple[Later, tuple[Effect, ...]]:
    """Begin epoch 1 on a block that epoch 0 has certified."""
    bench = Bench()
    header = bench.header()
    validators = ValidatorSet(1, "pbft", bench.validators.validators)
    replica = Pbft("m1", CHAIN_ID, validators, bench.signer, rotation_blocks=0, handover_height=HANDOVER)
    certificate = bench.certificate(VoteType.COMMIT, header)
    effects = replica.start(1_000, Recovered(header, certificate, RESULT, records, log_whole), START)
    return Later(bench, replica, header), effects


def received(one: Later, sender: int, message: object) -> tuple[Effect, ...]:
    return one.replica.step(1_000, Received(f"m{sender}", encode(message)))


def status_of(one: Later, sender: int, height: int, ask: Ask = Ask.HELPERS) -> Status:
    unsigned = replace(one.bench.status(sender), epoch=1, height=height, certificate=None, ask=ask)
    return replace(unsigned, signature=one.bench.sign(sender, unsigned.preimage(CHAIN_ID)))


def test_a_replica_begins_an_epoch_in_view_0_and_waits_as_after_a_start() -> None:
    one, _ = later()

    assert (one.replica.view, one.replica.primary) == (0, "m0")
    assert not one.replica.may_vote

    for sender in (0, 2):
        received(one, sender, Answer(START, None, None))

    assert one.replica.may_vote


def test_the_block_of_the_handover_needs_no_certificate_in_the_epoch_that_it_began() -> None:
    one, _ = later()

    assert of_kind(received(one, 2, status_of(one, 2, HANDOVER)), Fault) == []
    (fault,) = of_kind(received(one, 2, status_of(one, 2, 0)), Fault)
    assert "certificate of its height" in fault.reason


def test_a_replica_tells_that_it_stands_on_the_handover_without_what_another_epoch_signed() -> None:
    one, _ = later()

    effects = received(one, 2, status_of(one, 2, HANDOVER, Ask.EVERYBODY))

    (told,) = [MESSAGE.decode(send.data) for send in of_kind(effects, Send) if send.peer == "m2"]
    assert isinstance(told, Status)
    assert (told.epoch, told.height, told.certificate) == (1, HANDOVER, None)


def test_a_view_of_the_new_epoch_opens_on_the_handover() -> None:
    one, _ = later()
    for sender in (0, 2, 3):
        received(one, sender, Answer(START, None, None))
    for sender in (0, 2, 3):
        received(one, sender, change_into(one, sender, view=1))

    assert one.replica.view == 1
    assert one.replica.state.entered
    assert one.replica.state.base == HANDOVER


def change_into(one: Later, sender: int, view: int) -> ViewChange:
    change = replace(one.bench.change(sender, view).signed.change, epoch=1, height=HANDOVER, certificate=None)
    signature = one.bench.sign(sender, SignedChange(change, bytes(64)).preimage(CHAIN_ID))
    return ViewChange(SignedChange(change, signature), ())


def test_messages_of_an_earlier_epoch_say_nothing_and_break_nothing() -> None:
    one, _ = later()
    old = one.bench

    told = [old.status(2), old.vote(3, VoteType.COMMIT, one.header), old.change(2, 1), old.proposal(one.header)]
    effects = [received(one, 2, message) for message in told]

    assert [of_kind(each, Fault) + of_kind(each, LaterEpoch) for each in effects] == [[]] * 4
    assert one.replica.view == 0


def test_one_who_is_no_validator_here_may_speak_of_other_epochs_only() -> None:
    bench = Bench()
    stranger = [replace(bench.status(2), epoch=epoch) for epoch in (1, 0)]

    ahead, now = (bench.step(Received("newcomer", encode(status))) for status in stranger)

    assert ahead == [LaterEpoch("newcomer")]
    assert [type(effect) for effect in now] == [Fault]


def test_a_late_answer_of_one_who_has_ceased_to_validate_is_no_fault() -> None:
    bench = Bench()

    assert bench.step(Received("newcomer", encode(Answer(START, None, None)))) == []


def test_promises_of_an_earlier_epoch_are_spent() -> None:
    bench = Bench()
    header = bench.header(height=2, parent=bench.header())
    vote = bench.vote(1, VoteType.PREPARE, header)
    prepared = PreparedRecord(bench.certificate(VoteType.PREPARE, header), header, bench.proposal(header).leaves)
    bound = ViewRecord(0, 7, True, 0, bytes(32), None)

    one, effects = later(encode(VoteRecord(vote, None, ())), encode(prepared), encode(bound))

    assert of_kind(effects, Halt) == []
    assert (one.replica.view, one.replica.state.votes, one.replica.state.slot.prepared) == (0, {}, None)


def test_promises_of_a_later_epoch_show_that_the_ledger_was_set_back() -> None:
    bound = ViewRecord(2, 0, True, 0, bytes(32), None)

    one, effects = later(encode(bound))

    (halt,) = of_kind(effects, Halt)
    assert "ahead of the ledger" in halt.reason
    assert not one.replica.may_vote


def test_a_new_view_of_another_epoch_opens_nothing() -> None:
    one, _ = later()
    old = one.bench

    received(one, 2, old.new_view(1, 1, [old.change(signer, 1) for signer in (0, 2, 3)]))

    assert (one.replica.view, one.replica.state.entered) == (0, True)
    assert RECORD.decode(encode(one.replica.state.view_record())) == ViewRecord(1, 0, True, HANDOVER, bytes(32), None)
