"""Networks of which one member is hostile."""

from collections.abc import Iterator

import pytest

from tests.support.hostile_network import BLOCKS_MISSED, HONEST, HOSTILE, network_with_guests
from tests.support.hostile_validator import HostileValidator, hostile_validator
from tests.support.raw_calls import order
from tests.support.running_network import until

# Short names for folders: the path of a Unix socket has 107 bytes.


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileValidator]:
    """One network for all attacks that leave it in order, with the member that mounts them."""
    with network_with_guests(tmp_path_factory.mktemp("h") / "net") as network:
        network.kill(HOSTILE)
        with hostile_validator(network, *HONEST) as validator:
            yield validator


@pytest.fixture(scope="session")
def lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileValidator]:
    """Another, in which west has missed blocks, and is not back yet when the hostile member comes."""
    with network_with_guests(tmp_path_factory.mktemp("l") / "net") as network:
        network.kill("west")
        for _ in range(BLOCKS_MISSED):
            order(network)
        until(lambda: network.is_level("north", "east", HOSTILE))
        network.kill(HOSTILE)
        with hostile_validator(network, "north", "east") as validator:
            yield validator
