"""Settings of every test: hypothesis profiles, and seeds whose number stands in the test's id."""

import os

import pytest
from hypothesis import HealthCheck, settings

SEEDS_DEFAULT = 3

# One and the same examples on every run: a failure of today can be looked at tomorrow. Fresh examples are
# for `HYPOTHESIS_PROFILE=search`, which prints the blob that replays what it finds.
settings.register_profile(
    "caretrace",
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "caretrace"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, metavar="N", help="run every seeded test with this one seed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for ``seed`` its seeds, so that a failure's id names its own replay."""
    if "seed" not in metafunc.fixturenames:
        return
    seed = metafunc.config.getoption("--seed")
    marker = metafunc.definition.get_closest_marker("seeds")
    seeds = range(marker.args[0] if marker else SEEDS_DEFAULT) if seed is None else [seed]
    metafunc.parametrize("seed", seeds, ids=lambda value: f"seed={value}")
