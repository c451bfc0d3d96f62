"""Checks a whole ledger again, from genesis: of a running node, or of a copy that no node runs on."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from node.contracts.governance import genesis_state
from node.execution.transition import Execution, execute_block, trail_of
from node.runtime.parts import LEDGER_FOLDER
from storage import integrity
from storage.database import DatabaseError
from storage.integrity import REPLAY_PREFIX, Report
from storage.ledger import Ledger
from storage.opening import LedgerError
from storage.schema.block import Header
from storage.schema.genesis import Genesis, load_file
from storage.schema.transaction import Transaction

Progress = Callable[[int, int], None]


class InspectError(Exception):
    """A folder holds no ledger that could be verified: none at all, another network's, or one that is in use.

    Attributes:
        code: of the error that says so.
    """

    def __init__(self, code: str, detail: str) -> None:
        """Say why."""
        super().__init__(detail)
        self.code = code


def verify_folder(data: Path, genesis_file: bytes, progress: Progress) -> Report:
    """Verify the ledger in a data folder (its ``ledger``) that no node has open.

    Raises:
        GenesisError: the genesis file is not what its founders signed.
        InspectError: there is no ledger, it is another network's, or it is in use.
    """
    genesis = load_file(genesis_file)
    state, folder = genesis_state(genesis), data / LEDGER_FOLDER
    try:
        return integrity.verify_folder(folder, genesis, state, _executor(genesis), progress, trail_of=trail_of)
    except (DatabaseError, LedgerError) as error:
        raise InspectError(error.code, str(error)) from None


def verify_running(ledger: Ledger, genesis: Genesis, progress: Progress) -> Report:
    """Verify the ledger that this process has open, as it stands now; for a thread of its own."""
    state = genesis_state(genesis)
    return integrity.verify(ledger.database, genesis, state, _executor(genesis), progress, trail_of=trail_of)


def remove_leftovers(data: Path) -> None:
    """Remove the second ledgers that verifications left in a data folder when they were killed."""
    for folder in data.glob(f"{REPLAY_PREFIX}*"):
        shutil.rmtree(folder)


def _executor(genesis: Genesis) -> Callable[[Header, Sequence[Transaction], Ledger], Execution]:
    def execute(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Execution:
        return execute_block(header, transactions, ledger, genesis)

    return execute
