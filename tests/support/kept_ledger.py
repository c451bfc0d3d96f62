"""The real ledger under the rules: judges, executes and commits blocks under certificates of three validators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.contracts.governance import genesis_state
from node.execution.includable import check_block
from node.execution.transition import Execution, execute_block
from storage.ledger import Block, Commit, Ledger
from storage.schema.block import Certificate, Header, Result
from storage.schema.genesis import Genesis
from storage.schema.signatures import public_key_of
from storage.schema.transaction import Transaction
from tests.support.chain import certify_by, make_header, seed_of


class KeptLedger:
    """A ledger on disk that appends blocks as ``SmallLedger`` does; all else is the real ledger's."""

    def __init__(self, path: Path, genesis: Genesis) -> None:
        self.genesis = genesis
        self.ledger = Ledger.open(path, genesis, genesis_state(genesis))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def _certificate(self, header: Header, result: Result) -> Certificate:
        """By a quorum of the validators of now whose seeds are made from their names; other keys sign nothing."""
        validators = self.ledger.validators
        seeds = [seed_of(f"{self.genesis.body.name}/{each.name}/node") for each in validators.validators]
        known = [n for n, each in enumerate(validators.validators) if public_key_of(seeds[n]) == each.node_key]
        signers = [*known[: validators.quorum - 1], known[-1]]
        return certify_by(self.genesis, header, result, [(n, seeds[n]) for n in signers])

    def append(self, transactions: Sequence[Transaction], time_ms: int) -> Execution:
        header = make_header(self.genesis, self.ledger, transactions, time_ms)
        check_block(header, transactions, self.ledger, self.genesis)
        execution = execute_block(header, transactions, self.ledger, self.genesis)
        certificate = self._certificate(header, execution.result)
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
