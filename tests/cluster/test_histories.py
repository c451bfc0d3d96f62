"""The checker of histories finds what is wrong in one, and nothing in a good one."""

from dataclasses import replace

import pytest

from tests.support.history import Acknowledged, Block, Chain, violations

CHAIN = [Block(1, "aa", (("t1", "ok"), ("t2", "consent.denied"))), Block(2, "bb", (("t3", "ok"),))]
TOLD = [
    Acknowledged("ann", "t1", 1.0, 2.0, 1, "ok", "ok"),
    Acknowledged("bob", "t2", 1.0, 2.5, 1, "consent.denied", "consent.denied"),
    Acknowledged("ann", "t3", 3.0, 4.0, 2, "ok", "ok"),
]


def found(
    told: list[Acknowledged] = TOLD, refused: tuple[str, ...] = ("t9",), chain: Chain = CHAIN, other: Chain = CHAIN
) -> list[str]:
    return violations(told, refused, {"north": chain, "south": other})


def test_nothing_is_found_in_a_history_that_is_one_ledgers() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("words", "faulty"),
    [
        ("t3 was acknowledged to ann and is lost", {"chain": CHAIN[:1], "other": CHAIN[:1]}),
        ("south differs from north at height 2", {"other": [CHAIN[0], Block(2, "cc", CHAIN[1].transactions)]}),
        ("south stands at 1 and north at 2", {"other": CHAIN[:1]}),
        ("t9 was refused and stands", {"chain": [*CHAIN, Block(3, "cc", (("t9", "ok"),))]}),
        ("t1 stands 2 times", {"chain": [*CHAIN, Block(3, "cc", (("t1", "ok"),))]}),
        ("t3 was acknowledged as ok at 1, and is ok at 2", {"told": [replace(TOLD[2], height=1)]}),
        ("only consent.denied is right", {"told": [replace(TOLD[0], expected="consent.denied")]}),
        ("t1 stands before t3", {"told": [replace(TOLD[0], submitted_s=5.0, acknowledged_s=6.0), TOLD[2]]}),
    ],
)
def test_a_fault_in_a_history_is_found(words: str, faulty: dict[str, list[Acknowledged] | Chain]) -> None:
    assert any(words in each for each in found(**faulty))  # type: ignore[arg-type]


def test_calls_that_were_under_way_together_may_stand_in_any_order() -> None:
    assert found([replace(TOLD[2], submitted_s=1.0), replace(TOLD[0], submitted_s=1.5)]) == []
