"""Blocks and what is voted about them: header, vote preimage, certificate, result and outcome (docs/spec/block.md)."""

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Literal

import msgspec

from storage.merkle import log
from storage.schema.codec import Bytes32, Bytes64, Form, MemberName, Uint, Value, encode, tagged_digest
from storage.schema.events import Event
from storage.schema.signatures import SignatureError, verify_signature
from storage.schema.transaction import ENVELOPE_BYTES_MAX
from storage.schema.validators import VALIDATORS_MAX, ValidatorSet

ZERO_DIGEST = bytes(32)
BLOCK_VERSION = 0
HEADER_BYTES_MAX = 1024
RESULT_BYTES_MAX = 256
OUTCOME_BYTES_MAX = 8 * 1024
CERTIFICATE_BYTES_MAX = 256 + VALIDATORS_MAX * 72
# What genesis may allow a block to hold at most: bodies, proposals and answers to who catches up are sized for it.
BLOCK_BYTES_MAX = 1 << 20
BLOCK_TX_MAX = 10_000
CERTIFIED_BLOCK_BYTES_MAX = 2 * BLOCK_BYTES_MAX
_VOTE = struct.Struct(">16s32sQBQQ32s32s")


class Header(Value, frozen=True):
    """What a block is. Its digest stays the same when the block is proposed again in a later view.

    ``parent`` and ``parent_result`` are the digest and the result of the block below; ``first_view`` is the view
    in which the block was first proposed, by ``proposer``; ``history_root`` covers digest and result of every
    block below, from height 0.
    """

    version: Uint
    chain_id: Bytes32
    epoch: Uint
    height: Uint
    parent: Bytes32
    parent_result: Bytes32
    time_ms: Uint
    proposer: MemberName
    first_view: Uint
    tx_root: Bytes32
    tx_count: Uint
    tx_bytes: Uint
    validators_hash: Bytes32
    history_root: Bytes32

    def digest(self) -> bytes:
        """Return what votes and the next block name this block by."""
        return tagged_digest(b"CARETRACE/header/1", encode(self))


class VoteType(IntEnum):
    """The three statements that share one preimage; a proposal is the primary's PREPARE."""

    PROPOSAL = 1
    PREPARE = 2
    COMMIT = 3


def vote_preimage(
    chain_id: bytes,
    epoch: int,
    vote_type: int,
    view: int,
    height: int,
    digest: bytes,
    result: bytes = ZERO_DIGEST,
) -> bytes:
    """Return the 137 bytes that a validator signs; ``result`` is zero before COMMIT."""
    return _VOTE.pack(b"CARETRACE/vote/1", chain_id, epoch, vote_type, view, height, digest, result)


class Result(Value, frozen=True):
    """What executing a block gave; a COMMIT vote signs the digest of it together with the block."""

    state_root: Bytes32
    outcomes_root: Bytes32
    outcome_count: Uint
    next_validators_hash: Bytes32

    def digest(self) -> bytes:
        """Return the result as votes and headers name it."""
        return tagged_digest(b"CARETRACE/result/1", encode(self))


class Outcome(Value, frozen=True):
    """What the ledger says of one executed thing: ``ok`` with events, or the code of a refusal.

    ``source`` is ``transaction``, with the transaction's id, or ``due`` for work that the ledger does by itself.
    """

    source: Literal["transaction", "due"]
    id: Bytes32
    code: Annotated[str, msgspec.Meta(pattern=r"\A[a-z_.]{1,64}\Z")]
    events: tuple[Event, ...]


class CertificateError(Exception):
    """A certificate does not prove what it states."""

    code = "certificate.invalid"


class Certificate(Value, frozen=True):
    """A quorum of signatures over one statement: prepared (result zero, PREPARE) or committed (COMMIT).

    ``signers`` are positions in the validator set of ``epoch``, strictly ascending; ``signatures`` follow them.
    """

    epoch: Uint
    view: Uint
    height: Uint
    digest: Bytes32
    result: Bytes32
    signers: Annotated[tuple[Uint, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]
    signatures: Annotated[tuple[Bytes64, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]


class CertifiedBlock(Value, frozen=True):
    """A committed block as it travels to one who catches up: executing it must give the certified result."""

    header: Header
    certificate: Certificate
    result: Result
    envelopes: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)], ...], msgspec.Meta(max_length=BLOCK_TX_MAX)
    ]


HEADER: Form[Header] = Form(Header, HEADER_BYTES_MAX)
OUTCOME: Form[Outcome] = Form(Outcome, OUTCOME_BYTES_MAX)
CERTIFICATE: Form[Certificate] = Form(Certificate, CERTIFICATE_BYTES_MAX)
RESULT: Form[Result] = Form(Result, RESULT_BYTES_MAX)
CERTIFIED_BLOCK: Form[CertifiedBlock] = Form(CertifiedBlock, CERTIFIED_BLOCK_BYTES_MAX)


def decode_certified_block(data: bytes) -> CertifiedBlock:
    """Decode a peer's block; nothing of it is checked yet but its form.

    Raises:
        DecodeError: too large, malformed or not canonical.
    """
    return CERTIFIED_BLOCK.decode(data)


def verify_certificate(
    certificate: Certificate, vote_type: VoteType, chain_id: bytes, validators: ValidatorSet
) -> None:
    """Check that a quorum of distinct members of the epoch's set signed the certificate's statement.

    A prepared certificate may mix the primary's PROPOSAL with PREPAREs: ``vote_type`` PREPARE accepts, for each
    signer, the one or the other.

    Raises:
        CertificateError: wrong epoch, signers not distinct or unknown, too few, or a signature that fails.
    """
    if certificate.epoch != validators.epoch:
        raise CertificateError(f"of epoch {certificate.epoch}, not {validators.epoch}")
    signers = certificate.signers
    if len(signers) != len(certificate.signatures) or len(signers) < validators.quorum:
        raise CertificateError(f"{len(signers)} signers, a quorum is {validators.quorum}")
    if any(a >= b for a, b in pairwise(signers)) or signers[-1] >= len(validators.validators):
        raise CertificateError("signers are not distinct members in ascending order")
    if (certificate.result != ZERO_DIGEST) != (vote_type is VoteType.COMMIT):
        raise CertificateError("a result stands in a COMMIT and nowhere else")
    statement = (certificate.view, certificate.height, certificate.digest, certificate.result)
    types = (VoteType.COMMIT,) if vote_type is VoteType.COMMIT else (VoteType.PREPARE, VoteType.PROPOSAL)
    preimages = [vote_preimage(chain_id, certificate.epoch, kind, *statement) for kind in types]
    for signer, signature in zip(signers, certificate.signatures, strict=True):
        _verify_any(validators.validators[signer].node_key, preimages, signature)


def certified(header: Header, result: Result, certificate: Certificate) -> bool:
    """Tell whether a certificate is about this header and this result; whether it holds is another question."""
    stated = (certificate.epoch, certificate.height, certificate.digest, certificate.result)
    return stated == (header.epoch, header.height, header.digest(), result.digest())


def _verify_any(node_key: bytes, preimages: Sequence[bytes], signature: bytes) -> None:
    for preimage in preimages:
        try:
            verify_signature(node_key, preimage, signature)
        except SignatureError:
            continue
        return
    raise CertificateError("a signature does not verify")


def history_leaf(digest: bytes, result: bytes) -> bytes:
    """Return the leaf that one block adds to the history tree."""
    return log.leaf_hash(digest + result)


def transactions_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root by which a header names the leaves of its envelopes, in order."""
    return log.root(leaves)
