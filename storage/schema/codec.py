"""The one encoding: MessagePack arrays of closed, typed structs, accepted only in their one canonical form.

What is signed and hashed are the raw bytes. Bytes from outside are accepted only if they decode to the declared
type and encode again to exactly the same bytes, so that no value has two encodings (docs/spec/encoding.md).
"""

from base64 import b32decode, b32encode
from hashlib import sha256
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgpack
import msgspec

UINT_MAX = 2**63 - 1
PLACE_LENGTH_MAX = 64

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Uint = Annotated[int, msgspec.Meta(ge=0, le=UINT_MAX)]
MemberName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9-]{0,31}\Z")]
Address = Annotated[str, msgspec.Meta(pattern=r"\A/[A-Za-z0-9._:%/-]{1,255}\Z")]
Addresses = Annotated[tuple[Address, ...], msgspec.Meta(max_length=8)]
Role = Literal["observer", "validator"]

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class DecodeError(ValueError):
    """Bytes from outside are not one canonical value of the type that was expected.

    Attributes:
        code: stable refusal code: ``bytes.malformed``, ``bytes.too_large``, ``id.malformed``, and of transactions
            ``tx.version``, ``tx.method_unknown``, ``tx.signers``.
    """

    def __init__(self, code: str, detail: str) -> None:
        """Say which rule the bytes broke; the detail never repeats the bytes."""
        super().__init__(detail)
        self.code = code


class Value(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A closed record that travels as an array of its fields, in order."""


def encode(value: Any) -> bytes:
    """Encode a value in its canonical form."""
    return _encode(value)


class Form(Generic[T]):
    """How one type stands in bytes, and how large it may be."""

    def __init__(self, value_type: Any, size_bytes_max: int) -> None:
        """Prepare a decoder for ``value_type``, which refuses inputs longer than ``size_bytes_max``."""
        self.size_bytes_max = size_bytes_max
        self._decode = msgspec.msgpack.Decoder(value_type).decode

    def decode(self, data: bytes) -> T:
        """Decode hostile bytes.

        Raises:
            DecodeError: too long, not of this type, trailing bytes, or not canonical.
        """
        if len(data) > self.size_bytes_max:
            raise DecodeError("bytes.too_large", f"{len(data)} bytes, at most {self.size_bytes_max}")
        try:
            value: T = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError("bytes.malformed", _without_content(str(error))) from None
        except RecursionError:
            # Where the limit lies depends on the caller's stack. It decides nothing: every type is closed and of
            # bounded depth, so what is too deep for this stack is refused on every other node as well.
            raise DecodeError("bytes.malformed", "nested too deep") from None
        if _encode(value) != data:
            raise DecodeError("bytes.malformed", "not the canonical encoding of its value")
        return value


def _without_content(message: str) -> str:
    # Some messages of msgspec quote the value, which is the sender's: it may be secret, or made for a terminal.
    # The place, "$[0][11]", may be as long as the sender made its nesting.
    words, at, place = message.partition(" - at ")
    if words.startswith("Invalid"):
        words = "not one of the values allowed"
    return "not UTF-8" if words.startswith("'utf-8'") else f"{words}{at}{place[:PLACE_LENGTH_MAX]}"


class CodecRuleError(Exception):
    """This machine's encoder writes a value otherwise than the chain does; it must not vote."""

    code = "codec.rule_differs"


def self_test() -> None:
    """Check, before a node starts, that the encoder writes the shortest forms, as a second library writes them too.

    Two releases of one library that differ here would split the network as surely as two signature libraries.

    Raises:
        CodecRuleError: the two differ about an edge of the format.
    """
    edges = [2**bits + offset for bits in (5, 7, 8, 16, 32) for offset in (-1, 0)]
    texts = [letter * size for letter in ("a", "é") for size in (0, 31, 32, 255, 256, 65_536)]
    values: list[Any] = [None, False, True, 0, UINT_MAX, *edges, *texts, *(text.encode() for text in texts)]
    values += [tuple(range(size)) for size in (0, 15, 16, 65_536)]
    for value in values:
        if _encode(value) != msgpack.packb(value, use_bin_type=True):
            raise CodecRuleError("msgspec and msgpack write a value differently")


def tagged_digest(tag: bytes, *parts: bytes) -> bytes:
    """SHA-256 over a domain tag and fixed-width parts: a digest of one kind never serves as another."""
    return sha256(b"".join((tag, *parts))).digest()


def typed_id(prefix: str, raw: bytes) -> str:
    """Write a 32-byte identifier for people: a letter for its kind and lower-case base32, such as ``c-mfrg…``."""
    return f"{prefix}-{b32encode(raw).decode().rstrip('=').lower()}"


def parse_typed_id(prefix: str, text: str) -> bytes:
    """Read a whole typed identifier back.

    Raises:
        DecodeError: another kind, another length, or not base32.
    """
    head, _, digits = text.partition("-")
    padded = digits.upper() + "=" * (-len(digits) % 8)
    try:
        raw = b32decode(padded)
    except ValueError:
        raw = b""
    if head != prefix or len(raw) != 32 or typed_id(prefix, raw) != text:
        raise DecodeError("id.malformed", f"not an identifier of the form {prefix}-…")
    return raw
