import random
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle import log
from storage.schema import calls
from storage.schema.calls import METHODS, Provision
from storage.schema.codec import UINT_MAX, DecodeError, Value, encode
from storage.schema.signatures import SignatureError, public_key_of
from storage.schema.transaction import (
    Envelope,
    Transaction,
    decode_transaction,
    encode_body,
    envelope_leaf,
    sign_body,
    signing_preimage,
    transaction_id,
)
from tests.support.twin import second_signature
from tests.support.vectors import from_shown, shown, vector_genesis, vectors

TRANSACTIONS = vectors("transactions")
named = pytest.mark.parametrize("vector", TRANSACTIONS, ids=lambda vector: vector["name"])
CHAIN_ID = vector_genesis().chain_id


@named
def test_a_transaction_decodes_to_what_the_vectors_say(vector: dict[str, Any]) -> None:
    transaction = decode_transaction(bytes.fromhex(vector["envelope"]))

    fields = shown(msgpack.unpackb(transaction.body_bytes))
    assert fields == list(vector["fields"].values())
    assert transaction.body.method == transaction.method.name == vector["fields"]["method"]
    assert encode(transaction.arguments).hex() == vector["arguments"]
    assert shown(msgpack.unpackb(encode(transaction.arguments))) == vector["fields"]["arguments"]
    assert [signature.hex() for signature in transaction.signatures] == vector["signatures"]


@named
def test_ids_leaves_and_preimages_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    body, envelope = bytes.fromhex(vector["body"]), bytes.fromhex(vector["envelope"])
    transaction = decode_transaction(envelope)

    assert transaction_id(body).hex() == transaction.id.hex() == vector["id"]
    assert envelope_leaf(envelope).hex() == transaction.leaf.hex() == vector["leaf"]
    assert signing_preimage(body).hex() == vector["preimage"]
    assert envelope_leaf(envelope) == log.leaf_hash(envelope)


@named
def test_the_signatures_of_the_vectors_verify_and_are_ours(vector: dict[str, Any]) -> None:
    seeds = {key["public"]: bytes.fromhex(key["seed"]) for key in vectors("keys")["signing"]}
    body = bytes.fromhex(vector["body"])
    signers = [signer[2:] for signer in vector["fields"]["signers"]]

    decode_transaction(bytes.fromhex(vector["envelope"])).verify_signatures()

    assert [sign_body(body, seeds[signer]).hex() for signer in signers] == vector["signatures"]


@named
def test_a_body_is_written_as_the_vectors_have_it(vector: dict[str, Any]) -> None:
    fields = {name: from_shown(value) for name, value in vector["fields"].items()}
    arguments = METHODS[fields["method"]].form.decode(bytes.fromhex(vector["arguments"]))

    body = encode_body(
        fields["chain_id"],
        fields["nonce"],
        fields["not_after_s"],
        fields["payer"],
        fields["signers"],
        fields["method"],
        arguments,
    )

    assert body.hex() == vector["body"]


def test_every_method_has_a_vector() -> None:
    assert {vector["fields"]["method"] for vector in TRANSACTIONS} == METHODS.keys()


# Laws.

digests = st.binary(min_size=32, max_size=32)
uints = st.integers(0, UINT_MAX)
codes = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9-]{0,31}\Z")
names = st.from_regex(r"\A[a-z][a-z0-9-]{0,31}\Z")
roles = st.builds("{}/{}".format, names, codes)
tags = st.binary(min_size=16, max_size=16)
periods = st.builds(calls.Period, st.none() | uints, st.none() | uints)
keys = st.none() | digests
changes = st.one_of(
    st.builds(calls.Admit, names, digests, digests, digests, digests, st.just(("/ip4/192.0.2.1/tcp/4001",))),
    st.builds(calls.SetRole, names, st.sampled_from(["observer", "validator"])),
    st.builds(calls.Remove, names),
)


