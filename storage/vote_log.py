"""The vote log: the promises of a validator that must survive a crash, synced before anyone hears of them.

The file is written once in full, so that a sync later on moves no metadata. It has a header and two halves. Promises
of one height stand in one half; ``truncate`` begins the next generation in the other, with the records that must live
on, and so never overwrites what it might still need: whichever write a crash cuts short, one of both halves is whole.
It costs no sync of its own, for the new generation begins with the next append.

| frame | bytes | |
|---|---|---|
| magic | 4 | ``VOTE`` |
| checksum | 4 | CRC-32 over the salt in the file's header and all that follows here |
| length | 4 | of the payload |
| sequence | 4 | counts the frames of a generation from 0 |
| generation | 8 | counts the truncations from 1 |
| height | 8 | the last height whose promises are spent |
| payload | length | array of the records of one append |

Frames begin at multiples of 4096 bytes, so that no write touches a sector that holds an earlier promise. An append is
one frame and synced before the next, so only the last frame can be cut short: a broken frame with a whole one of the
same generation behind it is damage. The salt, which nobody else knows, keeps bytes that others chose from passing for
a frame of ours.
"""

import os
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zlib import crc32

import msgspec

from storage.folders import make_folder, rename_durably
from storage.schema.codec import encode

PAGE_BYTES = 4096
# A block with its votes takes about 0.6 MB; views that fail at one height add theirs, and the file grows when needed.
HALF_BYTES = 8 << 20
HALF_BYTES_MAX = 512 << 20
_MAGIC = b"VOTE"
_FILE_MAGIC = b"CARETRACE votes\x00"
_HEADER = struct.Struct(">16s16s32sQ")  # magic, salt, owner, size of a half; the checksum follows
_FRAME = struct.Struct(">IIQQ")  # what follows the checksum
_FRAME_BYTES = 8 + _FRAME.size

_decode_records = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode


class VoteLogError(Exception):
    """The vote log cannot tell what this validator has promised: it must not vote."""

    code = "votes.unusable"


class VoteLogDamagedError(VoteLogError):
    """The log is damaged before its end."""

    code = "votes.damaged"


class VoteLogLostError(VoteLogError):
    """There is no log where there was one."""

    code = "votes.lost"


class VoteLogForeignError(VoteLogError):
    """The log belongs to another key or another network."""

    code = "votes.foreign"


class VoteLogAheadError(VoteLogError):
    """The log knows of a height above the ledger's: the ledger was set back, and its promises there are spent.

    Attributes:
        height: where the ledger must stand again before this log says all that was promised.
    """

    code = "votes.ahead"

    def __init__(self, height: int, ledger_height: int) -> None:
        """Say where both end."""
        super().__init__(f"it knows of block {height}, and the ledger ends at {ledger_height}")
        self.height = height


class VoteLogFullError(VoteLogError):
    """The promises of one height take more room than the log may grow to."""

    code = "votes.full"


@dataclass(frozen=True, slots=True)
class _Frame:
    sequence: int
    generation: int
    spent_height: int
    records: tuple[bytes, ...]
    size_bytes: int  # in whole pages


