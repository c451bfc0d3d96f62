from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.schema.genesis import Genesis
from tests.support.wired_nodes import WiredNode, make_genesis

Make = Callable[..., WiredNode]


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis()


@pytest.fixture
def make(tmp_path: Path, genesis: Genesis) -> Iterator[Make]:
    """Makes a member's node on its folder; one that stood there before must have stopped, and is closed."""
    made: dict[str, WiredNode] = {}

    def make_node(name: str, **how: Any) -> WiredNode:
        if name in made:
            made[name].close()
        made[name] = WiredNode(name, genesis, tmp_path / name, **how)
        return made[name]

    yield make_node
    for node in made.values():
        node.close()
