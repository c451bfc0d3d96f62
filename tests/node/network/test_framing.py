import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network.framing import LENGTH_BYTES, FrameDecoder, encode_frame
from node.network.peers import PeerFaultError

LIMIT = 64


@given(st.lists(st.binary(max_size=LIMIT), max_size=8), st.data())
def test_messages_arrive_whole_wherever_the_network_cuts(messages: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(map(encode_frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    decoder = FrameDecoder(LIMIT)

    received: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += decoder.feed(wire[start:end])

    assert received == messages
    assert decoder.pending_bytes == 0


def test_one_byte_at_a_time_is_enough() -> None:
    decoder = FrameDecoder(LIMIT)
    wire = encode_frame(b"one") + encode_frame(b"") + encode_frame(b"three")

    received = [message for byte in wire for message in decoder.feed(bytes([byte]))]

    assert received == [b"one", b"", b"three"]


def test_a_message_over_the_limit_is_refused_when_it_is_announced() -> None:
    decoder = FrameDecoder(LIMIT)
    announcement = encode_frame(bytes(LIMIT + 1))[:LENGTH_BYTES]

    with pytest.raises(PeerFaultError, match="65 bytes; 64 are allowed"):
        decoder.feed(announcement)


def test_a_message_of_exactly_the_limit_is_taken() -> None:
    assert FrameDecoder(LIMIT).feed(encode_frame(bytes(LIMIT))) == [bytes(LIMIT)]


def test_an_unfinished_message_keeps_no_more_than_was_sent_of_it() -> None:
    decoder = FrameDecoder(LIMIT)

    decoder.feed(encode_frame(bytes(LIMIT))[:40])

    assert decoder.pending_bytes == 40


@given(st.binary(min_size=1, max_size=LIMIT), st.binary(max_size=LIMIT), st.data())
def test_a_message_that_is_cut_off_is_no_message(whole: bytes, cut: bytes, data: st.DataObject) -> None:
    wire, decoder = encode_frame(cut), FrameDecoder(LIMIT)

    received = decoder.feed(encode_frame(whole) + wire[: data.draw(st.integers(0, len(wire) - 1))])

    assert received == [whole]
