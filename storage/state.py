"""The state of the ledger: a map of keys to values in LevelDB, and the tree whose root every certificate signs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from threading import Lock
from typing import Any, Self

from storage.database import AREAS, STATE, DatabaseCorruptError, Reader
from storage.merkle.log import EMPTY_ROOT
from storage.merkle.state_tree import (
    Bucket,
    PreparedTree,
    StateTree,
    bucket_index,
    bucket_root,
    entry_leaf,
    make_bucket,
)
from storage.recent import Recent
from storage.schema.state_proof import StateEntry, StateProof

# Each is held up to twice. The buckets of a million entries at depth 4 take 75 MB.
BUCKETS_BYTES_MAX = 64 << 20
VALUES_BYTES_MAX = 32 << 20
_BUCKET_OVERHEAD_BYTES = 150
_VALUE_OVERHEAD_BYTES = 250
_HASH = slice(1, 33)


class _Absent(Enum):
    ABSENT = 0


@dataclass(frozen=True, slots=True)
class PreparedState:
    """What a block's writes would make of the state; nothing has changed yet, and it may be dropped."""

    root: bytes
    tree: PreparedTree
    writes: Mapping[bytes, bytes | None]
    key_hashes: tuple[bytes, ...]


class State:
    """The committed state. One thread prepares and commits; others may read at any time."""

    def __init__(self, database: Reader, depth: int) -> None:
        """Begin an empty state over what holds none."""
        self._database = database
        self._tree = StateTree(depth, self._bucket)
        self._buckets: Recent[int, Bucket] = Recent(BUCKETS_BYTES_MAX)
        self._values: Recent[bytes, bytes | _Absent] = Recent(VALUES_BYTES_MAX)
        self._lock = Lock()
        self._applied_count = 0

    @classmethod
    def load(cls, database: Reader, depth: int) -> Self:
        """Build the tree anew from everything that is stored; 2 to 4 microseconds an entry.

        The caller compares the root with a certified one.

        Raises:
            DatabaseCorruptError: an entry fails its checksum.
        """
        state = cls(database, depth)
        state._tree.fill(state._stored_buckets())
        return state

    @property
    def root(self) -> bytes:
        """The root after the last applied block."""
        return self._tree.root

    def part_hashes(self) -> bytes:
        """Return the hashes of the parts in which the state travels, in order."""
        return self._tree.part_hashes()

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None.

        Raises:
            DatabaseCorruptError: what is stored there fails its checksum.
        """
        with self._lock:
            kept = self._values.get(key)
            applied_count = self._applied_count
        if kept is not None:
            return None if kept is _Absent.ABSENT else kept
        value = self._database.get(STATE + sha256(key).digest())
        with self._lock:
            # A block that was applied since we read may have written this key: never keep what it replaced.
            if applied_count == self._applied_count:
                self._keep(key, value)
        return value

    def prepare(self, writes: Mapping[bytes, bytes | None]) -> PreparedState:
        """Return what these writes, None where a key goes, would make of the state; 5 microseconds a write."""
        leaves: dict[bytes, bytes | None] = {}
        for key, value in writes.items():
            key_hash = sha256(key).digest()
            # As entry_leaf does; here, where it counts, without a call.
            leaves[key_hash] = None if value is None else sha256(b"\x00" + key_hash + sha256(value).digest()).digest()
        tree = self._tree.prepare(leaves)
        return PreparedState(tree.root, tree, writes, tuple(leaves))

    def stage(self, prepared: PreparedState, batch: Any) -> None:
        """Add what was prepared to the batch that writes its block."""
        put = batch.put
        for key_hash, value in zip(prepared.key_hashes, prepared.writes.values(), strict=True):
            if value is None:
                batch.delete(STATE + key_hash)
            else:
                put(STATE + key_hash, value)

    def apply(self, prepared: PreparedState) -> None:
        """Take up what was prepared, once its batch is written."""
        self._tree.apply(prepared.tree)
        for index, bucket in prepared.tree.buckets.items():
            self._keep_bucket(index, bucket)
        with self._lock:
            self._applied_count += 1
            for key, value in prepared.writes.items():
                self._keep(key, value)

    def prove(self, key: bytes) -> StateProof:
        """Prove what the state holds under a key, or that it holds nothing; never while a block is committed.

        Raises:
            DatabaseCorruptError: what is stored there is not what the root covers.
        """
        index = bucket_index(sha256(key).digest(), self._tree.depth)
        entries = tuple(
            StateEntry(stored[_HASH], sha256(value).digest()) for stored, value in self._stored_bucket(index)
        )
        self._check_bucket(index, make_bucket({e.key_hash: entry_leaf(e.key_hash, e.value_hash) for e in entries}))
        return StateProof(entries, self._tree.families_of(index))

    def _keep(self, key: bytes, value: bytes | None) -> None:
        weight = len(key) + len(value or b"") + _VALUE_OVERHEAD_BYTES
        self._values.put(key, _Absent.ABSENT if value is None else value, weight)

    def _bucket(self, index: int) -> Bucket:
        kept = self._buckets.get(index)
        if kept is not None:
            return kept
        if self._tree.bucket_hash(index) == EMPTY_ROOT:
            return b""
        bucket = make_bucket(dict(_entry(stored, value) for stored, value in self._stored_bucket(index)))
        self._check_bucket(index, bucket)
        return self._keep_bucket(index, bucket)

    def _check_bucket(self, index: int, bucket: Bucket) -> None:
        if bucket_root(bucket) != self._tree.bucket_hash(index):
            raise DatabaseCorruptError(AREAS[STATE], f"bucket {index} is not what the root covers")

    def _keep_bucket(self, index: int, bucket: Bucket) -> Bucket:
        self._buckets.put(index, bucket, len(bucket) + _BUCKET_OVERHEAD_BYTES)
        return bucket

    def _stored_bucket(self, index: int) -> Iterator[tuple[bytes, bytes]]:
        shift = 24 - 4 * self._tree.depth
        start, after = (index << shift).to_bytes(3, "big"), (index + 1) << shift
        return self._database.scan(STATE, start, after.to_bytes(3, "big") if after < 1 << 24 else None)

    def _stored_buckets(self) -> Iterator[tuple[int, Bucket]]:
        current, leaves = 0, dict[bytes, bytes]()
        for stored, value in self._database.scan(STATE):
            key_hash, leaf = _entry(stored, value)
            index = bucket_index(key_hash, self._tree.depth)
            if index != current and leaves:
                yield current, self._keep_bucket(current, make_bucket(leaves))
                leaves = {}
            current = index
            leaves[key_hash] = leaf
        if leaves:
            yield current, self._keep_bucket(current, make_bucket(leaves))


def _entry(stored: bytes, value: bytes) -> tuple[bytes, bytes]:
    key_hash = stored[_HASH]
    return key_hash, entry_leaf(key_hash, sha256(value).digest())
