"""The primitives of the second implementation: bytes, digests, trees, keys and names, from the specification alone.

Nothing here or beside it imports a module of CareTrace; msgpack, hashlib and PyNaCl are all it stands on.
"""

import base64
import hashlib
from typing import Any, NamedTuple

import msgpack
from nacl.bindings import crypto_scalarmult_base
from nacl.signing import SigningKey

ZERO_DIGEST = bytes(32)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def pack(value: Any) -> bytes:
    """docs/spec/encoding.md: every integer and length in its shortest form, bytes as bin, text as str."""
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# Keys. Every seed is the digest of a name, so that anyone can make the same keys again.


class Key(NamedTuple):
    """An Ed25519 key: its name, its 32-byte seed and its 32-byte public key."""

    name: str
    seed: bytes
    public: bytes

    def sign(self, message: bytes) -> bytes:
        return bytes(SigningKey(self.seed).sign(message).signature)


def named_bytes(name: str, size: int = 32) -> bytes:
    return sha256(b"caretrace test vector: " + name.encode())[:size]


def signing_key(name: str) -> Key:
    seed = named_bytes(name)
    return Key(name, seed, bytes(SigningKey(seed).verify_key))


def sealing_public(name: str) -> bytes:
    """An X25519 public key; its secret is the named bytes."""
    return bytes(crypto_scalarmult_base(named_bytes(name)))


# Names.


def base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\x00"))) + text


def did(public: bytes) -> str:
    """did:key of an Ed25519 key: multibase base58btc (z) over the multicodec prefix 0xed 0x01 and the key."""
    return "did:key:z" + base58(b"\xed\x01" + public)


def typed_id(letter: str, raw: bytes) -> str:
    return f"{letter}-{base64.b32encode(raw).decode().rstrip('=').lower()}"


def derived_id(transaction_id: bytes, index: int) -> bytes:
    return sha256(transaction_id, index.to_bytes(4, "big"))


# Trees, by the recursive definitions of RFC 6962, section 2.1.


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00", entry)


def split_of(count: int) -> int:
    """The largest power of two smaller than count."""
    return 1 << ((count - 1).bit_length() - 1)


def root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    k = split_of(len(leaves))
    return sha256(b"\x01", root(leaves[:k]), root(leaves[k:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split_of(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), root(leaves[k:])]
    return [*path(index - k, leaves[k:]), root(leaves[:k])]


# How values stand in the JSON files.


def shown(value: Any) -> Any:
    """Bytes as 0x and hexadecimal digits, everything else as JSON has it."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    return value
