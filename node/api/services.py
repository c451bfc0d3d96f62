"""What the API stands on: the parts of a running node that its routes call, handed over by the runtime."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.api.commits import Commits
from node.custody.custodian import Custodian
from node.custody.deposits import Deposits
from node.custody.labels import Labels
from node.custody.reader import Reader
from node.custody.wire import Submit
from storage.database import DatabaseCorruptError
from storage.integrity import Report
from storage.ledger import Ledger
from storage.schema.genesis import Genesis

Verify = Callable[[Callable[[int, int], None]], Report]
"""Checks the whole ledger, blocking; tells a callable the height reached and that of the head."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one node; ``status`` gives the fields of ``GET /v1/status``, ``why_not_ready`` its reasons.

    ``on_damage`` is told of what was read or verified and is not what was written.
    """

    genesis: Genesis
    genesis_file: bytes
    custodian: Custodian
    ledger: Ledger
    commits: Commits
    submit: Submit
    deposits: Deposits
    labels: Labels
    reader: Reader
    status: Callable[[], Mapping[str, Any]]
    why_not_ready: Callable[[], Sequence[str]]
    metrics: Callable[[], bytes]
    verify: Verify
    on_damage: Callable[[DatabaseCorruptError], None]
    wall_ms: Callable[[], int]
    record_bytes_max: int
