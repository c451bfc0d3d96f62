from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.arrivals import kept
from tests.support.small_ledger import Actor
from tests.support.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A chain whose state holds a few dozen entries, with lists of seen ids that are still needed."""
    story = Story(path=tmp_path / "kept" / "ledger")
    for number in range(20):
        story.register(Actor(f"patient {number}"))
    yield story
    kept(story).close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger"
