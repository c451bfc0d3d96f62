import msgpack
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.engine import Effect, Fault, Received, Send
from consensus.pbft.messages import MESSAGE, MESSAGE_BYTES_MAX, Answer, Complaint, Hello, Message, Prepared
from consensus.pbft.records import RECORD, ViewRecord
from storage.schema.block import BLOCK_BYTES_MAX, BLOCK_TX_MAX, VoteType
from storage.schema.codec import UINT_MAX, DecodeError, encode
from storage.schema.validators import VALIDATORS_MAX
from tests.consensus.replica_bench import START, Bench, of_kind, views_asked_for


def examples(bench: Bench) -> list[Message]:
    """One good message of each kind, each with all its parts."""
    header = bench.header()
    head = bench.certificate(VoteType.COMMIT, header, signers=(0, 2, 3))
    second = bench.header(height=2, parent=header)
    prepared = Prepared(bench.certificate(VoteType.PREPARE, second, signers=(0, 2, 3)), second)
    change = bench.change(2, 4, head, prepared)
    return [
        bench.proposal(header, bodies=b"bodies"),
        bench.vote(2, VoteType.PREPARE, header),
        bench.vote(2, VoteType.COMMIT, header),
        change,
        bench.new_view(0, 4, [bench.change(0, 4), change, bench.change(3, 4)]),
        bench.status(2, head=head),
        Hello(0, START),
        Answer(START, bench.vote(2, VoteType.COMMIT, header), change.signed),
        Complaint(0, 0, 1),
    ]


def test_every_message_decodes_to_itself_and_to_nothing_else() -> None:
    for message in examples(Bench()):
        data = encode(message)

        assert MESSAGE.decode(data) == message
        for damaged in (data + b"\x00", data[:-1], b"\xdc\x00" + bytes([data[0] & 15]) + data[1:]):
            assert is_refused(damaged)


def is_refused(data: bytes) -> bool:
    try:
        MESSAGE.decode(data)
    except DecodeError:
        return True
    return False


@given(st.binary(max_size=300))
def test_arbitrary_bytes_name_their_sender_and_change_nothing(data: bytes) -> None:
    bench = Bench()

    effects = bench.step(Received("m2", data))

    assert [type(effect) for effect in effects] == [Fault]


@given(st.integers(0, 8), st.integers(0, 2**32), st.integers(1, 255), st.sampled_from([0, 2, 3]))
def test_a_message_with_one_changed_byte_never_breaks_the_replica(
    which: int, place: int, change: int, sender: int
) -> None:
    bench = Bench()
    data = bytearray(encode(examples(bench)[which]))
    data[place % len(data)] ^= change

    bench.step(Received(bench.names[sender], bytes(data)))
    bench.work()
    bench.wait(3_000)

    assert bench.state.height <= 2
    assert not bench.state.halted


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 2, 3])), max_size=12))
def test_good_messages_in_any_order_from_anyone_never_break_the_replica(order: list[tuple[int, int]]) -> None:
    bench = Bench()
    messages = examples(bench)

    for which, sender in order:
        bench.receive(sender, messages[which])
    bench.wait(3_000)

    assert not bench.state.halted
    assert len(bench.state.proposals) <= 2 * bench.count
    assert len(bench.state.changes) <= bench.count


def test_what_a_peer_can_make_a_replica_hold_is_bounded() -> None:
    bench = Bench()

    for view in range(300):
        for height in (1, 2, 3, 500):
            header = replace(bench.header(view=view), height=height)
            primary = bench.validators.primary(view, height, 0)
            if primary != 1:
                bench.receive(primary, bench.proposal(header, view))
            for kind in (VoteType.PREPARE, VoteType.COMMIT):
                bench.receive(2, bench.vote(2, kind, header, view))

    state = bench.state
    assert len(state.proposals) <= 2 * bench.count
    held = [ballots for pair in state.ballots._held for ballots in pair]
    assert max(map(len, held)) <= bench.count
    assert len(state.slot.blocks) <= 2


