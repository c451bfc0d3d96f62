import json
import sys
import tracemalloc
from hashlib import sha256
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.schema import codec
from storage.schema.block import CERTIFICATE, HEADER, OUTCOME
from storage.schema.calls import METHODS, PROVISION_DEPTH_MAX, Period, Provision
from storage.schema.codec import (
    UINT_MAX,
    DecodeError,
    Form,
    Uint,
    Value,
    encode,
    parse_typed_id,
    tagged_digest,
    typed_id,
)
from storage.schema.receipt import RECEIPT, RECEIPT_BYTES_MAX
from storage.schema.transaction import decode_transaction, derived_id
from tests.support.source_tree import ROOT
from tests.support.vectors import vector_bytes, vectors

DECODERS: dict[str, Any] = {
    "envelope": decode_transaction,
    "header": HEADER.decode,
    "outcome": OUTCOME.decode,
    "certificate": CERTIFICATE.decode,
    "receipt": RECEIPT.decode,
}
MALFORMED = vectors("malformed")


class Sample(Value, frozen=True):
    number: Uint
    word: str
    raw: bytes
    numbers: tuple[Uint, ...]
    maybe: bool | None


SAMPLE: Form[Sample] = Form(Sample, 4096)
SAMPLES = st.builds(
    Sample,
    st.integers(0, UINT_MAX),
    st.text(max_size=40),
    st.binary(max_size=300),
    st.lists(st.integers(0, UINT_MAX), max_size=20).map(tuple),
    st.none() | st.booleans(),
)


def decoding_at_depth(frames: int, form: Form[Any], data: bytes) -> Any:
    """What decoding gives to a caller whose own calls are nested this deep."""
    return form.decode(data) if frames == 0 else decoding_at_depth(frames - 1, form, data)


def nested_provision(levels: int) -> bytes:
    """The arguments of a grant whose provision nests this deep, written byte by byte."""
    inner = b"\x9c\xa4deny\x92\xc0\xc0" + b"\x90" * 8 + b"\x92\xc0\xc0"
    return b"\x92" + (inner + b"\x91") * (levels - 1) + inner + b"\x90\xc0"


@given(SAMPLES)
def test_what_is_encoded_decodes_to_the_same_value(sample: Sample) -> None:
    assert SAMPLE.decode(encode(sample)) == sample


@given(SAMPLES)
def test_an_independent_library_writes_and_reads_the_same_bytes(sample: Sample) -> None:
    fields = [sample.number, sample.word, sample.raw, list(sample.numbers), sample.maybe]

    assert msgpack.unpackb(encode(sample)) == fields
    assert msgpack.packb(fields) == encode(sample)


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_are_the_one_encoding_of_their_value(data: bytes) -> None:
    try:
        value = SAMPLE.decode(data)
    except DecodeError:
        return

    assert encode(value) == data


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: f"{case['form']}: {case['why']}")
def test_bytes_that_are_not_canonical_are_refused_with_their_code(case: dict[str, str]) -> None:
    with pytest.raises(DecodeError) as refused:
        DECODERS[case["form"]](bytes.fromhex(case["bytes"]))

    assert refused.value.code == case["code"]


@pytest.mark.parametrize("name", list(DECODERS))
def test_every_form_has_malformed_vectors(name: str) -> None:
    assert any(case["form"] == name for case in MALFORMED)


