"""The height that is being agreed on: a block's bodies found, judged by parent and clock, and executed.

There is one height in flight, but views may propose different blocks for it: bodies of an earlier view's block may
still be on their way while a later view's is voted on. Each is therefore kept by its digest.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from consensus.engine import Check, Checked, Event, Execute, Executed
from node.execution.includable import BlockInvalidError
from node.execution.transition import Execution
from node.metrics import Metrics
from node.replication.bodies import Bodies, BodiesError
from node.replication.chain import Chain
from storage.schema.block import Header
from storage.schema.transaction import Transaction

BLOCKS_MAX = 8

log = logging.getLogger("caretrace.replication")


@dataclass(slots=True)
class _Block:
    """A block as far as this node has worked on it."""

    header: Header
    transactions: Sequence[Transaction]
    execution: Execution | None = None


class InFlight:
    """Does the host's work on blocks before they are committed, and answers the engine through ``post``."""

    def __init__(
        self,
        chain: Chain,
        bodies: Bodies,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        post: Callable[[Event], None],
    ) -> None:
        """Judge on the head of ``chain``, by this machine's clock ``wall_ms``."""
        self._chain = chain
        self._bodies = bodies
        self._metrics = metrics
        self._wall_ms = wall_ms
        self._post = post
        self._blocks: dict[bytes, _Block] = {}

    def draft(self, header: Header, transactions: Sequence[Transaction]) -> None:
        """This replica proposes a block of its own, which needs no judging."""
        self._keep(header, transactions)

    def clear(self) -> None:
        """The height has committed."""
        self._blocks.clear()
        self._bodies.forget()

    def transactions(self, digest: bytes) -> Sequence[Transaction]:
        """Return what the block of this digest holds; it was drafted or checked here."""
        return self._blocks[digest].transactions

    def execution(self, digest: bytes) -> Execution:
        """Return what executing the block of this digest gave."""
        execution = self._blocks[digest].execution
        assert execution is not None, "only a block that was executed is committed"
        return execution

    def execute(self, effect: Execute) -> None:
        """Execute a block that was drafted or checked, and answer with the digest of its result."""
        digest = effect.header.digest()
        block = self._blocks.get(digest)
        if block is None:
            return  # Its height was committed meanwhile, by catching up.
        block.execution = self._chain.execute(block.header, block.transactions)
        self._post(Executed(digest, block.execution.result.digest()))

    def check(self, check: Check, nursery: trio.Nursery) -> None:
        """Judge a proposal now if its bodies are here; else fetch them first, in ``nursery``."""
        refusal = self._refusal_by_clock(check)
        if refusal is not None:
            self._answer(check, refusal)
            return
        try:
            transactions, found = self._bodies.held(check.leaves, check.bodies)
        except BodiesError as error:
            self._answer(check, str(error))
            return
        if transactions is None:
            nursery.start_soon(self._fetch_and_judge, check, found)
        else:
            self._judge(check, transactions)

    async def _fetch_and_judge(self, check: Check, found: dict[bytes, Transaction]) -> None:
        try:
            transactions = await self._bodies.fetch(check.leaves, found, check.holders)
        except BodiesError as error:
            self._answer(check, str(error))
            return
        self._judge(check, transactions)

    def _judge(self, check: Check, transactions: Sequence[Transaction]) -> None:
        try:
            self._chain.check(check.header, transactions)
        except BlockInvalidError as error:
            self._answer(check, str(error))
            return
        self._keep(check.header, transactions)
        self._answer(check, None)

    def _refusal_by_clock(self, check: Check) -> str | None:
        """The time rule (docs/spec/block.md): a prepared certificate exempts from it, and from nothing else."""
        if check.certified:
            return None
        parameters, header, wall_ms = self._chain.genesis.parameters, check.header, self._wall_ms()
        if header.time_ms < wall_ms - parameters.clock_behind_ms_max:
            return f"its time is {wall_ms - header.time_ms} ms behind this node's clock"
        is_ahead = header.time_ms > wall_ms + parameters.clock_ahead_ms_max
        if is_ahead and header.time_ms != self._chain.head.header.time_ms + 1:
            return f"its time is {header.time_ms - wall_ms} ms ahead of this node's clock"
        return None

    def _keep(self, header: Header, transactions: Sequence[Transaction]) -> None:
        # Asked about twice while its bodies were on their way, a block is judged twice: what was executed stays.
        self._blocks.setdefault(header.digest(), _Block(header, transactions))
        while len(self._blocks) > BLOCKS_MAX:
            # The engine speaks of the newest views' blocks only, and asks anew about one it comes back to.
            del self._blocks[next(iter(self._blocks))]
        self._bodies.keep(transactions)

    def _answer(self, check: Check, refusal: str | None) -> None:
        if refusal is not None:
            self._metrics.proposals_refused.inc()
            log.warning("no vote for block %d of %s: %s", check.header.height, check.header.proposer, refusal)
        self._post(Checked(check.header.digest(), refusal))