def test_votes_of_a_hundred_thousand_views_of_one_peer_are_held_as_one_and_answered_by_one_question() -> None:
    bench = Bench()
    cast = bench.vote(2, VoteType.COMMIT, bench.header())

    asked: list[Effect] = []
    for view in range(1, 100_001):
        asked += bench.receive(2, replace(cast, view=view))
        bench.effects.clear()

    assert [type(effect) for effect in asked] == [Send]
    assert sum(len(ballots) for pair in bench.state.ballots._held for ballots in pair) == 1
    assert len(bench.state.ballots._newest) == 1
    assert bench.signer.checked == []


def test_wishes_for_ten_thousand_views_of_one_peer_are_held_as_one_and_move_nobody() -> None:
    bench = Bench()

    for view in range(1, 10_001):
        bench.receive(2, bench.change(2, view))

    assert list(bench.state.changes) == [2]
    assert bench.replica.view == 0
    assert views_asked_for(bench.effects) == []


def test_what_is_said_of_the_last_view_and_height_that_there_are_moves_nobody() -> None:
    bench = Bench()
    header = replace(bench.header(), height=UINT_MAX)
    primary = bench.validators.primary(UINT_MAX, UINT_MAX, 0)
    vote = bench.vote(2, VoteType.PREPARE, header, view=UINT_MAX)

    for message in (vote, replace(vote, height=1), bench.status(2, view=UINT_MAX), bench.change(2, UINT_MAX)):
        bench.receive(2, message)
    bench.receive(primary, bench.proposal(header, view=UINT_MAX))
    bench.receive(2, Complaint(0, UINT_MAX, UINT_MAX))
    bench.receive(2, Answer(START, vote, bench.change(2, UINT_MAX).signed))

    assert (bench.replica.view, bench.state.height, bench.replica.may_vote) == (0, 1, True)
    assert of_kind(bench.effects, Fault) == []
    assert len(bench.commit_it(bench.header())) > 0
    assert bench.state.height == 2


def test_a_number_that_is_one_too_large_is_no_number() -> None:
    for message in examples(Bench()):
        fields = msgpack.unpackb(encode(message))
        numbers = [index for index, value in enumerate(fields) if type(value) is int]
        for index in numbers:
            changed = [*fields[:index], UINT_MAX + 1, *fields[index + 1 :]]

            assert is_refused(msgpack.packb(changed))


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    bench = Bench()

    effects = bench.step(Received("m2", bytes(MESSAGE_BYTES_MAX + 1)))

    assert of_kind(effects, Fault) == [Fault("m2", "a message that does not decode: bytes.too_large")]


def test_the_largest_block_that_a_network_can_allow_fits_into_a_proposal() -> None:
    bench = Bench()
    body_bytes = BLOCK_BYTES_MAX // BLOCK_TX_MAX
    rest_bytes = BLOCK_BYTES_MAX - body_bytes * (BLOCK_TX_MAX - 1)
    bodies = encode((*[bytes(body_bytes)] * (BLOCK_TX_MAX - 1), bytes(rest_bytes)))
    proposal = replace(bench.proposal(bench.header(), bodies=bodies), leaves=(bytes(32),) * BLOCK_TX_MAX)

    assert MESSAGE.decode(encode(proposal)) == proposal


def test_the_largest_new_view_fits_into_a_message() -> None:
    bench = Bench(count=VALIDATORS_MAX)
    first = bench.header()
    head = bench.certificate(VoteType.COMMIT, first)
    second = replace(bench.header(height=2, parent=first), proposer="m" * 32, time_ms=2**63 - 1)
    prepared = Prepared(bench.certificate(VoteType.PREPARE, second), second)
    changes = [bench.change(signer, 2**40, head, prepared) for signer in range(VALIDATORS_MAX)]
    record = ViewRecord(0, 2**40, True, 1, second.digest(), bench.new_view(0, 2**40, changes))

    assert len(encode(record)) <= MESSAGE_BYTES_MAX
    assert RECORD.decode(encode(record)) == record
