"""Checks a whole ledger again, from genesis: of a running node, or of a copy that no node runs on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from node.contracts.governance import genesis_state
from node.execution.transition import Execution, execute_block
from node.runtime.parts import LEDGER_FOLDER
from storage import integrity
from storage.integrity import Report
from storage.ledger import Ledger
from storage.schema.block import Header
from storage.schema.genesis import Genesis, load_file
from storage.schema.transaction import Transaction

Progress = Callable[[int, int], None]


def verify_folder(data: Path, genesis_file: bytes, progress: Progress) -> Report:
    """Verify the ledger in a data folder (its ``ledger``) that no node has open.

    Raises:
        GenesisError: the genesis file is not what its founders signed.
        LedgerError, DatabaseError: there is no ledger, it is another network's, or it is in use.
    """
    genesis = load_file(genesis_file)
    return integrity.verify_folder(data / LEDGER_FOLDER, genesis, genesis_state(genesis), _executor(genesis), progress)


def verify_running(ledger: Ledger, genesis: Genesis, progress: Progress) -> Report:
    """Verify the ledger that this process has open, as it stands now; for a thread of its own."""
    return integrity.verify(ledger.database, genesis, genesis_state(genesis), _executor(genesis), progress)


def _executor(genesis: Genesis) -> Callable[[Header, Sequence[Transaction], Ledger], Execution]:
    def execute(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Execution:
        return execute_block(header, transactions, ledger, genesis)

    return execute
