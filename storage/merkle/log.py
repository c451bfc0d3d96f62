"""Trees over lists (RFC 6962, section 2.1): a block's transactions, its outcomes, and the chain's history.

Leaves and inner nodes are hashed with different prefixes, so that an inner node can never be shown as a leaf.
Everything here is pure; sizes and indexes are counts of leaves, hashes are 32 bytes.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
PATH_HASHES_MAX = 64


class ProofError(Exception):
    """A path does not lead from the leaf to the root that it is said to prove."""

    code = "proof.invalid"


def leaf_hash(data: bytes) -> bytes:
    """Hash one entry of a list as a leaf (RFC 6962, 2.1: ``SHA-256(0x00 || entry)``)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children into their parent (RFC 6962, 2.1: ``SHA-256(0x01 || left || right)``)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree head over leaf hashes, in order.

    Pairing level by level and carrying an odd last node upwards gives the same tree as RFC 6962's recursive
    split at the largest power of two.
    """
    if not leaves:
        return EMPTY_ROOT
    level: Sequence[bytes] = leaves
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def _parents(level: Sequence[bytes]) -> list[bytes]:
    paired = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        paired.append(level[-1])
    return paired


def levels(leaves: Sequence[bytes]) -> tuple[Sequence[bytes], ...]:
    """Return all nodes of a tree, leaves first and the root alone last, to take many paths from."""
    built = [leaves]
    while len(built[-1]) > 1:
        built.append(_parents(built[-1]))
    return tuple(built)


def path_in(tree: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """Return the audit path of one leaf (RFC 6962, 2.1.1) in a tree made by ``levels``, its sibling first."""
    assert 0 <= index < len(tree[0]), "a path is asked for a leaf that the tree has"
    path = []
    for level in tree[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index //= 2
    return tuple(path)


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the audit path of one leaf (RFC 6962, 2.1.1), from the leaf's sibling upwards."""
    return path_in(levels(leaves), index)


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Recompute the root that an audit path leads to (RFC 9162, 2.1.3.2).

    The caller compares it with a root that it trusts, and must know ``size`` from a trusted place too: a path
    alone does not bind the size of its tree.

    Raises:
        ProofError: index, size and length of the path do not fit together.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    last, current, remaining = size - 1, leaf, list(path)
    while last > 0:
        if index % 2 or index < last:
            if not remaining:
                raise ProofError("the path is too short")
            sibling = remaining.pop(0)
            current = node_hash(sibling, current) if index % 2 else node_hash(current, sibling)
        index //= 2
        last //= 2
    if remaining:
        raise ProofError("the path is too long")
    return current


class Frontier:
    """The right edge of a growing tree: enough to append a leaf and to know the root, in O(log n) space.

    It holds one root for each complete subtree, largest first, and so follows the binary digits of the size.
    """

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Take up a tree of ``size`` leaves whose complete subtrees have the given roots, largest first."""
        self.size = size
        self.peaks = list(peaks)
        assert len(self.peaks) == size.bit_count(), "one peak for each binary digit of the size"

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash at the right."""
        self.peaks.append(leaf)
        carry = self.size
        while carry & 1:
            right, left = self.peaks.pop(), self.peaks.pop()
            self.peaks.append(node_hash(left, right))
            carry >>= 1
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        current = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            current = node_hash(peak, current)
        return current

    def copy(self) -> "Frontier":
        """Return an independent frontier, to look at the root after leaves that may yet be dropped."""
        return Frontier(self.size, self.peaks)
