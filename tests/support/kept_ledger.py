"""The real ledger under the rules: judges, executes and commits blocks under certificates of three validators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.contracts.governance import genesis_state
from node.execution.includable import check_block
from node.execution.transition import Execution, execute_block
from storage.ledger import Block, Commit, Ledger
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction
from tests.support.chain import certify, make_header


class KeptLedger:
    """A ledger on disk that appends blocks as ``SmallLedger`` does; all else is the real ledger's."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self.genesis = genesis
        self.ledger = Ledger.open(path, genesis, genesis_state(genesis))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def append(self, transactions: Sequence[Transaction], time_ms: int) -> Execution:
        header = make_header(self.genesis, self.ledger, transactions, time_ms)
        check_block(header, transactions, self.ledger, self.genesis)
        execution = execute_block(header, transactions, self.ledger, self.genesis)
        certificate = certify(self.genesis, header, execution.result)
        envelopes = tuple(transaction.envelope for transaction in transactions)
        self.ledger.commit(
            Commit(
                block=Block(header, envelopes, certificate, execution.result, execution.outcomes),
                ids=tuple(transaction.id for transaction in transactions),
                state=execution.prepared,
                seen=execution.seen,
                expired=execution.expired,
                trail=execution.trail,
                validators=execution.validators,
            )
        )
        return execution
