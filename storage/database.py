"""The LevelDB of a node: its options, its areas, and errors that name the area in which data is damaged.

Every key begins with the prefix of its area; heights and indexes are big-endian, so that they sort as numbers.

| prefix | area | key after the prefix | value |
|---|---|---|---|
| ``h`` | header | height (8) | header |
| ``c`` | certificate | height (8) | commit certificate; height 0 has none |
| ``r`` | result | height (8) | result |
| ``e`` | body | height (8) | array of the envelopes |
| ``o`` | outcomes | height (8) | array of the encoded outcomes |
| ``t`` | transaction index | transaction id (32) | height (8), index in the block (4) if the block is here |
| ``s`` | state | SHA-256 of the state key (32) | state value |
| ``n`` | seen ids | expiry minute (8), height (8) | the ids of that block with that expiry, sorted |
| ``a`` | trail | subject (32), height (8), outcome index (4) | empty |
| ``v`` | epochs | epoch (8) | the link to its validator set |
| ``f`` | history | | peaks of the tree over digest and result of every block below the head |
| ``m`` | meta | ``format``, ``network``, ``head``, ``from``, ``votes`` | see ``storage.opening`` |

Measured on the library's defaults: a flipped bit in the log silently loses whole batches, and one in a table returns
a wrong value. Hence paranoid checks, checksums verified on every read, and our own look at the ends of its logs before
it opens them. Its repair drops and alters data silently and is never used.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import plyvel

from storage.database_files import FileDamageError, check_before_open

HEADER, CERTIFICATE, RESULT, BODY, OUTCOMES = b"h", b"c", b"r", b"e", b"o"
TX_INDEX, STATE, SEEN, TRAIL, EPOCH, HISTORY, META = b"t", b"s", b"n", b"a", b"v", b"f", b"m"
AREAS = {
    HEADER: "header",
    CERTIFICATE: "certificate",
    RESULT: "result",
    BODY: "body",
    OUTCOMES: "outcomes",
    TX_INDEX: "transaction index",
    STATE: "state",
    SEEN: "seen ids",
    TRAIL: "trail",
    EPOCH: "epochs",
    HISTORY: "history",
    META: "meta",
}
FILES_AREA = "database files"

# A block of 500 transactions writes about half a MiB. With 16 MiB before a flush instead of LevelDB's 4, data is
# rewritten less often on its way down; what a crash leaves in the log is still read back in 0.2 s.
WRITE_BUFFER_BYTES = 16 << 20
# Fewer, larger files: a hundred million entries stay within what one process may hold open.
FILE_BYTES_MAX = 8 << 20
BLOCK_CACHE_BYTES = 32 << 20
BLOOM_BITS_PER_KEY = 10


class DatabaseError(Exception):
    """The disk or the database on it fails; the node stops."""

    code = "database.failed"


class DatabaseCorruptError(DatabaseError):
    """Stored data is not what was written. The folder is set aside and the blocks are fetched anew.

    Attributes:
        area: what is damaged, as named in the table of this module, or ``database files``.
        height: the block whose data it is, where that is known.
    """

    code = "database.corrupt"

    def __init__(self, area: str, detail: str, height: int | None = None) -> None:
        """Name the area and say what is wrong there."""
        super().__init__(f"{area}: {detail}" if height is None else f"{area} of block {height}: {detail}")
        self.area = area
        self.detail = detail
        self.height = height


class DatabaseLockedError(DatabaseError):
    """Another process holds this database open."""

    code = "database.locked"


class DatabaseLostError(DatabaseError):
    """There is no database where there was one."""

    code = "database.lost"


class HistoryError(Exception):
    """What was asked for lies below the blocks that are here: the ledger began with a snapshot.

    Attributes:
        from_height: the lowest block that is here.
    """

    code = "history.incomplete"

    def __init__(self, from_height: int) -> None:
        """Say from where on the history is here."""
        super().__init__(f"this node has the history from block {from_height} on, and fetches what is below")
        self.from_height = from_height


class DiskFullError(DatabaseError):
    """The file system has no room left; nothing of the batch is kept."""

    code = "disk.full"


def translate(error: plyvel.Error, area: str) -> DatabaseError:
    """Return our error for one that LevelDB raised while it worked on an area."""
    detail = " ".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in error.args)
    if isinstance(error, plyvel.CorruptionError):
        return DatabaseCorruptError(area, detail)
    if "already held" in detail or "/LOCK: Resource temporarily unavailable" in detail:
        return DatabaseLockedError(detail)
    if "does not exist" in detail:
        return DatabaseLostError(detail)
    if "No space left on device" in detail:
        return DiskFullError(detail)
    return DatabaseError(detail)


class Reader:
    """Reads, checksums verified, from the database or from one moment of it."""

    def __init__(self, source: Any) -> None:
        """Read from an open ``plyvel.DB`` or from a snapshot of one."""
        self._source = source

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None.

        Raises:
            DatabaseCorruptError: what is stored there fails its checksum.
        """
        try:
            value: bytes | None = self._source.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise translate(error, AREAS[key[:1]]) from None
        return value

    def first_key_outside(self) -> bytes | None:
        """Return a key that belongs to no area, if there is one."""
        prefixes = sorted(AREAS)
        starts = [b"", *(bytes([prefix[0] + 1]) for prefix in prefixes)]
        for start, stop in zip(starts, [*prefixes, None], strict=True):
            with self._source.iterator(start=start, stop=stop, include_value=False) as keys:
                key: bytes | None = next(keys, None)
            if key is not None:
                return key
        return None

    def scan(
        self, area: bytes, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries of an area from key ``start`` to before ``stop``; both and all keys with the prefix.

        Raises:
            DatabaseCorruptError: something stored there fails its checksum.
        """
        begin, end = area + start, bytes([area[0] + 1]) if stop is None else area + stop
        options = {"start": begin, "stop": end, "reverse": reverse, "verify_checksums": True, "fill_cache": False}
        try:
            with self._source.iterator(**options) as entries:
                yield from entries
        except plyvel.Error as error:
            raise translate(error, AREAS[area]) from None


class Database(Reader):
    """One open LevelDB folder; one process at a time."""

    def __init__(self, source: Any, path: Path) -> None:
        """Take over an open ``plyvel.DB``."""
        super().__init__(source)
        self.path = path
        self._has_failed = False

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Self:
        """Open a folder; only ``create`` makes a new one, so that a lost database is never begun anew by accident.

        Raises:
            DatabaseCorruptError: its files are damaged.
            DatabaseLockedError: it is in use.
            DatabaseLostError: it is not there.
            DiskFullError: there is no room to open it.
        """
        try:
            check_before_open(path)
        except FileDamageError as error:
            raise DatabaseCorruptError(FILES_AREA, str(error)) from None
        try:
            source = plyvel.DB(
                str(path),
                create_if_missing=create,
                paranoid_checks=True,
                compression=None,
                bloom_filter_bits=BLOOM_BITS_PER_KEY,
                write_buffer_size=WRITE_BUFFER_BYTES,
                max_file_size=FILE_BYTES_MAX,
                lru_cache_size=BLOCK_CACHE_BYTES,
            )
        except plyvel.Error as error:
            raise translate(error, FILES_AREA) from None
        return cls(source, path)

    def batch(self, *, sync: bool = True) -> Any:
        """Begin a batch (``put``, ``delete``), which ``write`` applies as a whole or not at all."""
        return self._source.write_batch(sync=sync)

    def write(self, batch: Any) -> None:
        """Apply a batch; unless made without ``sync``, it is on the disk when this returns. Other threads go on.

        Raises:
            DiskFullError: and nothing can be written until the database is opened again.
            DatabaseError: likewise.
        """
        # After a failed append LevelDB would go on behind the torn record, and lose all that at the next start.
        if self._has_failed:
            raise DatabaseError("an earlier write failed; open the database anew")
        try:
            batch.write()
        except plyvel.Error as error:
            self._has_failed = True
            raise translate(error, FILES_AREA) from None

    def table_names(self) -> list[str]:
        """Return the names of the files that hold what the log does not."""
        listed: bytes = self._source.get_property(b"leveldb.sstables")
        return [f"{int(number):06}.ldb" for number in re.findall(rb"^ ([0-9]+):", listed, re.MULTILINE)]

    def snapshot(self) -> Reader:
        """Return a reader of this moment, whatever is written later."""
        return Reader(self._source.snapshot())

    def close(self) -> None:
        """Close the folder."""
        self._source.close()
