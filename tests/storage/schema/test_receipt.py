from typing import Any

import pytest
from msgspec.structs import replace

from storage.merkle import log
from storage.schema.block import Outcome, Result, VoteType, vote_preimage
from storage.schema.calls import ServeAccess
from storage.schema.codec import encode
from storage.schema.genesis import Genesis, load_file
from storage.schema.receipt import RECEIPT, Proven, Receipt, ReceiptError, verify_receipt
from storage.schema.signatures import public_key_of, sign
from storage.schema.transaction import Envelope, encode_body, envelope_leaf, sign_body, transaction_id
from storage.schema.validators import ValidatorSet
from tests.support.vectors import seed_of, vector_bytes, vector_genesis, vectors

NAMES = ["receipt.bin", "receipt-refused.bin"]


def verify(receipt: Receipt, genesis: Genesis | None = None) -> Proven:
    return verify_receipt(encode(receipt), genesis or vector_genesis())


def refused(receipt: Receipt) -> str:
    with pytest.raises(ReceiptError) as error:
        verify(receipt)
    return str(error.value)


def certified(receipt: Receipt) -> Receipt:
    """The receipt with a certificate by a quorum for whatever it now says: what dishonest validators could sign."""
    header, result = receipt.header, receipt.result.digest()
    stated = replace(receipt.certificate, height=header.height, digest=header.digest(), result=result)
    preimage = vote_preimage(
        vector_genesis().chain_id, stated.epoch, VoteType.COMMIT, stated.view, stated.height, stated.digest, result
    )
    names = [vector_genesis().validators.validators[signer].name for signer in stated.signers]
    signatures = tuple(sign(seed_of(f"{name}/node"), preimage) for name in names)
    return replace(receipt, certificate=replace(stated, signatures=signatures))


def good(name: str = "receipt.bin") -> Receipt:
    return RECEIPT.decode(vector_bytes(name))


def test_the_receipt_of_the_vectors_proves_the_access() -> None:
    proven = verify_receipt(vector_bytes("receipt.bin"), vector_genesis())

    vector = next(vector for vector in vectors("transactions") if vector["name"] == "ask for a record")
    assert proven.transaction.id.hex() == vector["id"]
    assert proven.outcome.code == "ok"
    assert encode(proven.header).hex() == vectors("block")["header"]["encoded"]
    assert (proven.signers, proven.quorum) == (("north", "south", "west"), 3)


def test_the_receipt_of_a_refusal_verifies_too() -> None:
    proven = verify_receipt(vector_bytes("receipt-refused.bin"), vector_genesis())

    assert proven.outcome.code == "consent.denied"


def test_a_receipt_signed_anew_over_the_same_content_verifies() -> None:
    # Keeps the tests below honest: what they change is the only thing that is wrong.
    assert verify(certified(good())).outcome.code == "ok"


@pytest.mark.parametrize("name", NAMES)
def test_a_receipt_with_any_bit_of_any_byte_flipped_is_refused(name: str) -> None:
    original, genesis = vector_bytes(name), vector_genesis()
    accepted = []
    for at in range(len(original)):
        for bit in range(8):
            changed = bytearray(original)
            changed[at] ^= 1 << bit
            try:
                verify_receipt(bytes(changed), genesis)
            except ReceiptError:
                continue
            accepted.append((at, bit))

    assert accepted == []


@pytest.mark.parametrize("name", NAMES)
def test_a_receipt_with_a_byte_put_in_or_left_out_is_refused(name: str) -> None:
    original, genesis = vector_bytes(name), vector_genesis()
    for at in range(len(original)):
        for changed in (original[:at] + original[at + 1 :], original[:at] + b"\x00" + original[at:]):
            with pytest.raises(ReceiptError):
                verify_receipt(changed, genesis)


def test_a_receipt_cut_short_anywhere_or_empty_is_refused() -> None:
    for size in range(0, len(vector_bytes("receipt.bin")), 7):
        with pytest.raises(ReceiptError):
            verify_receipt(vector_bytes("receipt.bin")[:size], vector_genesis())


def test_an_unknown_version_of_receipt_or_block_is_refused() -> None:
    assert "receipt version 1" in refused(replace(good(), version=1))
    header = replace(good().header, version=1)
    assert "block version 1" in refused(certified(replace(good(), header=header)))


def test_the_outcome_of_another_transaction_is_refused() -> None:
    other = good("receipt-refused.bin")
    swapped = replace(good(), outcome=other.outcome, outcome_index=other.outcome_index, outcome_path=other.outcome_path)

    assert "another transaction's" in refused(swapped)


