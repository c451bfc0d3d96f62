import pytest
import trio
from trio.testing import MockClock

from node.network.limits import Allowance


async def test_a_burst_is_allowed_and_then_the_rate(autojump_clock: MockClock) -> None:
    allowance = Allowance(per_s=10, burst=3)

    at_once = [allowance.take() for _ in range(4)]
    await trio.sleep(0.2)
    later = [allowance.take() for _ in range(3)]

    assert at_once == [True, True, True, False]
    assert later == [True, True, False]


async def test_who_was_quiet_for_long_has_one_burst_and_no_more(autojump_clock: MockClock) -> None:
    allowance = Allowance(per_s=10, burst=3)
    allowance.take(3)
    await trio.sleep(3600)

    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


async def test_spending_more_than_there_is_waits_until_the_debt_is_worked_off(autojump_clock: MockClock) -> None:
    allowance = Allowance(per_s=10, burst=5)
    start = trio.current_time()

    await allowance.spend(5)
    without_debt = trio.current_time() - start
    await allowance.spend(20)

    assert without_debt == 0
    assert trio.current_time() - start == pytest.approx(2)
