import itertools

import pytest

from storage.schema.validators import Validator, ValidatorSet, faults_tolerated, majority, quorum
from tests.support.vectors import vector_genesis, vectors

# n, f and the quorum, written down by hand: docs/spec/block.md has the same table.
QUORUMS = {
    1: (0, 1), 2: (0, 2), 3: (0, 2), 4: (1, 3), 5: (1, 4), 6: (1, 4), 7: (2, 5), 8: (2, 6), 9: (2, 6), 10: (3, 7),
    11: (3, 8), 12: (3, 8), 13: (4, 9), 14: (4, 10), 15: (4, 10), 16: (5, 11), 17: (5, 12), 18: (5, 12), 19: (6, 13),
    20: (6, 14), 21: (6, 14), 22: (7, 15), 23: (7, 16), 24: (7, 16), 25: (8, 17), 26: (8, 18), 27: (8, 18), 28: (9, 19),
    29: (9, 20), 30: (9, 20),
}  # fmt: skip


@pytest.mark.parametrize("count", QUORUMS)
def test_faults_and_quorum_are_those_of_the_table(count: int) -> None:
    assert (faults_tolerated(count), quorum(count)) == QUORUMS[count]


@pytest.mark.parametrize("count", QUORUMS)
def test_two_quorums_share_an_honest_member_and_one_is_left_when_all_faulty_are_silent(count: int) -> None:
    faulty = faults_tolerated(count)

    assert 2 * quorum(count) - count > faulty
    assert quorum(count) <= count - faulty


def test_of_no_validators_none_decide() -> None:
    with pytest.raises(AssertionError):
        quorum(0)


def test_two_majorities_share_a_member_and_most_members_make_one() -> None:
    assert [majority(count) for count in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]
    assert all(2 * majority(count) > count >= majority(count) for count in range(1, 129))
    with pytest.raises(AssertionError):
        majority(0)


def test_the_quorum_of_a_set_is_that_of_its_engine() -> None:
    validators = vector_genesis().validators.validators

    assert [ValidatorSet(0, engine, validators[:3]).quorum for engine in ("pbft", "raft")] == [2, 2]
    assert [ValidatorSet(0, engine, (*validators, validators[0])).quorum for engine in ("pbft", "raft")] == [4, 3]
    assert ValidatorSet(0, "raft", validators).digest() != ValidatorSet(0, "pbft", validators).digest()


def test_the_set_of_the_vectors_has_its_digest() -> None:
    founding, validators = vectors("founding"), vector_genesis().validators

    assert validators.digest().hex() == founding["validators_hash"]
    assert [validator.name for validator in validators.validators] == ["east", "north", "south", "west"]


def test_a_set_of_another_epoch_has_another_digest() -> None:
    validators = vector_genesis().validators

    assert ValidatorSet(1, "pbft", validators.validators).digest() != validators.digest()


def test_a_member_is_found_by_its_position() -> None:
    validators = vector_genesis().validators

    assert [validators.position(name) for name in ("east", "west", "ministry", "nobody")] == [0, 3, None, None]


def test_the_primary_turns_with_the_view_and_every_so_many_heights() -> None:
    validators = ValidatorSet(0, "pbft", tuple(Validator(name, bytes(32)) for name in "abcd"))

    by_view = [validators.primary(view, 0, 64) for view in range(6)]
    by_height = [validators.primary(0, height, 64) for height in (0, 63, 64, 127, 128, 256)]
    never = {validators.primary(1, height, 0) for height in range(0, 1000, 50)}

    assert by_view == [0, 1, 2, 3, 0, 1]
    assert by_height == [0, 0, 1, 1, 2, 0]
    assert never == {1}


def test_every_member_is_primary_in_some_view_of_every_height() -> None:
    validators = ValidatorSet(0, "pbft", tuple(Validator(name, bytes(32)) for name in "abcde"))
    for height, turns in itertools.product((0, 7, 200), (0, 1, 64)):
        assert {validators.primary(view, height, turns) for view in range(5)} == set(range(5))
