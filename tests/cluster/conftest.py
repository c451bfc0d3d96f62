"""Networks of real processes: one for all tests that leave it in order, one more for each that may ruin it."""

from collections.abc import Iterator

import pytest

from tests.support.running_network import RunningNetwork, running_network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """The network of those who leave all four nodes running and level; starting one takes seconds."""
    # A short name: the path of a Unix socket has 107 bytes.
    with running_network(tmp_path_factory.mktemp("n") / "net") as running:
        running.enrol()
        yield running


@pytest.fixture(scope="module")
def own_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """The network of one module, whose tests kill its nodes and start them again."""
    with running_network(tmp_path_factory.mktemp("n") / "net") as running:
        running.enrol()
        yield running
