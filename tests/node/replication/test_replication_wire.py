"""What replicas send each other is bounded on the way out as it is on the way in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.replication.signer import NodeSigner
from node.replication.wire import (
    BATCH,
    BATCH_BYTES_MAX,
    BATCH_ENVELOPES_MAX,
    BLOCKS_REQUEST,
    BODIES,
    LEAVES,
    LEAVES_MAX,
    encode_batches,
)
from storage.schema.codec import DecodeError, encode
from storage.schema.transaction import ENVELOPE_BYTES_MAX
from tests.support.chain import NAMES, make_genesis, seed_of

sizes = st.lists(st.tuples(st.integers(1, 300), st.sampled_from([0, 1, 300, 4000, ENVELOPE_BYTES_MAX])), max_size=6)


@given(sizes)
def test_all_envelopes_travel_once_and_in_order_in_batches_that_every_receiver_takes(
    groups: list[tuple[int, int]],
) -> None:
    envelopes = [bytes(size) for count, size in groups for _ in range(count)]

    batches = encode_batches(envelopes)

    assert [envelope for batch in batches for envelope in BATCH.decode(batch)] == envelopes
    assert all(len(batch) <= BATCH_BYTES_MAX for batch in batches)


def test_nothing_to_send_is_no_batch() -> None:
    assert encode_batches([]) == []


def test_what_fits_into_one_batch_is_one() -> None:
    assert len(encode_batches([bytes(300)] * BATCH_ENVELOPES_MAX)) == 1
    assert len(encode_batches([bytes(300)] * (BATCH_ENVELOPES_MAX + 1))) == 2


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (BATCH, [b""] * (BATCH_ENVELOPES_MAX + 1)),
        (BATCH, [bytes(ENVELOPE_BYTES_MAX + 1)]),
        (BODIES, [bytes(ENVELOPE_BYTES_MAX + 1)]),
        (LEAVES, [bytes(32)] * (LEAVES_MAX + 1)),
        (LEAVES, [bytes(31)]),
        (BLOCKS_REQUEST, [-1]),
        (BLOCKS_REQUEST, [1, 2]),
    ],
)
def test_what_is_over_a_limit_or_of_another_form_is_refused(form: object, value: object) -> None:
    with pytest.raises(DecodeError):
        form.decode(encode(value))  # type: ignore[attr-defined]  # forms of several types


def test_a_vote_counts_for_the_validator_whose_key_made_it_and_for_no_other() -> None:
    genesis = make_genesis()
    signers = [NodeSigner(seed_of(f"chainnet/{name}/node"), genesis.validators) for name in NAMES]

    signature = signers[1].sign(b"statement")

    assert [signers[0].verify(position, b"statement", signature) for position in range(-1, 5)] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    assert not signers[0].verify(1, b"another statement", signature)
    assert not signers[0].verify(1, b"statement", bytes(64))
