from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from storage.merkle import log
from storage.schema.block import (
    BLOCK_BYTES_MAX,
    BLOCK_TX_MAX,
    CERTIFICATE,
    HEADER,
    OUTCOME,
    RESULT,
    CertifiedBlock,
    Header,
    Outcome,
    Result,
    VoteType,
    decode_certified_block,
    history_leaf,
    vote_preimage,
)
from storage.schema.codec import UINT_MAX, DecodeError, encode
from storage.schema.events import Event
from storage.schema.signatures import sign
from storage.schema.transaction import ENVELOPE_BYTES_MAX
from tests.support.vectors import from_shown, seed_of, shown, vector_genesis, vectors

BLOCK = vectors("block")
OUTCOMES = [*BLOCK["outcomes"], BLOCK["outcome_outside_the_block"]]
EVENT_KINDS = {kind.__struct_config__.tag: kind for kind in get_args(Event)}


def test_a_header_is_written_as_the_vectors_have_it() -> None:
    header = Header(**{name: from_shown(value) for name, value in BLOCK["header"]["fields"].items()})

    assert encode(header).hex() == BLOCK["header"]["encoded"]
    assert header.digest().hex() == BLOCK["header"]["digest"]
    assert HEADER.decode(encode(header)) == header


def test_the_digest_of_a_header_depends_on_each_of_its_fields() -> None:
    fields = {name: from_shown(value) for name, value in BLOCK["header"]["fields"].items()}
    digests = {Header(**fields).digest()}
    for name, value in fields.items():
        other = value + 1 if isinstance(value, int) else value[::-1]
        digests.add(Header(**{**fields, name: other}).digest())

    assert len(digests) == 1 + len(fields)


@pytest.mark.parametrize("vote", BLOCK["votes"], ids=lambda vote: vote["name"])
def test_a_vote_signs_the_137_bytes_of_the_vectors(vote: dict[str, Any]) -> None:
    header = HEADER.decode(bytes.fromhex(BLOCK["header"]["encoded"]))
    result = bytes.fromhex(BLOCK["result"]["digest"])
    of_result = (result,) if vote["type"] == VoteType.COMMIT else ()

    preimage = vote_preimage(
        header.chain_id, header.epoch, vote["type"], header.first_view, header.height, header.digest(), *of_result
    )

    assert preimage.hex() == vote["preimage"]
    assert len(preimage) == 137
    assert sign(seed_of(f"{vote['validator']}/node"), preimage).hex() == vote["signature"]


@given(st.integers(0, UINT_MAX), st.sampled_from(VoteType), st.integers(0, UINT_MAX), st.integers(0, UINT_MAX))
def test_a_vote_preimage_can_be_taken_apart_again(epoch: int, vote_type: VoteType, view: int, height: int) -> None:
    chain_id, digest, result = b"c" * 32, b"d" * 32, b"r" * 32

    preimage = vote_preimage(chain_id, epoch, vote_type, view, height, digest, result)

    numbers = (preimage[48:56], preimage[56:57], preimage[57:65], preimage[65:73])
    assert preimage[:48] == b"CARETRACE/vote/1" + chain_id
    assert [int.from_bytes(number, "big") for number in numbers] == [epoch, vote_type, view, height]
    assert preimage[73:] == digest + result


@pytest.mark.parametrize("case", OUTCOMES, ids=lambda case: f"{case['fields'][2]}: {case['fields'][3]}"[:60])
def test_an_outcome_is_written_and_read_as_the_vectors_have_it(case: dict[str, Any]) -> None:
    source, identifier, code, events = from_shown(case["fields"])

    outcome = Outcome(source, identifier, code, convert(events, tuple[Event, ...]))

    assert encode(outcome).hex() == case["encoded"]
    assert OUTCOME.decode(bytes.fromhex(case["encoded"])) == outcome
    assert shown(msgpack.unpackb(encode(outcome))) == case["fields"]


def test_a_block_as_large_as_genesis_may_allow_fits_the_form_in_which_it_is_fetched() -> None:
    header = HEADER.decode(bytes.fromhex(BLOCK["header"]["encoded"]))
    certificate = CERTIFICATE.decode(bytes.fromhex(BLOCK["commit_certificate"]))
    largest = replace(certificate, signers=tuple(range(128)), signatures=(bytes(64),) * 128)
    result = RESULT.decode(bytes.fromhex(BLOCK["result"]["encoded"]))
    size = BLOCK_BYTES_MAX // BLOCK_TX_MAX

    many = CertifiedBlock(header, largest, result, (bytes(size),) * BLOCK_TX_MAX)
    large = CertifiedBlock(
        header, largest, result, (bytes(ENVELOPE_BYTES_MAX),) * (BLOCK_BYTES_MAX // ENVELOPE_BYTES_MAX)
    )

    assert decode_certified_block(encode(many)) == many
    assert decode_certified_block(encode(large)) == large


def test_a_fetched_block_of_too_many_or_too_large_envelopes_is_refused() -> None:
    header = HEADER.decode(bytes.fromhex(BLOCK["header"]["encoded"]))
    certificate = CERTIFICATE.decode(bytes.fromhex(BLOCK["commit_certificate"]))
    result = RESULT.decode(bytes.fromhex(BLOCK["result"]["encoded"]))

    for envelopes in ((b"",) * (BLOCK_TX_MAX + 1), (bytes(ENVELOPE_BYTES_MAX + 1),)):
        with pytest.raises(DecodeError):
            decode_certified_block(encode(CertifiedBlock(header, certificate, result, envelopes)))


def test_every_kind_of_event_and_every_source_has_a_vector() -> None:
    events = [event for case in OUTCOMES for event in case["fields"][3]]

    assert {event[0] for event in events} == EVENT_KINDS.keys()
    assert {case["fields"][0] for case in OUTCOMES} == {"transaction", "due"}


def test_the_trees_of_the_block_have_the_roots_of_the_vectors() -> None:
    header = HEADER.decode(bytes.fromhex(BLOCK["header"]["encoded"]))
    by_name = {vector["name"]: vector for vector in vectors("transactions")}
    listed = [by_name[name] for name in BLOCK["transactions"]]
    history = [history_leaf(bytes.fromhex(at["digest"]), bytes.fromhex(at["result"])) for at in BLOCK["history"]]

    assert [vector["leaf"] for vector in listed] == BLOCK["tx_leaves"]
    assert log.root([bytes.fromhex(leaf) for leaf in BLOCK["tx_leaves"]]) == header.tx_root
    assert header.tx_count == len(listed)
    assert header.tx_bytes == sum(len(vector["envelope"]) // 2 for vector in listed)
    assert log.root(history) == header.history_root
    assert len(history) == header.height


def test_the_result_of_the_vectors_has_its_digest() -> None:
    leaves = [log.leaf_hash(bytes.fromhex(case["encoded"])) for case in BLOCK["outcomes"]]
    assert [leaf.hex() for leaf in leaves] == [case["leaf"] for case in BLOCK["outcomes"]]
    state_root = msgpack.unpackb(bytes.fromhex(BLOCK["result"]["encoded"]))[0]

    result = Result(state_root, log.root(leaves), len(leaves), vector_genesis().validators.digest())

    assert encode(result).hex() == BLOCK["result"]["encoded"]
    assert result.digest().hex() == BLOCK["result"]["digest"]