def test_the_outcome_of_due_work_is_refused() -> None:
    receipt = good()
    outcome = replace(receipt.outcome, source="due")

    assert "another transaction's" in refused(replace(receipt, outcome=outcome))


def test_an_outcome_that_the_validators_did_not_sign_is_refused() -> None:
    receipt = good("receipt-refused.bin")
    outcome = Outcome("transaction", receipt.outcome.id, "ok", ())

    assert "not among the block's outcomes" in refused(replace(receipt, outcome=outcome))


def test_a_transaction_that_is_not_in_the_block_is_refused() -> None:
    receipt = good()
    header = replace(receipt.header, tx_root=log.EMPTY_ROOT)

    assert "does not stand in the block" in refused(certified(replace(receipt, header=header)))


@pytest.mark.parametrize("field", ["tx_index", "outcome_index"])
def test_another_place_in_the_tree_is_refused(field: str) -> None:
    receipt = good()
    for index in (*range(13), 2**63 - 1):
        if index != getattr(receipt, field):
            refused(replace(receipt, **{field: index}))


@pytest.mark.parametrize("count", [*range(1, 40), 2**63 - 1])
def test_another_size_of_the_trees_is_refused(count: int) -> None:
    # A path alone would still lead to the root: it is the certificate that binds the sizes.
    receipt = good()
    if count != receipt.header.tx_count:
        refused(replace(receipt, header=replace(receipt.header, tx_count=count)))
    if count != receipt.result.outcome_count:
        refused(replace(receipt, result=replace(receipt.result, outcome_count=count)))


def test_a_path_too_long_or_too_short_is_refused() -> None:
    receipt = good()

    assert "too long" in refused(replace(receipt, tx_path=(*receipt.tx_path, bytes(32))))
    assert "too short" in refused(replace(receipt, tx_path=receipt.tx_path[:-1]))
    assert "too long" in refused(replace(receipt, outcome_path=(*receipt.outcome_path, bytes(32))))


def test_a_certificate_about_another_block_or_result_is_refused() -> None:
    receipt = good()
    later = replace(receipt.header, time_ms=receipt.header.time_ms + 1)

    assert "another block" in refused(replace(receipt, header=later))
    assert "another block" in refused(replace(receipt, certificate=replace(receipt.certificate, height=4)))


def test_a_certificate_without_a_quorum_is_refused() -> None:
    receipt = good()
    certificate = receipt.certificate
    two = replace(certificate, signers=certificate.signers[:2], signatures=certificate.signatures[:2])

    assert "a quorum is 3" in refused(replace(receipt, certificate=two))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"validators_hash": bytes(32)}, "validators are not those of its epoch"),
        ({"epoch": 1}, "validators of epoch 1 are not known"),
    ],
)
def test_a_block_of_other_validators_than_those_of_its_epoch_is_refused(change: dict[str, Any], why: str) -> None:
    receipt = good()

    assert why in refused(certified(replace(receipt, header=replace(receipt.header, **change))))


def test_a_receipt_of_another_network_is_refused() -> None:
    receipt = good()
    header = replace(receipt.header, chain_id=bytes(32))

    assert "another network" in refused(certified(replace(receipt, header=header)))


def test_the_same_receipt_under_another_genesis_is_refused() -> None:
    genesis = vector_genesis()
    fewer = ValidatorSet(0, "pbft", genesis.validators.validators[1:])
    other = Genesis(genesis.body, bytes(32), genesis.parameters, fewer, genesis.header)

    with pytest.raises(ReceiptError, match="another network"):
        verify(good(), other)


def test_a_transaction_that_its_signer_did_not_sign_is_refused_though_a_quorum_says_ok() -> None:
    seed, genesis = bytes(range(32)), load_file(vector_bytes("genesis.json"))
    body = encode_body(
        genesis.chain_id, bytes(16), 1, "north", [public_key_of(seed)], "access.served", ServeAccess(bytes(32))
    )
    forged = encode(Envelope(body, (sign_body(body, bytes(32)),)))
    signed = encode(Envelope(body, (sign_body(body, seed),)))

    assert "does not verify" in refused(alone_in_its_block(forged, body))
    assert verify(alone_in_its_block(signed, body)).outcome.code == "ok"


def alone_in_its_block(envelope: bytes, body: bytes) -> Receipt:
    receipt = good()
    outcome = Outcome("transaction", transaction_id(body), "ok", ())
    header = replace(receipt.header, tx_root=envelope_leaf(envelope), tx_count=1, tx_bytes=len(envelope))
    result = Result(bytes(32), log.leaf_hash(encode(outcome)), 1, receipt.result.next_validators_hash)
    return certified(Receipt(0, envelope, 0, (), outcome, 0, (), result, header, receipt.certificate))
