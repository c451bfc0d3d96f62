from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hospitals import Hospitals


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Hospitals]:
    made = Hospitals(tmp_path)
    yield made
    made.chain.close()
