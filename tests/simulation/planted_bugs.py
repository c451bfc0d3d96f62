"""Bugs put into the engine to see that the simulator finds them; they live here only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from consensus.pbft import selection, views
from consensus.pbft.replica import Pbft


class QuorumOffByOne(Pbft):
    """Decides with one vote too few."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._members.quorum -= 1


@contextmanager
def dropped_certificate() -> Iterator[None]:
    """While this lasts, a new view forgets what was prepared in an earlier one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "select", lambda changes: (selection.select(changes)[0], None))
        yield
