"""The list of faults that a seed stands for: as long as was asked for, and the same every time."""

from collections import Counter

import pytest

from tests.support.ordeal import CORRUPTIONS, CUTS, KILLS, PAUSE, planned


@pytest.mark.seeds(20)
def test_a_list_has_as_many_faults_of_each_kind_as_were_asked_for(seed: int) -> None:
    counts = Counter(planned(seed, 50, 9, 10, 3))

    assert sum(KILLS[fault] * counts[fault] for fault in KILLS) == 50
    assert sum(counts[fault] for fault in CUTS) == 9
    assert sum(counts[fault] for fault in CORRUPTIONS) == 10
    assert counts[PAUSE] == 3
    assert all(counts[fault] for fault in (*CUTS, *CORRUPTIONS))


def test_a_seed_gives_the_same_list_again_and_another_seed_another() -> None:
    assert planned(7, 20, 5, 5, 2) == planned(7, 20, 5, 5, 2)
    assert planned(7, 20, 5, 5, 2) != planned(8, 20, 5, 5, 2)
