from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle.log import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    inclusion_path,
    leaf_hash,
    node_hash,
    root,
    root_from_path,
)
from tests.support.vectors import vectors

TREES = vectors("trees")
hashes = st.binary(min_size=32, max_size=32)


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(bytes([number])) for number in range(size)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, as it stands there: split at the largest power of two below the size."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(root_by_definition(leaves[:split]), root_by_definition(leaves[split:]))


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: f"{tree['size']} leaves")
def test_root_paths_and_peaks_are_those_of_the_vectors(tree: dict[str, Any]) -> None:
    leaves = leaves_of(tree["size"])
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)

    assert root(leaves).hex() == tree["root"]
    assert [peak.hex() for peak in frontier.peaks] == tree["peaks"]
    for index, path in enumerate(tree["paths"]):
        assert [node.hex() for node in inclusion_path(leaves, index)] == path


def test_leaves_and_nodes_are_hashed_apart() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")

    assert leaf_hash(b"left") == sha256(b"\x00left").digest()
    assert node_hash(left, right) == sha256(b"\x01" + left + right).digest()
    assert leaf_hash(left + right) != node_hash(left, right)
    assert root([]) == EMPTY_ROOT == sha256(b"").digest()


@given(st.lists(hashes, max_size=70))
def test_the_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert root(leaves) == root_by_definition(leaves)


@given(st.lists(hashes, max_size=70))
def test_a_frontier_has_the_root_of_all_leaves_after_each(leaves: list[bytes]) -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for count, leaf in enumerate(leaves, start=1):
        frontier.append(leaf)

        assert frontier.root() == root(leaves[:count])
        assert frontier.size == count


@given(st.lists(hashes, min_size=1, max_size=40), hashes)
def test_a_frontier_goes_on_from_its_peaks_and_its_copy_is_apart(leaves: list[bytes], more: bytes) -> None:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)

    taken_up, copy = Frontier(frontier.size, frontier.peaks), frontier.copy()
    taken_up.append(more)
    copy.append(more)

    assert taken_up.root() == copy.root() == root([*leaves, more])
    assert frontier.root() == root(leaves)


def test_a_frontier_with_peaks_that_do_not_fit_its_size_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        Frontier(3, [bytes(32)])


@given(st.lists(hashes, min_size=1, max_size=40, unique=True), st.data())
def test_a_path_leads_from_its_leaf_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))

    path = inclusion_path(leaves, index)

    assert root_from_path(leaves[index], index, len(leaves), path) == root(leaves)


@given(st.lists(hashes, min_size=2, max_size=40, unique=True), st.data())
def test_no_other_leaf_place_or_path_leads_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    size, index = len(leaves), data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, size + 3).filter(lambda place: place != index))
    bit = data.draw(st.integers(0, 255))
    path = inclusion_path(leaves, index)
    flipped = [list(path) for _ in path]
    for at, changed in enumerate(flipped):
        changed[at] = (int.from_bytes(changed[at], "big") ^ 1 << bit).to_bytes(32, "big")

    attempts = [
        (leaf_hash(leaves[index]), index, path),
        (leaves[index], other, path),
        (leaves[index], -1, path),
        (leaves[index], index, path[:-1]),
        (leaves[index], index, (*path, bytes(32))),
        (leaves[index], index, path[::-1] if path[::-1] != path else ()),
        *((leaves[index], index, tuple(changed)) for changed in flipped),
    ]

    for leaf, place, hashes_above in attempts:
        try:
            reached = root_from_path(leaf, place, size, hashes_above)
        except ProofError:
            continue
        assert reached != root(leaves)


def test_a_path_alone_does_not_bind_the_size_of_its_tree() -> None:
    # Why headers bind tx_count and results outcome_count: the same path proves a leaf in trees of several sizes.
    leaves = leaves_of(4)
    path = inclusion_path(leaves, 0)

    assert root_from_path(leaves[0], 0, 3, path) == root_from_path(leaves[0], 0, 4, path) == root(leaves)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (5, 5), (2**64, 5)])
def test_a_leaf_outside_its_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        root_from_path(bytes(32), index, size, ())


def test_a_path_for_a_leaf_that_the_tree_lacks_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        inclusion_path(leaves_of(3), 3)


def test_an_inner_node_is_never_shown_as_a_leaf() -> None:
    leaves = leaves_of(4)
    inner = root(leaves[:2])

    reached = root_from_path(inner, 0, 2, [root(leaves[2:])])

    # The hash is the same, so whoever verifies must take the size from a trusted place and hash the entry itself.
    assert reached == root(leaves)
    assert leaf_hash(leaves[0] + leaves[1]) != inner
