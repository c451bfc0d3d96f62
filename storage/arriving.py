"""A state on its way, in a folder of its own, which is no ledger until its last batch (docs/spec/snapshot.md).

Every part is checked against the certified foundation before anything of it is written. What was interrupted goes on:
parts whose hash still stands are kept, also under a later foundation.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import msgspec

from storage.blocks import FROM, height_key
from storage.database import (
    CERTIFICATE,
    HEADER,
    HISTORY,
    META,
    RESULT,
    SEEN,
    STATE,
    TX_INDEX,
    Database,
    DatabaseCorruptError,
    DatabaseLostError,
)
from storage.epoch_links import stage_link
from storage.indexes import ID_BYTES
from storage.merkle.state_tree import entry_leaf, part_count, part_digits, part_root
from storage.opening import VOTES, LedgerError, check_network, genesis_root, stage_beginning
from storage.schema.codec import DecodeError, encode
from storage.schema.epochs import load_epochs
from storage.schema.genesis import Genesis
from storage.schema.seen import seen_count_key, seen_digest, seen_key
from storage.snapshot import FOUNDATION, Foundation, Part, SeenList, SnapshotError, part_bounds

_FOUNDATION = META + b"arriving"
_PART = META + b"part"
_decode_count = msgspec.msgpack.Decoder(int).decode


class Arriving:
    """A state on its way, in a folder of its own; what is written there was checked."""

    def __init__(self, database: Database, depth: int) -> None:
        """Take up what an open database holds."""
        self._database = database
        self._depth = depth
        stored = database.get(_FOUNDATION)
        self.foundation = None if stored is None else FOUNDATION.decode(stored)
        self._held = {
            int.from_bytes(key[len(_PART) :], "big"): value for key, value in database.scan(META, b"part", b"paru")
        }

    @classmethod
    def open(cls, path: Path, depth: int) -> Self:
        """Open the folder, and begin it anew if it is damaged: nothing in it is needed."""
        try:
            return cls._open(path, depth)
        except (DatabaseCorruptError, DecodeError):
            shutil.rmtree(path)
            return cls._open(path, depth)

    @classmethod
    def _open(cls, path: Path, depth: int) -> Self:
        database = Database.open(path, create=True)
        try:
            return cls(database, depth)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the folder; what arrived stays."""
        self._database.close()

    def begin(self, foundation: Foundation) -> None:
        """Stand on a foundation, which was checked: keep the parts that are still the same, let the others go."""
        batch = self._database.batch()
        if foundation != self.foundation:
            for part in [part for part, held in self._held.items() if held != foundation.part_hash(part)]:
                for key, _ in self._database.scan(STATE, *part_bounds(part, part_digits(self._depth))):
                    batch.delete(key)
                batch.delete(_part_key(part))
                del self._held[part]
            self._delete_seen(batch)
        batch.put(_FOUNDATION, encode(foundation))
        self._database.write(batch)
        self.foundation = foundation

    @property
    def missing(self) -> list[int]:
        """The parts that are not here yet; a part without entries never travels."""
        foundation = self._foundation()
        empty = part_root({}, self._depth)
        count = part_count(self._depth)
        return [part for part in range(count) if part not in self._held and foundation.part_hash(part) != empty]

    def add_parts(self, parts: Mapping[int, Part]) -> None:
        """Write parts, each checked against its hash before.

        Raises:
            SnapshotError: one is not what the foundation covers; nothing of any is written.
        """
        foundation, batch = self._foundation(), self._database.batch()
        for part, entries in parts.items():
            _check_part(part, entries, foundation.part_hash(part), self._depth)
            for key_hash, value in entries:
                batch.put(STATE + key_hash, value)
            batch.put(_part_key(part), foundation.part_hash(part))
        self._database.write(batch)
        self._held.update({part: foundation.part_hash(part) for part in parts})

    @property
    def part_counts(self) -> tuple[int, int]:
        """How many parts are here, and of how many that have entries."""
        return len(self._held), len(self._held) + len(self.missing)

    @property
    def last_seen(self) -> tuple[int, int]:
        """Minute and height of the last list of seen ids that is here; of none at first."""
        key = next((key for key, _ in self._database.scan(SEEN, reverse=True)), bytes(17))
        return int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")

    @property
    def is_every_list_here(self) -> bool:
        """Whether as many lists of seen ids are here as the state, which is here, counts."""
        stored = self._database.get(STATE + sha256(seen_count_key()).digest())
        return sum(1 for _ in self._database.scan(SEEN)) == (0 if stored is None else _decode_count(stored))

    def add_seen(self, lists: Sequence[SeenList]) -> None:
        """Write lists of seen ids, each checked against the state, which is here.

        Raises:
            SnapshotError: one is not what the state names, or they do not ascend; nothing of any is written.
        """
        batch, last = self._database.batch(), self.last_seen
        for each in lists:
            ids = [each.ids[at : at + ID_BYTES] for at in range(0, len(each.ids), ID_BYTES)]
            stated = self._database.get(STATE + sha256(seen_key(each.minute, each.height)).digest())
            if (each.minute, each.height) <= last or stated != seen_digest(ids):
                raise SnapshotError("a list of seen ids is not what the state names")
            last = (each.minute, each.height)
            batch.put(SEEN + each.minute.to_bytes(8, "big") + height_key(each.height), each.ids)
            for tx_id in ids:
                batch.put(TX_INDEX + tx_id, height_key(each.height))
        self._database.write(batch)

    def drop_seen(self) -> None:
        """Let all lists of seen ids go: one is missing among them, and it is not known which."""
        batch = self._database.batch()
        self._delete_seen(batch)
        self._database.write(batch)

    def _delete_seen(self, batch: Any) -> None:
        for area in (SEEN, TX_INDEX):
            for key, _ in self._database.scan(area):
                batch.delete(key)

    def finish(self, genesis: Genesis, genesis_state: Mapping[bytes, bytes], vote_log_key: bytes | None) -> None:
        """Make it a ledger: until this batch is on the disk it is none.

        ``vote_log_key``: the node key whose vote log was begun beside it, whose loss must be noticed.
        """
        assert not self.missing, "every part is here"
        assert self.is_every_list_here, "and every list of seen ids"
        foundation, batch = self._foundation(), self._database.batch()
        height = foundation.header.height
        stage_beginning(batch, genesis, genesis_root(genesis, genesis_state))
        for area, value in ((HEADER, foundation.header), (RESULT, foundation.result)):
            batch.put(area + height_key(height), encode(value))
        batch.put(CERTIFICATE + height_key(height), encode(foundation.certificate))
        batch.put(HISTORY, b"".join(foundation.peaks))
        batch.put(META + b"head", height_key(height))
        batch.put(FROM, height_key(height + 1))
        for link in load_epochs(foundation.epochs, genesis).links:
            stage_link(batch, link)
        if vote_log_key is not None:
            batch.put(VOTES, vote_log_key)
        batch.delete(_FOUNDATION)
        for part in self._held:
            batch.delete(_part_key(part))
        self._database.write(batch)

    def _foundation(self) -> Foundation:
        assert self.foundation is not None, "parts are asked for once it is known of what"
        return self.foundation


def is_whole(path: Path, genesis: Genesis) -> bool:
    """Tell whether what arrived in a folder is a ledger of this network; what is damaged there is removed."""
    if not path.exists():
        return False
    try:
        with closing(Database.open(path)) as database:
            if database.get(META + b"format") is None:
                return False
            check_network(database, genesis)
            return True
    except (DatabaseCorruptError, DatabaseLostError, LedgerError):
        shutil.rmtree(path)
        return False


def _part_key(part: int) -> bytes:
    return _PART + part.to_bytes(2, "big")


def _check_part(part: int, entries: Iterable[tuple[bytes, bytes]], due: bytes, depth: int) -> None:
    shift, last = 24 - 4 * part_digits(depth), b""
    leaves: dict[bytes, bytes] = {}
    for key_hash, value in entries:
        if key_hash <= last or int.from_bytes(key_hash[:3], "big") >> shift != part:
            raise SnapshotError("the entries of a part do not ascend, or belong elsewhere")
        leaves[key_hash] = entry_leaf(key_hash, sha256(value).digest())
        last = key_hash
    if part_root(leaves, depth) != due:
        raise SnapshotError("a part is not what the certificate covers")