class VoteLog:
    """One open vote log; one process at a time, one thread at a time."""

    def __init__(self, path: Path, owner: bytes | None, file: int, ledger_height: int) -> None:
        """Read an open file, of any owner if none is given; ``open`` is the way to get here for who writes."""
        self._path = path
        self._file = file
        self._owner, self._salt, self._half_bytes = _read_header(file)
        if owner not in (None, self._owner):
            raise VoteLogForeignError("the vote log belongs to another key or another network")
        self._generation = self._next_sequence = self._next_at = 0
        self._records: list[bytes] = []
        self._spent_height = ledger_height
        # Whether the next frame begins a generation.
        self._is_truncated = True
        self._has_failed = False
        self.synced_append_count = 0
        self._recover(ledger_height)

    @classmethod
    def open(cls, path: Path, owner: bytes, *, ledger_height: int, must_exist: bool) -> Self:
        """Open the log of a validator, or begin it.

        ``owner`` is 32 bytes that name network and node key. ``must_exist`` says that one was begun here before,
        which the ledger remembers.

        Raises:
            VoteLogError: what was promised is not known, as the subclass says.
            OSError: the disk fails.
        """
        if not path.exists():
            if must_exist:
                raise VoteLogLostError(f"{path.name} is gone")
            make_folder(path.parent)
            _write_anew(path, owner, secrets.token_bytes(16), HALF_BYTES, b"")
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(path, owner, file, ledger_height)
        except BaseException:
            os.close(file)
            raise

    @property
    def records(self) -> tuple[bytes, ...]:
        """Everything that stands, in order."""
        return tuple(self._records)

    def append(self, records: Sequence[bytes]) -> None:
        """Write records down, all or none, and return once they are on the disk. Other threads run meanwhile.

        Raises:
            VoteLogFullError: too much was promised at one height.
            OSError: the disk fails; nothing can be appended any more, for what it holds is not known.
        """
        assert not self._has_failed, "after a failed write the node stops"
        generation, sequence, at, written = self._generation, self._next_sequence, self._next_at, records
        if self._is_truncated:
            generation, sequence, at, written = generation + 1, 0, 0, [*self._records, *records]
        frame = _encode_frame(self._salt, sequence, generation, self._spent_height, written)
        self._has_failed = True
        if at + len(frame) > self._half_bytes:
            generation, sequence, at, frame = self._grow([*self._records, *records])
        else:
            _write(self._file, self._offset(generation) + at, frame)
            os.fdatasync(self._file)
        self._has_failed = False
        self._generation, self._next_sequence, self._next_at = generation, sequence + 1, at + _whole_pages(len(frame))
        self._is_truncated = False
        self._records += records
        self.synced_append_count += 1

    def truncate(self, records: Sequence[bytes], height: int) -> None:
        """Let everything go but these records: up to ``height``, what was promised is spent.

        Writes nothing; until the next append the old records would be found after a crash, with these among them.
        """
        self._records = list(records)
        self._spent_height = height
        self._is_truncated = True

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _offset(self, generation: int) -> int:
        return PAGE_BYTES + generation % 2 * self._half_bytes

    def _recover(self, ledger_height: int) -> None:
        halves = [os.pread(self._file, self._half_bytes, self._offset(half)) for half in (0, 1)]
        if any(len(half) < self._half_bytes for half in halves):
            raise VoteLogDamagedError(f"{self._path.name} was cut short")
        frames = max((self._walk(half, index) for index, half in enumerate(halves)), key=_generation_of)
        generation = _generation_of(frames)
        at = sum(frame.size_bytes for frame in frames)
        for index, half in enumerate(halves):
            behind = at if index == generation % 2 else 0
            for place in range(behind, self._half_bytes, PAGE_BYTES):
                if self._holds_frame_of(half, place, max(1, generation)):
                    raise VoteLogDamagedError(f"{self._path.name} is damaged before its end")
        if not frames:
            return
        self._generation, self._next_sequence, self._next_at = generation, len(frames), at
        self._records = [record for frame in frames for record in frame.records]
        self._is_truncated = False
        self._spent_height = frames[-1].spent_height
        if self._spent_height > ledger_height:
            raise VoteLogAheadError(self._spent_height, ledger_height)

    def _walk(self, half: bytes, index: int) -> list[_Frame]:
        frames: list[_Frame] = []
        at = 0
        while (frame := _decode_frame(self._salt, half, at)) is not None:
            generation = frames[0].generation if frames else frame.generation
            if (frame.generation, frame.sequence) != (generation, len(frames)) or generation % 2 != index:
                break
            frames.append(frame)
            at += frame.size_bytes
        return frames

    def _holds_frame_of(self, half: bytes, at: int, generation_min: int) -> bool:
        if half[at : at + 4] != _MAGIC or int.from_bytes(half[at + 16 : at + 24], "big") < generation_min:
            return False
        return _decode_frame(self._salt, half, at) is not None

    def _grow(self, records: Sequence[bytes]) -> tuple[int, int, int, bytes]:
        salt = secrets.token_bytes(16)
        frame = _encode_frame(salt, 0, 1, self._spent_height, records)
        half_bytes = self._half_bytes
        while half_bytes < 2 * len(frame):
            half_bytes *= 2
        if half_bytes > HALF_BYTES_MAX:
            raise VoteLogFullError(f"{len(frame)} bytes were promised at one height")
        _write_anew(self._path, self._owner, salt, half_bytes, frame)
        os.close(self._file)
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._salt, self._half_bytes = salt, half_bytes
        return 1, 0, 0, frame


def _generation_of(frames: list[_Frame]) -> int:
    return frames[0].generation if frames else 0


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def _encode_frame(salt: bytes, sequence: int, generation: int, spent_height: int, records: Sequence[bytes]) -> bytes:
    payload = encode(tuple(records))
    covered = _FRAME.pack(len(payload), sequence, generation, spent_height) + payload
    return _MAGIC + crc32(covered, crc32(salt)).to_bytes(4, "big") + covered


def _decode_frame(salt: bytes, half: bytes, at: int) -> _Frame | None:
    if half[at : at + 4] != _MAGIC:
        return None
    length, sequence, generation, spent_height = _FRAME.unpack_from(half, at + 8)
    end = at + _FRAME_BYTES + length
    if end > len(half) or crc32(half[at + 8 : end], crc32(salt)) != int.from_bytes(half[at + 4 : at + 8], "big"):
        return None
    records = _decode_records(half[at + _FRAME_BYTES : end])
    return _Frame(sequence, generation, spent_height, records, _whole_pages(end - at))


def _read_header(file: int) -> tuple[bytes, bytes, int]:
    header = os.pread(file, _HEADER.size + 4, 0)
    if len(header) != _HEADER.size + 4 or crc32(header[:-4]) != int.from_bytes(header[-4:], "big"):
        raise VoteLogDamagedError("the header of the vote log is damaged")
    magic, salt, owner, half_bytes = _HEADER.unpack(header[:-4])
    if magic != _FILE_MAGIC:
        raise VoteLogForeignError("the vote log is of another kind")
    return owner, salt, half_bytes


def _write_anew(path: Path, owner: bytes, salt: bytes, half_bytes: int, frame: bytes) -> None:
    """Write a whole new file, its first generation beginning with ``frame``, and only then put it in place."""
    header = _HEADER.pack(_FILE_MAGIC, salt, owner, half_bytes)
    header += crc32(header).to_bytes(4, "big")
    begun = path.with_name(path.name + ".new")
    file = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(file, 0, header.ljust(PAGE_BYTES, b"\0") + bytes(half_bytes) + frame.ljust(half_bytes, b"\0"))
        os.fsync(file)
    finally:
        os.close(file)
    rename_durably(begun, path)


def _write(file: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