def few(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


def provisions(levels: int) -> st.SearchStrategy[Provision]:
    below: st.SearchStrategy[tuple[Any, ...]] = st.just(()) if levels == 1 else few(provisions(levels - 1))
    effects = st.sampled_from(["permit", "deny"])
    lists = [digests, names, roles, codes, codes, codes, tags, digests]
    return st.builds(Provision, effects, periods, *map(few, lists), periods, below)


votes = st.builds(calls.SignedVote, st.sampled_from([1, 2, 3]), digests, digests, st.binary(min_size=64, max_size=64))
ARGUMENTS: dict[str, st.SearchStrategy[Value]] = {
    "identity.register_patient": st.builds(calls.RegisterPatient, digests),
    "identity.enrol_practitioner": st.builds(calls.EnrolPractitioner, digests, codes, uints, uints),
    "identity.revoke_practitioner": st.builds(calls.RevokePractitioner, digests),
    "record.register": st.builds(
        calls.RegisterRecord, digests, codes, few(tags), uints, digests, st.binary(min_size=1, max_size=1024)
    ),
    "consent.grant": st.builds(calls.Grant, provisions(3), st.none() | uints),
    "consent.revoke": st.builds(calls.Revoke, digests),
    "consent.exclude": st.builds(calls.Exclude, provisions(2), st.booleans()),
    "consent.end_exclusion": st.builds(calls.EndExclusion, digests),
    "access.request": st.builds(calls.RequestAccess, digests, codes),
    "access.served": st.builds(calls.ServeAccess, digests),
    "network.propose": st.builds(calls.Propose, changes, keys),
    "network.vote": st.builds(calls.VoteOn, digests, st.booleans()),
    "network.replace_keys": st.builds(calls.ReplaceKeys, keys, keys, keys),
    "network.evidence": st.builds(calls.Evidence, digests, uints, uints, uints, votes, votes),
}


@dataclass(frozen=True)
class Written:
    """A signed envelope, and what went into it."""

    arguments: Value
    body: bytes
    envelope: bytes


@st.composite
def envelopes(draw: st.DrawFn) -> Written:
    method = draw(st.sampled_from(sorted(METHODS)))
    seeds = draw(st.lists(digests, min_size=1, max_size=4, unique=True))
    arguments = draw(ARGUMENTS[method])
    signers = [public_key_of(seed) for seed in seeds]
    nonce = draw(st.binary(min_size=16, max_size=16))
    body = encode_body(CHAIN_ID, nonce, draw(uints), draw(names), signers, method, arguments)
    signatures = tuple(sign_body(body, seed) for seed in seeds)
    return Written(arguments, body, encode(Envelope(body, signatures)))


def verifies(transaction: Transaction) -> bool:
    try:
        transaction.verify_signatures()
    except SignatureError:
        return False
    return True


def test_every_method_has_a_strategy() -> None:
    assert ARGUMENTS.keys() == METHODS.keys()


@given(envelopes())
def test_what_is_written_and_signed_is_read_back_and_verifies(written: Written) -> None:
    transaction = decode_transaction(written.envelope)

    assert transaction.arguments == written.arguments
    assert transaction.body_bytes == written.body
    assert verifies(transaction)


@given(envelopes())
def test_an_independent_library_reads_the_same_bytes_and_writes_them_again(written: Written) -> None:
    body, signatures = msgpack.unpackb(written.envelope)
    fields = msgpack.unpackb(body)

    assert msgpack.packb([body, signatures]) == written.envelope
    assert msgpack.packb(fields) == written.body
    assert msgpack.packb(fields[-1]) == encode(written.arguments)


def judge_mutation(original: bytes, mutated: bytes) -> None:
    """Whatever is done to an accepted envelope: it is refused, or it is itself canonical and badly signed."""
    try:
        transaction = decode_transaction(mutated)
    except DecodeError:
        return

    assert encode(Envelope(transaction.body_bytes, transaction.signatures)) == mutated
    assert transaction.leaf != envelope_leaf(original)
    assert not verifies(transaction)


@given(envelopes(), st.data())
def test_an_envelope_with_any_byte_put_in_left_out_or_changed_is_refused(written: Written, data: st.DataObject) -> None:
    original = written.envelope
    at = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))

    judge_mutation(original, original[:at] + byte + original[at:])
    judge_mutation(original, original[:at] + original[at + 1 :])
    if original[at : at + 1] != byte:
        judge_mutation(original, original[:at] + byte + original[at + 1 :])


@named
def test_an_envelope_with_a_bit_flipped_in_any_byte_is_refused(vector: dict[str, Any], seed: int) -> None:
    generator = random.Random(seed)
    original = bytes.fromhex(vector["envelope"])
    for at in range(len(original)):
        mutated = bytearray(original)
        mutated[at] ^= 1 << generator.randrange(8)

        judge_mutation(original, bytes(mutated))


def test_a_second_good_signature_gives_another_leaf_and_the_same_id() -> None:
    seed = bytes(range(32))
    arguments = calls.RequestAccess(bytes(32), "TREAT")
    body = encode_body(CHAIN_ID, bytes(16), 1, "north", [public_key_of(seed)], "access.request", arguments)

    first = decode_transaction(encode(Envelope(body, (sign_body(body, seed),))))
    second = decode_transaction(encode(Envelope(body, (second_signature(seed, signing_preimage(body)),))))

    assert verifies(first)
    assert verifies(second)
    assert first.id == second.id
    assert first.leaf != second.leaf


def test_signatures_in_another_order_than_the_signers_do_not_verify() -> None:
    seeds = [bytes([number]) * 32 for number in (1, 2)]
    arguments = calls.RegisterPatient(bytes(32))
    signers = [public_key_of(seed) for seed in seeds]
    body = encode_body(CHAIN_ID, bytes(16), 1, "north", signers, "identity.register_patient", arguments)
    signatures = tuple(sign_body(body, seed) for seed in seeds)

    assert verifies(decode_transaction(encode(Envelope(body, signatures))))
    assert not verifies(decode_transaction(encode(Envelope(body, signatures[::-1]))))


def test_a_transaction_of_one_network_is_not_signed_for_another() -> None:
    seed = bytes(range(32))
    arguments = calls.RequestAccess(bytes(32), "TREAT")
    here, there = (
        encode_body(chain, bytes(16), 1, "north", [public_key_of(seed)], "access.request", arguments)
        for chain in (CHAIN_ID, bytes(32))
    )

    assert not verifies(decode_transaction(encode(Envelope(there, (sign_body(here, seed),)))))
    assert transaction_id(here) != transaction_id(there)
