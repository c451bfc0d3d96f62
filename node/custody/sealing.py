"""What is sealed to one X25519 key: a data key to one reader, a secret at rest or a location to its own member.

HPKE (RFC 9180, base mode: X25519, HKDF-SHA256, ChaCha20-Poly1305), with everything that the seal is meant for
bound into it as ``info``; pure, so that wallets use it too (docs/spec/records.md).
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from storage.schema.codec import Bytes32, DecodeError, Form, Uint, Value, encode

RECORD_VERSION = 0
LOCATION_VERSION = 0
BLOB_ID_BYTES = 16
_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class SealError(Exception):
    """What is sealed cannot be opened: meant for another key, for another purpose, or changed."""

    code = "seal.cannot_open"


class Release(Value, frozen=True):
    """What one handing over of a data key is for; it is bound into the seal, so that it opens for nothing else.

    ``recipient`` is the reader's DID (inception key), ``sealing_key`` the X25519 key the ledger holds for them.
    """

    chain_id: Bytes32
    access: Bytes32
    record: Bytes32
    version: Uint
    recipient: Bytes32
    sealing_key: Bytes32
    purpose: str
    commitment: Bytes32


class Location(Value, frozen=True):
    """Where a custodian keeps a record; on the ledger only as a pointer that nobody else can open.

    ``blob`` is the vault's id of the ciphertext, ``size_bytes`` the content's, ``date`` the clinical day
    (ISO 8601, or empty when unknown) of which the ledger shows the year only.
    """

    version: Uint
    blob: Annotated[bytes, msgspec.Meta(min_length=BLOB_ID_BYTES, max_length=BLOB_ID_BYTES)]
    size_bytes: Uint
    date: Annotated[str, msgspec.Meta(max_length=10)]


_LOCATION: Form[Location] = Form(Location, 256)


def seal_data_key(data_key: bytes, release: Release) -> bytes:
    """Seal a data key to its reader's registered sealing key; 80 bytes.

    Raises:
        SealError: the sealing key is not a sound X25519 key.
    """
    return _seal(release.sealing_key, data_key, b"CARETRACE/release/1" + encode(release))


def open_data_key(sealing_secret: bytes, sealed: bytes, release: Release) -> bytes:
    """Open a data key with the reader's X25519 secret.

    Raises:
        SealError: it was sealed to another key, or for another access, record, purpose, commitment or reader.
    """
    return _open(sealing_secret, sealed, b"CARETRACE/release/1" + encode(release))


def seal_at_rest(encryption_key: bytes, secret: bytes, subject: bytes) -> bytes:
    """Seal a secret to its own member's encryption key; ``subject`` names what it belongs to."""
    return _seal(encryption_key, secret, b"CARETRACE/at-rest/1" + subject)


def open_at_rest(encryption_secrets: Sequence[bytes], sealed: bytes, subject: bytes) -> bytes:
    """Open what ``seal_at_rest`` sealed, to one of the member's encryption keys of now and before.

    Raises:
        SealError: another key, another subject, or changed bytes.
    """
    return _open_with_any(encryption_secrets, sealed, b"CARETRACE/at-rest/1" + subject)


def seal_pointer(encryption_key: bytes, location: Location, commitment: bytes) -> bytes:
    """Write a location down as the encrypted pointer that is registered beside ``commitment``."""
    return _seal(encryption_key, encode(location), b"CARETRACE/pointer/1" + commitment)


def open_pointer(encryption_secrets: Sequence[bytes], pointer: bytes, commitment: bytes) -> Location:
    """Read a registered pointer of one's own, sealed to one of the member's encryption keys of now and before.

    Raises:
        SealError: it was not sealed to this member, or belongs to another commitment.
    """
    try:
        return _LOCATION.decode(_open_with_any(encryption_secrets, pointer, b"CARETRACE/pointer/1" + commitment))
    except DecodeError as error:
        raise SealError(f"the pointer holds no location: {error}") from None


def _seal(public_key: bytes, secret: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.encrypt(secret, X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError:
        raise SealError("not a sound X25519 key to seal to") from None


def _open_with_any(secret_keys: Sequence[bytes], sealed: bytes, info: bytes) -> bytes:
    *others, last = secret_keys
    for secret_key in others:
        with suppress(SealError):
            return _open(secret_key, sealed, info)
    return _open(last, sealed, info)


def _open(secret_key: bytes, sealed: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.decrypt(sealed, X25519PrivateKey.from_private_bytes(secret_key), info)
    except (InvalidTag, ValueError):
        raise SealError("sealed to another key or for something else, or changed on the way") from None
