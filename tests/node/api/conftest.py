from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_node import LiveChain, MemberNode


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[LiveChain]:
    live = LiveChain(tmp_path)
    yield live
    live.close()


@pytest.fixture
def north(tmp_path: Path, chain: LiveChain) -> MemberNode:
    return MemberNode("north", tmp_path / "north", chain)
