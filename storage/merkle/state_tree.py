"""The tree over the state: 16-ary, of a depth fixed in genesis, over the SHA-256 of the keys (docs/spec/state.md).

The first ``depth`` hexadecimal digits of a key's hash name its bucket. A bucket's hash is the RFC 6962 root over its
entries, sorted by key hash; a node's hash is ``SHA-256(0x02 || its 16 children)``. The prefixes 0x00, 0x01 and 0x02
keep entries, nodes within a bucket and nodes above the buckets apart. The tree is updated once a block, from the
whole set of writes, and keeps all its hashes in memory: 2 MiB at depth 4. What the buckets hold is loaded.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from storage.merkle import log

HASH_BYTES = log.HASH_BYTES
FANOUT = 16
DEPTH_MAX = 5
# A snapshot travels in 4096 parts: of a state of a million entries each has about 50 KiB.
PART_DIGITS_MAX = 3
_NODE = b"\x02"
_FAMILY_BYTES = FANOUT * HASH_BYTES

# A bucket as the tree works on it: the hashes of its keys, in order, and then the leaf hashes of the same entries.
Bucket = bytes


def entry_leaf(key_hash: bytes, value_hash: bytes) -> bytes:
    """Return the leaf hash of one entry of the state (RFC 6962, 2.1)."""
    return sha256(b"\x00" + key_hash + value_hash).digest()


def bucket_index(key_hash: bytes, depth: int) -> int:
    """Return which of the ``16 ** depth`` buckets a key belongs to."""
    return int.from_bytes(key_hash[:3], "big") >> (24 - 4 * depth)


def make_bucket(leaves: Mapping[bytes, bytes]) -> Bucket:
    """Put a bucket together from leaf hashes by key hash."""
    keys = sorted(leaves)
    return b"".join(keys) + b"".join([leaves[key] for key in keys])


def bucket_root(bucket: Bucket) -> bytes:
    """Return the hash of a bucket: ``log.root`` of its leaf hashes, on bytes in one piece because that is faster."""
    level = bucket[len(bucket) // 2 :]
    while len(level) > HASH_BYTES:
        nodes = [
            sha256(b"\x01" + level[at : at + 2 * HASH_BYTES]).digest()
            for at in range(0, len(level) - HASH_BYTES, 2 * HASH_BYTES)
        ]
        if len(level) % (2 * HASH_BYTES):
            nodes.append(level[-HASH_BYTES:])
        level = b"".join(nodes)
    return level or log.EMPTY_ROOT


def node_hash(children: bytes | bytearray) -> bytes:
    """Hash the 16 children of a node, 512 bytes, into it."""
    return sha256(_NODE + children).digest()


def part_digits(depth: int) -> int:
    """Return how many digits of the key hash name a part of the state: a subtree that travels by itself."""
    return min(depth, PART_DIGITS_MAX)


def part_count(depth: int) -> int:
    """Return in how many parts a state travels."""
    return 1 << 4 * part_digits(depth)


def part_root(leaves: Mapping[bytes, bytes], depth: int) -> bytes:
    """Return the hash of the subtree that holds these leaf hashes by key hash, all of one part."""
    buckets: dict[int, dict[bytes, bytes]] = {}
    width = 1 << 4 * (depth - part_digits(depth))
    for key_hash, leaf in leaves.items():
        buckets.setdefault(bucket_index(key_hash, depth) % width, {})[key_hash] = leaf
    level = b"".join(bucket_root(make_bucket(buckets.get(place, {}))) for place in range(width))
    while len(level) > HASH_BYTES:
        level = _above(level)
    return level


def root_of_parts(hashes: bytes) -> bytes:
    """Return the root of the state whose parts have these hashes, in order."""
    while len(hashes) > HASH_BYTES:
        hashes = _above(hashes)
    return hashes


def _above(level: bytes | bytearray) -> bytes:
    return b"".join(node_hash(level[at : at + _FAMILY_BYTES]) for at in range(0, len(level), _FAMILY_BYTES))


@dataclass(frozen=True, slots=True)
class PreparedTree:
    """What a set of writes would make of the tree; nothing has changed yet, and it may be dropped.

    ``families`` holds for each level, buckets first, the changed groups of 16 siblings by the index of their parent.
    """

    base: bytes
    root: bytes
    buckets: Mapping[int, Bucket]
    families: tuple[Mapping[int, bytes], ...]


class StateTree:
    """All hashes of the tree, and how the next set of writes would change them."""

    def __init__(self, depth: int, load: Callable[[int], Bucket]) -> None:
        """Make the tree of an empty state; ``load`` returns what a bucket holds."""
        assert 1 <= depth <= DEPTH_MAX, "genesis bounds the depth"
        self.depth = depth
        self._load = load
        # Level 0 holds the hashes of the buckets, the last one the 16 children of the root.
        self._levels: list[bytearray] = []
        current = log.EMPTY_ROOT
        for height in range(depth, 0, -1):
            self._levels.append(bytearray(current * FANOUT**height))
            current = node_hash(current * FANOUT)
        self.root = current

    def fill(self, buckets: Iterable[tuple[int, Bucket]]) -> None:
        """Set the buckets of a fresh tree that are not empty, and hash everything above them once."""
        for index, bucket in buckets:
            self._levels[0][index * HASH_BYTES : (index + 1) * HASH_BYTES] = bucket_root(bucket)
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            above[:] = _above(below)
        self.root = node_hash(self._levels[-1])

    def prepare(self, leaves: Mapping[bytes, bytes | None]) -> PreparedTree:
        """Return what these entries would make of the tree: leaf hashes by key hash, None where an entry goes."""
        shift = 24 - 4 * self.depth
        groups: dict[int, list[bytes]] = {}
        for key_hash in leaves:
            index = int.from_bytes(key_hash[:3], "big") >> shift
            group = groups.get(index)
            if group is None:
                groups[index] = [key_hash]
            else:
                group.append(key_hash)
        buckets = {}
        for index, group in groups.items():
            bucket = self._load(index)
            for key_hash in group:
                bucket = _changed(bucket, key_hash, leaves[key_hash])
            buckets[index] = bucket
        families = []
        hashes = {index: bucket_root(bucket) for index, bucket in buckets.items()}
        for level in self._levels:
            family = _families(level, hashes)
            families.append(family)
            hashes = {index: node_hash(children) for index, children in family.items()}
        return PreparedTree(self.root, hashes.get(0, self.root), buckets, tuple(families))

    def apply(self, prepared: PreparedTree) -> None:
        """Take up what was prepared on exactly this tree."""
        assert prepared.base == self.root, "what is applied was prepared on this state"
        for level, families in zip(self._levels, prepared.families, strict=True):
            for index, children in families.items():
                level[index * _FAMILY_BYTES : (index + 1) * _FAMILY_BYTES] = children
        self.root = prepared.root

    def part_hashes(self) -> bytes:
        """Return the hashes of all parts, in order."""
        return bytes(self._levels[self.depth - part_digits(self.depth)])

    def bucket_hash(self, index: int) -> bytes:
        """Return the hash of one bucket."""
        return bytes(self._levels[0][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def families_of(self, index: int) -> tuple[bytes, ...]:
        """Return, from the bucket's own upwards, the groups of 16 siblings on the way from a bucket to the root."""
        families = []
        for level in self._levels:
            index //= FANOUT
            families.append(bytes(level[index * _FAMILY_BYTES : (index + 1) * _FAMILY_BYTES]))
        return tuple(families)


def _changed(bucket: Bucket, key_hash: bytes, leaf: bytes | None) -> Bucket:
    half = len(bucket) // 2
    at, is_present = 0, False
    while at < half:
        present = bucket[at : at + HASH_BYTES]
        if present >= key_hash:
            is_present = present == key_hash
            break
        at += HASH_BYTES
    keys_after, leaves_after = (at + HASH_BYTES, half + at + HASH_BYTES) if is_present else (at, half + at)
    if leaf is None:
        return bucket[:at] + bucket[keys_after : half + at] + bucket[leaves_after:]
    return bucket[:at] + key_hash + bucket[keys_after : half + at] + leaf + bucket[leaves_after:]


def _families(level: bytearray, hashes: Mapping[int, bytes]) -> dict[int, bytes]:
    families: dict[int, bytearray] = {}
    for index, value in hashes.items():
        parent = index // FANOUT
        if parent not in families:
            families[parent] = level[parent * _FAMILY_BYTES : (parent + 1) * _FAMILY_BYTES]
        at = (index % FANOUT) * HASH_BYTES
        families[parent][at : at + HASH_BYTES] = value
    return {index: bytes(children) for index, children in families.items()}
