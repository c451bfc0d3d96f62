from hypothesis import given
from hypothesis import strategies as st

from storage.recent import Recent

steps = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 99)), max_size=60)


@given(steps, st.integers(1, 12))
def test_what_is_found_is_always_what_was_put_last(steps: list[tuple[int, int | None]], weight_max: int) -> None:
    recent, model = Recent[int, int](weight_max), dict[int, int]()
    for key, value in steps:
        if value is not None:
            recent.put(key, value, weight=2)
            model[key] = value

        assert recent.get(key) in (None, model.get(key))


def test_no_more_is_held_than_two_generations() -> None:
    recent = Recent[int, bytes](100)
    for key in range(10_000):
        recent.put(key, bytes(10), weight=10)

    held = [key for key in reversed(range(10_000)) if recent.get(key) is not None]
    assert held == list(range(9_999, 9_999 - len(held), -1))
    assert 10 <= len(held) <= 22


def test_what_is_used_again_and_again_stays() -> None:
    recent = Recent[str, str](100)
    recent.put("used", "value", weight=10)
    for number in range(1000):
        recent.put(f"passing {number}", "value", weight=10)

        assert recent.get("used") == "value"
    assert recent.get("passing 0") is None


def test_a_value_replaced_many_times_weighs_once() -> None:
    recent = Recent[str, int](100)
    recent.put("other", 0, weight=10)
    for number in range(1000):
        recent.put("same", number, weight=10)

    assert recent.get("other") == 0
    assert recent.get("same") == 999


def test_something_heavier_than_a_generation_is_still_found_until_the_next_is_full() -> None:
    recent = Recent[str, bytes](10)
    recent.put("heavy", bytes(1000), weight=1000)

    assert recent.get("heavy") == bytes(1000)
