"""The blocks as they are stored: header, commit certificate, result, envelopes and outcomes of each height."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from storage.database import AREAS, BODY, CERTIFICATE, HEADER, META, OUTCOMES, RESULT, DatabaseCorruptError, Reader
from storage.schema import block as schema
from storage.schema.block import Certificate, Header, Outcome, Result
from storage.schema.codec import DecodeError, Form, encode

# What is stored was bounded when the block was checked.
_LIST: Form[tuple[bytes, ...]] = Form(tuple[bytes, ...], 1 << 30)
# The lowest block that is here, where a ledger began with a snapshot.
FROM = META + b"from"
_ARRAY_OF_FOUR, _ARRAY_OF_FIVE = b"\x94", b"\x95"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block:
    """A committed block with what executing it gave; outcomes stand encoded, in the order of execution."""

    header: Header
    envelopes: tuple[bytes, ...]
    certificate: Certificate
    result: Result
    outcomes: tuple[bytes, ...]


def height_key(height: int) -> bytes:
    """Return a height as keys hold it."""
    return height.to_bytes(8, "big")


class Blocks:
    """Reads blocks, and adds one to a batch; only for heights up to the head."""

    def __init__(self, reader: Reader) -> None:
        """Read blocks from the database or from one moment of it."""
        self._reader = reader

    def header(self, height: int) -> Header:
        """Return a header.

        Raises:
            DatabaseCorruptError: it is missing or not a header; so for every method here.
        """
        return self._decoded(HEADER, height, schema.HEADER.decode)

    def certificate(self, height: int) -> Certificate:
        """Return the commit certificate of a height above 0."""
        return self._decoded(CERTIFICATE, height, schema.CERTIFICATE.decode)

    def result(self, height: int) -> Result:
        """Return what executing a block gave."""
        return self._decoded(RESULT, height, schema.RESULT.decode)

    def envelopes(self, height: int) -> tuple[bytes, ...]:
        """Return a block's transactions, in order."""
        return self._decoded(BODY, height, _LIST.decode)

    def outcomes(self, height: int) -> tuple[bytes, ...]:
        """Return a block's encoded outcomes, in the order of execution."""
        return self._decoded(OUTCOMES, height, _LIST.decode)

    def outcome(self, height: int, index: int) -> Outcome:
        """Return one decoded outcome."""
        try:
            return schema.OUTCOME.decode(self.outcomes(height)[index])
        except (DecodeError, IndexError) as error:
            raise DatabaseCorruptError(AREAS[OUTCOMES], str(error), height) from None

    def block(self, height: int) -> Block:
        """Return everything of a height above 0."""
        return Block(
            self.header(height),
            self.envelopes(height),
            self.certificate(height),
            self.result(height),
            self.outcomes(height),
        )

    def encoded_block(self, height: int) -> bytes:
        """Return a height above 0 as an encoded ``CertifiedBlock``, for one who catches up."""
        # Each part is stored in its canonical form, so the whole is the four of them behind an array's first byte.
        parts = (self._stored(area, height) for area in (HEADER, CERTIFICATE, RESULT, BODY))
        return _ARRAY_OF_FOUR + b"".join(parts)

    def encoded_whole_block(self, height: int) -> bytes:
        """Return a height above 0 as an encoded ``storage.history.PastBlock``, for one who lacks its history."""
        parts = (self._stored(area, height) for area in (HEADER, CERTIFICATE, RESULT, BODY, OUTCOMES))
        return _ARRAY_OF_FIVE + b"".join(parts)

    def _decoded(self, area: bytes, height: int, decode: Callable[[bytes], T]) -> T:
        try:
            return decode(self._stored(area, height))
        except DecodeError as error:
            raise DatabaseCorruptError(AREAS[area], str(error), height) from None

    def _stored(self, area: bytes, height: int) -> bytes:
        stored = self._reader.get(area + height_key(height))
        if stored is None:
            raise DatabaseCorruptError(AREAS[area], "missing", height)
        return stored


def stage_block(
    batch: Any,
    header: Header,
    result: Result,
    envelopes: tuple[bytes, ...],
    outcomes: tuple[bytes, ...],
    certificate: Certificate | None,
) -> None:
    """Add a block to the batch that commits it; only height 0 has no certificate."""
    key = height_key(header.height)
    batch.put(HEADER + key, encode(header))
    batch.put(RESULT + key, encode(result))
    batch.put(BODY + key, encode(envelopes))
    batch.put(OUTCOMES + key, encode(outcomes))
    if certificate is not None:
        batch.put(CERTIFICATE + key, encode(certificate))


def load_history_from(reader: Reader) -> int:
    """Read from which height on all blocks are here: 1, or above the snapshot that the ledger began with.

    Raises:
        DatabaseCorruptError: it is no height above 1.
    """
    stored = reader.get(FROM)
    if stored is None:
        return 1
    height = int.from_bytes(stored, "big")
    if len(stored) != 8 or height <= 1:
        raise DatabaseCorruptError(AREAS[META], "it says that the blocks begin where none can")
    return height
