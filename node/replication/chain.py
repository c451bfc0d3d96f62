"""The chain as this node holds it: judge a block on its head, execute it, commit it, and tell who listens.

The driver and catching up share it, so that a block is judged and committed in one way only. Everything here is
called from one task and never awaits: between executing and committing nothing can move the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.contracts.entries import MEMBER
from node.execution.includable import check_block
from node.execution.transition import Execution, execute_block
from node.metrics import Metrics
from storage.ledger import Block, Commit, Head, Ledger
from storage.merkle import log
from storage.schema.block import BLOCK_VERSION, Certificate, Header
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction


class DivergedError(Exception):
    """This node computes something else than the quorum: its state or its program differs, and it must stop."""

    code = "chain.diverged"


@dataclass(frozen=True, slots=True)
class Committed:
    """A block that has just been committed, for those who listen."""

    header: Header
    certificate: Certificate
    transactions: tuple[Transaction, ...]
    outcomes: tuple[bytes, ...]
    members_changed: bool


class Chain:
    """Ledger and rules together."""

    def __init__(self, ledger: Ledger, genesis: Genesis, metrics: Metrics) -> None:
        """Stand on an open ledger."""
        self.ledger = ledger
        self.genesis = genesis
        self._metrics = metrics
        self._listeners: list[Callable[[Committed], None]] = []

    @property
    def head(self) -> Head:
        """The newest committed block."""
        return self.ledger.head

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call ``listener`` after each commit, in order; it must be quick and must not raise."""
        self._listeners.append(listener)

    def next_header(self, proposer: str, view: int, time_ms: int, transactions: Sequence[Transaction]) -> Header:
        """Write the header of a block of these transactions on the head."""
        head = self.head
        return Header(
            version=BLOCK_VERSION,
            chain_id=self.genesis.chain_id,
            epoch=self.ledger.validators.epoch,
            height=head.header.height + 1,
            parent=head.digest,
            parent_result=head.result_digest,
            time_ms=time_ms,
            proposer=proposer,
            first_view=view,
            tx_root=log.root([transaction.leaf for transaction in transactions]),
            tx_count=len(transactions),
            tx_bytes=sum(len(transaction.envelope) for transaction in transactions),
            validators_hash=self.ledger.validators.digest(),
            history_root=self.ledger.history.root(),
        )

    def check(self, header: Header, transactions: Sequence[Transaction]) -> None:
        """Judge a block by everything but signatures and the wall clock.

        Raises:
            BlockInvalidError: names the rule that the block breaks.
        """
        check_block(header, transactions, self.ledger, self.genesis)

    def execute(self, header: Header, transactions: Sequence[Transaction]) -> Execution:
        """Work out what the block does to the head's state; changes nothing."""
        return execute_block(header, transactions, self.ledger, self.genesis)

    def commit(
        self, header: Header, transactions: Sequence[Transaction], execution: Execution, certificate: Certificate
    ) -> None:
        """Write a certified block down, durably, and tell the listeners."""
        assert certificate.result == execution.result.digest(), "only what the quorum certified is committed"
        block = Block(
            header=header,
            envelopes=tuple(transaction.envelope for transaction in transactions),
            certificate=certificate,
            result=execution.result,
            outcomes=execution.outcomes,
        )
        syncs_before = self.ledger.synced_batch_count
        self.ledger.commit(
            Commit(
                block=block,
                ids=tuple(transaction.id for transaction in transactions),
                state=execution.prepared,
                seen=execution.seen,
                expired=execution.expired,
                trail=execution.trail,
                validators=execution.validators,
            )
        )
        self._metrics.synced_batches.inc(self.ledger.synced_batch_count - syncs_before)
        self._metrics.committed(len(transactions), execution.refused_count)
        members_changed = any(key.startswith(MEMBER) for key in execution.writes)
        committed = Committed(header, certificate, tuple(transactions), execution.outcomes, members_changed)
        for listener in self._listeners:
            listener(committed)
