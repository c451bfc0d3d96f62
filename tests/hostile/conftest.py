"""A network of which one member is hostile."""

from collections.abc import Iterator

import pytest

from tests.support.hostile_network import HONEST, HOSTILE, network_with_guests
from tests.support.hostile_validator import HostileValidator, hostile_validator


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileValidator]:
    """One network for all attacks that leave it in order, with the member that mounts them."""
    # A short name: the path of a Unix socket has 107 bytes.
    with network_with_guests(tmp_path_factory.mktemp("h") / "net") as network:
        network.kill(HOSTILE)
        with hostile_validator(network, *HONEST) as validator:
            yield validator
