"""The receipt: one small file that proves a transaction and its outcome to anyone, without node or network.

What the verifier trusts is the genesis file alone. From it follow the validators, those of later epochs by the chain
of epochs; a quorum of them signed header and result; the header binds the transaction, the result binds the outcome
(docs/spec/receipt.md).
"""

from typing import Annotated

import msgspec

from storage.merkle.log import HASH_BYTES, PATH_HASHES_MAX, ProofError, leaf_hash, root_from_path
from storage.schema.block import (
    BLOCK_VERSION,
    Certificate,
    CertificateError,
    Header,
    Outcome,
    Result,
    VoteType,
    certified,
    verify_certificate,
)
from storage.schema.codec import Bytes32, DecodeError, Form, Uint, Value, encode
from storage.schema.epochs import EpochError, Epochs
from storage.schema.genesis import Genesis
from storage.schema.signatures import SignatureError
from storage.schema.transaction import ENVELOPE_BYTES_MAX, Transaction, decode_transaction
from storage.schema.validators import ValidatorSet

RECEIPT_VERSION = 0
RECEIPT_BYTES_MAX = 64 * 1024

_Path = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)]
assert HASH_BYTES == 32


class ReceiptError(Exception):
    """A receipt does not prove what it states; the message names the first step that fails."""

    code = "receipt.invalid"


class Receipt(Value, frozen=True):
    """A transaction, its outcome, and the way from both to a quorum of signatures."""

    version: Uint
    envelope: Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)]
    tx_index: Uint
    tx_path: _Path
    outcome: Outcome
    outcome_index: Uint
    outcome_path: _Path
    result: Result
    header: Header
    certificate: Certificate


RECEIPT: Form[Receipt] = Form(Receipt, RECEIPT_BYTES_MAX)


class Proven(msgspec.Struct, frozen=True):
    """What a valid receipt proves."""

    transaction: Transaction
    outcome: Outcome
    header: Header
    signers: tuple[str, ...]
    quorum: int


def verify_receipt(data: bytes, genesis: Genesis, epochs: Epochs | None = None) -> Proven:
    """Check a receipt's bytes against the genesis of its network, and the chain of epochs where validators changed.

    Raises:
        ReceiptError: names the step that failed; nothing of the receipt may then be believed.
    """
    try:
        receipt = RECEIPT.decode(data)
        if receipt.version != RECEIPT_VERSION:
            raise ReceiptError(f"receipt version {receipt.version} is not known here")
        transaction = decode_transaction(receipt.envelope)
        _check_transaction(receipt, transaction, genesis)
        _check_outcome(receipt, transaction)
        validators = (epochs or Epochs(genesis)).of(receipt.header.epoch)
        _check_certificate(receipt, genesis.chain_id, validators)
    except (DecodeError, ProofError, CertificateError, EpochError, SignatureError) as error:
        raise ReceiptError(str(error)) from None
    names = [validators.validators[signer].name for signer in receipt.certificate.signers]
    return Proven(transaction, receipt.outcome, receipt.header, tuple(names), validators.quorum)


def _check_transaction(receipt: Receipt, transaction: Transaction, genesis: Genesis) -> None:
    header = receipt.header
    if header.version != BLOCK_VERSION:
        raise ReceiptError(f"block version {header.version} is not known here")
    if transaction.body.chain_id != genesis.chain_id or header.chain_id != genesis.chain_id:
        raise ReceiptError("it belongs to another network")
    transaction.verify_signatures()
    if root_from_path(transaction.leaf, receipt.tx_index, header.tx_count, receipt.tx_path) != header.tx_root:
        raise ReceiptError("the transaction does not stand in the block")


def _check_outcome(receipt: Receipt, transaction: Transaction) -> None:
    outcome, result = receipt.outcome, receipt.result
    if outcome.source != "transaction" or outcome.id != transaction.id:
        raise ReceiptError("the outcome is another transaction's")
    leaf = leaf_hash(encode(outcome))
    reached = root_from_path(leaf, receipt.outcome_index, result.outcome_count, receipt.outcome_path)
    if reached != result.outcomes_root:
        raise ReceiptError("the outcome is not among the block's outcomes")


def _check_certificate(receipt: Receipt, chain_id: bytes, validators: ValidatorSet) -> None:
    if receipt.header.validators_hash != validators.digest():
        raise ReceiptError("the block's validators are not those of its epoch")
    if not certified(receipt.header, receipt.result, receipt.certificate):
        raise ReceiptError("the certificate is about another block or another result")
    verify_certificate(receipt.certificate, VoteType.COMMIT, chain_id, validators)
