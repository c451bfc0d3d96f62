"""The story that views are read from."""

from pathlib import Path

import pytest

from tests.support.story import Story


@pytest.fixture(params=["in memory", "on disk"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """Every view is read from the ledger in memory and from the real one."""
    return Story(path=tmp_path / "data" if request.param == "on disk" else None)
