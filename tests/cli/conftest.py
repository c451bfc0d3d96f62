"""Networks for commands to talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.operated_nodes import Operated, operated


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Operated]:
    with operated(tmp_path) as running:
        enrol(running)
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """One network for the tests that leave nothing behind but refusals."""
    with operated(tmp_path_factory.mktemp("shared")) as running:
        enrol(running)
        yield running


def enrol(network: Operated) -> None:
    network.ask("key", "new", "pia", "--no-passphrase")
    network.ask("key", "new", "ben", "--kind", "practitioner", "--no-passphrase")
    network.ask("patient", "register", "--as", "pia", "--node", "north")
    network.ask("practitioner", "enrol", "ben", "--role", "physician", "--node", "south")