def test_a_refusal_costs_no_more_memory_than_the_bytes_are_worth() -> None:
    for case in MALFORMED:
        data = bytes.fromhex(case["bytes"])
        tracemalloc.start()
        with pytest.raises(DecodeError):
            DECODERS[case["form"]](data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert peak < 64 * 1024 + 16 * len(data), case["why"]


def test_a_receipt_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(DecodeError) as refused:
        RECEIPT.decode(vector_bytes("receipt.bin") + bytes(RECEIPT_BYTES_MAX))

    assert refused.value.code == "bytes.too_large"


def test_an_error_never_repeats_what_came_from_outside() -> None:
    secret = "\x1b[2J-secret-"
    hostile = [
        msgpack.packb([secret, bytes(32), "ok", []]),
        msgpack.packb(["transaction", bytes(32), secret, []]),
        msgpack.packb(["transaction", bytes(32), "ok", [[secret]]]),
        msgpack.packb(["transaction", bytes(32), "ok", [[7, secret]]]),
        msgpack.packb({secret: 1}),
        msgpack.packb(secret),
        msgpack.packb(secret) + b"\x00",
    ]
    for data in hostile:
        with pytest.raises(DecodeError) as refused:
            OUTCOME.decode(data)

        assert "secret" not in str(refused.value)
        assert "\x1b" not in str(refused.value)
        assert len(str(refused.value)) < 300


def test_text_that_is_not_utf_8_is_refused_without_repeating_it() -> None:
    with pytest.raises(DecodeError, match="not UTF-8"):
        SAMPLE.decode(b"\x95\x00\xa2\xff\xfe\xc4\x00\x90\xc0")


# The public suite of MessagePack lists for each value every encoding that there is.

PUBLIC_SUITE = ROOT.parent / "shared" / "data" / "vectors" / "msgpack-test-suite.json"
Words = None | bool | Uint | str
Raw = None | bool | Uint | bytes
# msgspec takes no text beside bytes in one type.
ANYTHING: tuple[Form[Any], ...] = (
    Form(Words | tuple[Words | tuple[Words, ...], ...], 4096),
    Form(Raw | tuple[Raw | tuple[Raw, ...], ...], 4096),
)
NEVER_OURS = {"number-negative", "number-float", "map", "timestamp", "ext"}


def is_accepted(data: bytes) -> bool:
    for form in ANYTHING:
        try:
            form.decode(data)
        except DecodeError:
            continue
        return True
    return False


@pytest.mark.skipif(not PUBLIC_SUITE.exists(), reason="the public MessagePack test suite is not here")
def test_of_all_encodings_of_the_public_suite_only_the_shortest_of_our_kinds_is_accepted() -> None:
    counted = 0
    for group, cases in json.loads(PUBLIC_SUITE.read_text()).items():
        for case in cases:
            encodings = [bytes.fromhex(text.replace("-", "")) for text in case["msgpack"]]
            accepted = [data for data in encodings if is_accepted(data)]
            is_ours = group.split(".")[1] not in NEVER_OURS and is_of_our_kinds(case)
            counted += is_ours

            assert accepted == ([msgpack.packb(msgpack.unpackb(encodings[0]))] if is_ours else []), (group, case)
    assert counted > 30


def is_of_our_kinds(case: dict[str, Any]) -> bool:
    if "number" in case or "bignum" in case:
        return 0 <= int(case["bignum"] if "bignum" in case else case["number"]) <= UINT_MAX
    return "map" not in case and "{" not in json.dumps(case.get("array", []))


# Deep nesting: whether msgspec ends at its recursion limit depends on the stack of whoever calls.


@pytest.mark.parametrize("frames", [0, 200, 600])
def test_the_verdict_over_a_provision_does_not_depend_on_the_depth_of_the_callers_stack(frames: int) -> None:
    grant = METHODS["consent.grant"].form
    for levels in (1, PROVISION_DEPTH_MAX):
        assert encode(decoding_at_depth(frames, grant, nested_provision(levels))) == nested_provision(levels)
    for levels in (PROVISION_DEPTH_MAX + 1, 50, 150, 300, 450, 500, 580):
        with pytest.raises(DecodeError) as refused:
            decoding_at_depth(frames, grant, nested_provision(levels))
        assert refused.value.code == "bytes.malformed"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from 3.12 on decoders count their recursion apart")
def test_the_recursion_limit_is_reached_within_the_limit_on_arguments() -> None:
    # Without this the test above would not see the case that it is about.
    data = nested_provision(500)

    with pytest.raises(DecodeError, match="nested too deep"):
        decoding_at_depth(sys.getrecursionlimit() - 300, METHODS["consent.grant"].form, data)


def test_a_provision_too_deep_cannot_be_made_either() -> None:
    always = Period(None, None)
    provision = Provision("deny", always, (), (), (), (), (), (), (), (), always, ())
    for _ in range(PROVISION_DEPTH_MAX - 1):
        provision = msgspec.structs.replace(provision, provisions=(provision, provision))

    with pytest.raises(ValueError, match="nest at most 3 deep"):
        msgspec.structs.replace(provision, provisions=(provision,))


# Digests and identifiers.


def test_a_tagged_digest_is_the_hash_of_tag_and_parts() -> None:
    assert tagged_digest(b"tag", b"one", b"two") == sha256(b"tagonetwo").digest()


@pytest.mark.parametrize("case", vectors("identifiers")["derived"], ids=lambda case: f"index {case['index']}")
def test_identifiers_are_derived_from_transactions_as_the_vectors_have_it(case: dict[str, Any]) -> None:
    assert derived_id(bytes.fromhex(case["transaction"]), case["index"]).hex() == case["id"]


@pytest.mark.parametrize("case", vectors("identifiers")["typed"], ids=lambda case: case["text"][:8])
def test_a_typed_identifier_is_written_and_read_as_the_vectors_have_it(case: dict[str, str]) -> None:
    raw = bytes.fromhex(case["id"])

    assert typed_id(case["letter"], raw) == case["text"]
    assert parse_typed_id(case["letter"], case["text"]) == raw


@pytest.mark.parametrize("case", vectors("identifiers")["typed_refused"], ids=lambda case: case["why"])
def test_another_text_is_no_typed_identifier(case: dict[str, str]) -> None:
    with pytest.raises(DecodeError) as refused:
        parse_typed_id(case["letter"], case["text"])

    assert refused.value.code == "id.malformed"


@given(st.binary(min_size=32, max_size=32), st.sampled_from("acrx"))
def test_every_identifier_is_read_back_and_has_one_text(raw: bytes, letter: str) -> None:
    text = typed_id(letter, raw)

    assert parse_typed_id(letter, text) == raw
    assert len(text) == 54


@given(st.text(max_size=60))
def test_any_text_is_refused_or_is_the_one_text_of_its_identifier(text: str) -> None:
    try:
        raw = parse_typed_id("r", "r-" + text)
    except DecodeError:
        return

    assert typed_id("r", raw) == "r-" + text


def test_the_encoder_agrees_with_the_second_library_at_every_edge() -> None:
    codec.self_test()


def test_an_encoder_that_writes_a_longer_form_is_found_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = msgspec.msgpack.encode

    def wasteful(value: object) -> bytes:
        return b"\xcd\x00\x80" if value == 128 else encode(value)

    monkeypatch.setattr(codec, "_encode", wasteful)

    with pytest.raises(codec.CodecRuleError):
        codec.self_test()
