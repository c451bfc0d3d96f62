"""What LevelDB does not check by itself in its files, so that no changed byte of them goes unnoticed.

LevelDB verifies the checksum of each record of a log and of each block of a table. Four things are left:

* At the end of a log, a record that is longer than the rest of the file is taken for one that a crash cut short, and
  dropped without a word. A changed length looks the same, and drops everything behind it in the last 32 KiB. But
  what a crash cut short fails its checksum at every length, and what has a changed length passes it at the true one.
* A log that is gone is not missed.
* Filter blocks, the block that points to them, and padding are not needed to read, and errors there are passed over.
* Tables that a changed or shortened manifest does not name are deleted when the folder is opened.

Formats: LevelDB's ``doc/log_format.md`` and ``doc/table_format.md``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

_LOG_BLOCK_BYTES = 32 * 1024
_LOG_HEADER_BYTES = 7
_BLOCK_TRAILER_BYTES = 5
_FOOTER_BYTES = 48
_HANDLES_BYTES_MAX = 40
_TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_MANIFEST = re.compile(rb"\AMANIFEST-[0-9]{6,}\n\Z")


class FileDamageError(Exception):
    """A file of the database is not as LevelDB wrote it."""

    code = "database.files_damaged"


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def _masked(crc: int) -> bytes:
    crc ^= 0xFFFFFFFF
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _crc32c(data: bytes) -> bytes:
    """Return the checksum (Castagnoli) of data in the masked form in which LevelDB stores it."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return _masked(crc)


def _passes_at_some_length(stored: bytes, data: bytes) -> bool:
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        if _masked(crc) == stored:
            return True
    return False


def check_before_open(folder: Path) -> None:
    """Check, in milliseconds, what LevelDB would lose by opening the folder; a folder that is not there passes.

    Raises:
        FileDamageError: names the file.
    """
    current = folder / "CURRENT"
    if not current.exists():
        # LevelDB makes it before the first log: a folder without it is new, or has lost it, and would be begun anew.
        if any(folder.glob("*.log")) or any(folder.glob("*.ldb")):
            raise FileDamageError("CURRENT is gone")
        return
    named = current.read_bytes()
    if not _MANIFEST.match(named) or not (folder / named.decode().strip()).exists():
        raise FileDamageError("CURRENT does not name a manifest")
    logs = sorted(folder.glob("*.log"))
    if not logs:
        raise FileDamageError("the log is gone")
    for log in [folder / named.decode().strip(), *logs]:
        _check_log_end(log)


def _check_log_end(path: Path) -> None:
    data = _read(path, last_block_only=True)
    at = 0
    while at + _LOG_HEADER_BYTES <= len(data):
        end = at + _LOG_HEADER_BYTES + int.from_bytes(data[at + 4 : at + 6], "little")
        if end > len(data):
            if _passes_at_some_length(data[at : at + 4], data[at + 6 :]):
                raise FileDamageError(f"{path.name}: the length of its last record was changed")
            return
        at = end


def _read(path: Path, *, last_block_only: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            if last_block_only:
                size = file.seek(0, 2)
                file.seek(size - size % _LOG_BLOCK_BYTES)
            return file.read()
    except FileNotFoundError:
        return b""  # An open database has deleted it since we listed the folder.


def check_logs(folder: Path) -> None:
    """Check every byte of the logs and of the manifest; about a second for 16 MiB.

    Raises:
        FileDamageError: names the file.
    """
    check_before_open(folder)
    for path in sorted([*folder.glob("*.log"), *folder.glob("MANIFEST-*")]):
        _check_log(path.name, _read(path))


def check_tables(folder: Path, names: Iterable[str]) -> None:
    """Check what reading all entries of these tables does not; about a second for ten million entries.

    Other tables in the folder are leftovers of an interrupted compaction, which LevelDB deletes in time.

    Raises:
        FileDamageError: names the file.
    """
    for name in names:
        path = folder / name
        data = _read(path)
        # An open database may have merged the table into others since it named it.
        if data or path.exists():
            _check_table(name, data)


def _check_log(name: str, data: bytes) -> None:
    for start in range(0, len(data), _LOG_BLOCK_BYTES):
        block, at = data[start : start + _LOG_BLOCK_BYTES], 0
        while at + _LOG_HEADER_BYTES <= len(block):
            end = at + _LOG_HEADER_BYTES + int.from_bytes(block[at + 4 : at + 6], "little")
            if end > len(block) and start + len(block) == len(data):
                return  # Cut short by a crash: its end was checked above.
            if not any(block[at:]):
                break  # A crash may leave room that was never written.
            if _crc32c(block[at + 6 : end]) != block[at : at + 4]:
                raise FileDamageError(f"{name}: a record fails its checksum")
            at = end
        if any(block[at:]) and len(block) == _LOG_BLOCK_BYTES:
            raise FileDamageError(f"{name}: padding was written to")


def _check_table(name: str, data: bytes) -> None:
    footer = data[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or footer[_HANDLES_BYTES_MAX:] != _TABLE_MAGIC:
        raise FileDamageError(f"{name}: not a table")
    meta, at = _handle(footer, 0)
    index, at = _handle(footer, at)
    if any(footer[at:_HANDLES_BYTES_MAX]) or _end(index) != len(data) - _FOOTER_BYTES or _end(meta) != index[0]:
        raise FileDamageError(f"{name}: its footer was changed")
    # The metaindex has one entry: shared length 0, two lengths, the filter's name, and the handle of its block.
    content = _block(name, data, meta)
    key_length = content[1]
    filter_handle, _ = _handle(content, 3 + key_length)
    if _end(filter_handle) != meta[0]:
        raise FileDamageError(f"{name}: its blocks do not adjoin")
    _block(name, data, filter_handle)


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    numbers = []
    for _ in range(2):
        value = shift = 0
        while True:
            byte = data[at] if at < len(data) and shift < 64 else 0
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        numbers.append(value)
    return (numbers[0], numbers[1]), at


def _end(handle: tuple[int, int]) -> int:
    return handle[0] + handle[1] + _BLOCK_TRAILER_BYTES


def _block(name: str, data: bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    if _crc32c(data[offset : offset + size + 1]) != data[offset + size + 1 : _end(handle)]:
        raise FileDamageError(f"{name}: a block fails its checksum")
    return data[offset : offset + size]
