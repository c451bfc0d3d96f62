"""A signed call: its bytes, its two names, and what can be checked without any state (docs/spec/transaction.md)."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from storage.schema.calls import ARGUMENTS_BYTES_MAX, METHODS, Method
from storage.schema.codec import (
    Bytes16,
    Bytes32,
    Bytes64,
    DecodeError,
    Form,
    MemberName,
    Uint,
    Value,
    encode,
    tagged_digest,
)
from storage.schema.signatures import sign, verify_signature

TRANSACTION_VERSION = 0
SIGNERS_MAX = 4
BODY_BYTES_MAX = ARGUMENTS_BYTES_MAX + 512
ENVELOPE_BYTES_MAX = BODY_BYTES_MAX + 512
LIFETIME_S_MAX = 24 * 3600
_Signers = msgspec.Meta(min_length=1, max_length=SIGNERS_MAX)


class Body(Value, frozen=True):
    """What the signers signed. ``not_after_s`` is the last block time, in seconds, at which it may be included."""

    version: Uint
    chain_id: Bytes32
    nonce: Bytes16
    not_after_s: Uint
    payer: MemberName
    signers: Annotated[tuple[Bytes32, ...], _Signers]
    method: Annotated[str, msgspec.Meta(max_length=64)]
    arguments: msgspec.Raw


class Envelope(Value, frozen=True):
    """A body's bytes and one signature for each of its signers, in their order."""

    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    signatures: Annotated[tuple[Bytes64, ...], _Signers]


BODY: Form[Body] = Form(Body, BODY_BYTES_MAX)
ENVELOPE: Form[Envelope] = Form(Envelope, ENVELOPE_BYTES_MAX)


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """A decoded, canonical transaction; its signatures are not yet verified.

    ``id`` names the body: a second valid signature over the same body is the same transaction. ``leaf`` names the
    whole envelope, and is its leaf hash in the block's tree.
    """

    envelope: bytes
    leaf: bytes
    id: bytes
    body_bytes: bytes
    body: Body
    method: Method
    arguments: Any
    signatures: tuple[bytes, ...]

    def verify_signatures(self) -> None:
        """Check every signature.

        Raises:
            SignatureError: one of them does not verify.
        """
        preimage = signing_preimage(self.body_bytes)
        for public_key, signature in zip(self.body.signers, self.signatures, strict=True):
            verify_signature(public_key, preimage, signature)


def signing_preimage(body: bytes) -> bytes:
    """Return what each signer signs for a body."""
    return b"CARETRACE/tx/1" + sha256(body).digest()


def transaction_id(body: bytes) -> bytes:
    """Return the 32-byte id of a body."""
    return tagged_digest(b"CARETRACE/txid/1", body)


def envelope_leaf(envelope: bytes) -> bytes:
    """Return the leaf of an envelope: its RFC 6962 leaf hash, so that proposals already hold the tree's leaves."""
    return sha256(b"\x00" + envelope).digest()


def derived_id(tx_id: bytes, index: int = 0) -> bytes:
    """Return the identifier of the ``index``-th thing that a transaction makes (a consent, a record, an access)."""
    return sha256(tx_id + index.to_bytes(4, "big")).digest()


def decode_transaction(envelope: bytes) -> Transaction:
    """Decode hostile bytes as a transaction of this version.

    Raises:
        DecodeError: not canonical, an unknown version or method, arguments of another form, signers not distinct
            or not as many as signatures.
    """
    outer = ENVELOPE.decode(envelope)
    body = BODY.decode(outer.body)
    if body.version != TRANSACTION_VERSION:
        raise DecodeError("tx.version", f"version {body.version}, this network takes {TRANSACTION_VERSION}")
    method = METHODS.get(body.method)
    if method is None:
        raise DecodeError("tx.method_unknown", "no such method")
    if len(body.signers) != len(outer.signatures) or len(set(body.signers)) != len(body.signers):
        raise DecodeError("tx.signers", "signers must be distinct, with one signature each")
    arguments = method.form.decode(bytes(body.arguments))
    return Transaction(
        envelope=envelope,
        leaf=envelope_leaf(envelope),
        id=transaction_id(outer.body),
        body_bytes=outer.body,
        body=body,
        method=method,
        arguments=arguments,
        signatures=outer.signatures,
    )


def encode_body(
    chain_id: bytes,
    nonce: bytes,
    not_after_s: int,
    payer: str,
    signers: Sequence[bytes],
    method: str,
    arguments: Value,
) -> bytes:
    """Write a body down, ready to be signed by every signer; ``nonce`` is 16 random bytes."""
    raw = msgspec.Raw(encode(arguments))
    return encode(Body(TRANSACTION_VERSION, chain_id, nonce, not_after_s, payer, tuple(signers), method, raw))


def sign_body(body: bytes, seed: bytes) -> bytes:
    """Sign a body with the seed of one of its signers' keys."""
    return sign(seed, signing_preimage(body))


def encode_envelope(body: bytes, signatures: Sequence[bytes]) -> bytes:
    """Put a body and its signatures together as they travel, are stored and proven."""
    return encode(Envelope(body, tuple(signatures)))
