"""A block of the past, for a ledger that began above it: proven by the block above, which is certified.

A header names its parent and the parent's result. So one who holds a certified block can check the one below it
without executing anything: header and result by their digests, transactions and outcomes by the roots that these
state. Signatures of transactions need no look: a quorum has looked.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from storage.blocks import Block
from storage.merkle import log
from storage.schema.block import (
    BLOCK_TX_MAX,
    OUTCOME,
    OUTCOME_BYTES_MAX,
    Certificate,
    CertificateError,
    Header,
    Outcome,
    Result,
    VoteType,
    certified,
    transactions_root,
    verify_certificate,
)
from storage.schema.codec import DecodeError, Form, Value
from storage.schema.epochs import EpochError, Epochs
from storage.schema.transaction import ENVELOPE_BYTES_MAX, Transaction, decode_transaction

PAST_BLOCK_BYTES_MAX = 7 << 20

_Envelope = Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)]
_Outcome = Annotated[bytes, msgspec.Meta(max_length=OUTCOME_BYTES_MAX)]


class PastBlock(Value, frozen=True):
    """A committed block with its outcomes, as it travels to one who cannot execute it."""

    header: Header
    certificate: Certificate
    result: Result
    envelopes: Annotated[tuple[_Envelope, ...], msgspec.Meta(max_length=BLOCK_TX_MAX)]
    outcomes: Annotated[tuple[_Outcome, ...], msgspec.Meta(max_length=2 * BLOCK_TX_MAX)]


PAST_BLOCK: Form[PastBlock] = Form(PastBlock, PAST_BLOCK_BYTES_MAX)


class HistoryMismatchError(Exception):
    """A block is not the one that the block above was built on."""

    code = "history.mismatch"


@dataclass(frozen=True, slots=True)
class Checked:
    """A block of the past that was checked, with its transactions and outcomes decoded."""

    block: Block
    transactions: tuple[Transaction, ...]
    outcomes: tuple[Outcome, ...]


def check_past_block(data: bytes, link: tuple[bytes, bytes], epochs: Epochs) -> Checked:
    """Check hostile bytes against the digests of header and result that the block above states.

    Raises:
        HistoryMismatchError: they are not that block; the message says which part is not.
    """
    try:
        past = PAST_BLOCK.decode(data)
        header, result, certificate = past.header, past.result, past.certificate
        if (header.digest(), result.digest()) != link:
            raise HistoryMismatchError("its header or result is not what the block above was built on")
        if not certified(header, result, certificate):
            raise HistoryMismatchError("its certificate is about another block")
        verify_certificate(certificate, VoteType.COMMIT, epochs.chain_id, epochs.of(certificate.epoch))
        transactions = tuple(decode_transaction(envelope) for envelope in past.envelopes)
        root = transactions_root([transaction.leaf for transaction in transactions])
        if (root, len(transactions)) != (header.tx_root, header.tx_count):
            raise HistoryMismatchError("its transactions are not those of its header")
        root = log.root([log.leaf_hash(outcome) for outcome in past.outcomes])
        if (root, len(past.outcomes)) != (result.outcomes_root, result.outcome_count):
            raise HistoryMismatchError("its outcomes are not those of its result")
        outcomes = tuple(OUTCOME.decode(outcome) for outcome in past.outcomes)
    except (DecodeError, CertificateError, EpochError) as error:
        raise HistoryMismatchError(str(error)) from None
    return Checked(Block(header, past.envelopes, certificate, result, past.outcomes), transactions, outcomes)
