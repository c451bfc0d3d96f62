from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.merkle import log
from storage.merkle.state_tree import (
    Bucket,
    StateTree,
    bucket_index,
    bucket_root,
    entry_leaf,
    make_bucket,
    node_hash,
    part_count,
    part_digits,
    part_root,
    root_of_parts,
)
from tests.support.vectors import from_shown, vectors

VECTORS = vectors("state")

# Hashes that meet in few buckets, so that these hold none, one, two and many entries.
close_hashes = st.builds(lambda head, tail: bytes([head]) + bytes(30) + bytes([tail]), *[st.integers(0, 20)] * 2)
leaves = st.binary(min_size=32, max_size=32)
writes = st.dictionaries(close_hashes, st.none() | leaves, max_size=40)


class Stored:
    """A tree with its buckets in a dictionary."""

    def __init__(self, depth: int) -> None:
        self.buckets: dict[int, Bucket] = {}
        self.tree = StateTree(depth, lambda index: self.buckets.get(index, b""))

    def write(self, changes: dict[bytes, bytes | None]) -> bytes:
        prepared = self.tree.prepare(changes)
        self.tree.apply(prepared)
        self.buckets.update(prepared.buckets)
        return prepared.root


def root_by_definition(entries: dict[bytes, bytes], depth: int, prefix: str = "") -> bytes:
    below = {key: leaf for key, leaf in entries.items() if key.hex().startswith(prefix)}
    if len(prefix) == depth:
        return log.root([leaf for _, leaf in sorted(below.items())])
    return sha256(
        b"\x02" + b"".join(root_by_definition(below, depth, prefix + digit) for digit in "0123456789abcdef")
    ).digest()


@pytest.mark.parametrize("depth", range(1, 6))
def test_the_root_of_an_empty_state_is_that_of_the_vectors(depth: int) -> None:
    assert StateTree(depth, lambda _: b"").root.hex() == VECTORS["empty_roots"][depth - 1]


@pytest.mark.parametrize("state", VECTORS["states"], ids=lambda s: f"depth {s['depth']}, {len(s['entries'])} entries")
def test_roots_are_those_of_the_vectors(state: dict[str, Any]) -> None:
    hashes = [(sha256(key).digest(), sha256(value).digest()) for key, value in from_shown(state["entries"])]

    root = Stored(state["depth"]).write({key: entry_leaf(key, value) for key, value in hashes})

    assert root.hex() == state["root"]


@pytest.mark.parametrize("state", VECTORS["states"], ids=lambda s: f"depth {s['depth']}, {len(s['entries'])} entries")
def test_parts_have_the_hashes_of_the_vectors_and_lead_to_the_root(state: dict[str, Any]) -> None:
    depth = state["depth"]
    hashes = [(sha256(key).digest(), sha256(value).digest()) for key, value in from_shown(state["entries"])]
    leaves = {key: entry_leaf(key, value) for key, value in hashes}
    stored = Stored(depth)
    stored.write(leaves)
    parts: dict[int, dict[bytes, bytes]] = {part: {} for part in range(part_count(depth))}
    for key, leaf in leaves.items():
        parts[int(key.hex()[: part_digits(depth)], 16)][key] = leaf

    part_hashes = stored.tree.part_hashes()

    assert sha256(part_hashes).hexdigest() == state["parts_hashed"]
    assert root_of_parts(part_hashes).hex() == state["root"]
    assert b"".join(part_root(entries, depth) for entries in parts.values()) == part_hashes


@given(st.integers(1, 2), st.lists(writes, max_size=6))
def test_after_each_set_of_writes_the_root_is_that_of_a_dictionary_with_the_same_entries(
    depth: int, blocks: list[dict[bytes, bytes | None]]
) -> None:
    stored, model = Stored(depth), dict[bytes, bytes]()
    for block in blocks:
        for key, leaf in block.items():
            if leaf is None:
                model.pop(key, None)
            else:
                model[key] = leaf

        assert stored.write(block) == stored.tree.root == root_by_definition(model, depth)

    rebuilt = StateTree(depth, lambda _: b"")
    rebuilt.fill(stored.buckets.items())
    assert rebuilt.root == stored.tree.root


@given(writes, writes)
def test_what_was_prepared_and_dropped_changes_nothing(
    kept: dict[bytes, bytes | None], dropped: dict[bytes, bytes | None]
) -> None:
    stored, undisturbed = Stored(2), Stored(2)

    stored.tree.prepare(dropped)

    assert stored.tree.root == undisturbed.tree.root
    assert stored.write(kept) == undisturbed.write(kept)


def test_what_was_prepared_on_another_state_is_never_applied() -> None:
    stored = Stored(2)
    first = stored.tree.prepare({bytes(32): bytes(32)})
    second = stored.tree.prepare({bytes(32): bytes([1]) * 32})
    stored.tree.apply(first)

    with pytest.raises(AssertionError):
        stored.tree.apply(second)


@given(st.dictionaries(close_hashes, leaves, min_size=1, max_size=40))
def test_sibling_groups_lead_from_each_bucket_to_the_root(entries: dict[bytes, bytes]) -> None:
    stored = Stored(3)
    stored.write(dict(entries))
    for key in entries:
        index = bucket_index(key, 3)
        current = bucket_root(stored.buckets[index])

        assert stored.tree.bucket_hash(index) == current
        for family in stored.tree.families_of(index):
            assert family[32 * (index % 16) : 32 * (index % 16 + 1)] == current
            current, index = node_hash(family), index // 16
        assert current == stored.tree.root


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 64, 200])
def test_a_bucket_is_hashed_as_a_list_however_many_keys_meet_in_it(count: int) -> None:
    keys = [bytes(31) + bytes([number]) for number in range(count)]
    bucket = make_bucket({key: sha256(key).digest() for key in reversed(keys)})

    assert bucket_root(bucket) == log.root([sha256(key).digest() for key in keys])


@pytest.mark.parametrize("depth", [0, 6])
def test_a_depth_that_genesis_does_not_allow_is_our_bug(depth: int) -> None:
    with pytest.raises(AssertionError):
        StateTree(depth, lambda _: b"")
