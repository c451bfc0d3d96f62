"""What a host does with blocks: draft them of waiting transactions, judge them, execute them, find their bodies."""

from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from consensus.engine import Check, Checked, Draft, Drafted, Effect, Execute, Executed
from storage.schema.block import Header, transactions_root
from storage.schema.codec import encode
from tests.simulation.virtual_disk import StoredBlock
from tests.simulation.virtual_world import MS

if TYPE_CHECKING:
    from tests.simulation.virtual_host import Host

TRANSACTIONS_PER_BLOCK = 3
FORGED = b"forged"


def leaf_of(transaction: bytes) -> bytes:
    return sha256(b"\x00" + transaction).digest()


def block_result(parent_result: bytes, digest: bytes) -> bytes:
    """Execute a block: here, a hash of everything up to it."""
    return sha256(b"result" + parent_result + digest).digest()


def make_header(parent: StoredBlock, proposer: str, view: int, transactions: tuple[bytes, ...]) -> Header:
    """Build the header of a block on its parent."""
    leaves = [leaf_of(transaction) for transaction in transactions]
    below = parent.header
    return Header(
        version=below.version,
        chain_id=below.chain_id,
        epoch=below.epoch,
        height=below.height + 1,
        parent=below.digest(),
        parent_result=parent.result,
        time_ms=below.time_ms + 1,
        proposer=proposer,
        first_view=view,
        tx_root=transactions_root(leaves),
        tx_count=len(transactions),
        tx_bytes=sum(map(len, transactions)),
        validators_hash=below.validators_hash,
        history_root=bytes(32),
    )


class BlockDesk:
    """The block work of one host; one draft, one check and one execution at a time, the newest that was asked for."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.executions: dict[bytes, set[int]] = {}
        self.executed_again = 0
        self.restart()

    def restart(self) -> None:
        """Forget what a crash loses."""
        self._draft: Draft | None = None
        self._check: Check | None = None
        self._execute: Execute | None = None
        self._memory: dict[bytes, tuple[bytes, ...]] = {}
        self._committed: set[bytes] = set()
        self._counted = 0

    def perform(self, effect: Effect) -> None:
        """Take an effect that is about blocks; the others are for the record only."""
        match effect:
            case Draft():
                self._draft = effect
                self.draft_soon()
            case Check():
                self._check = effect
                self._obtain(effect, effect.holders)
            case Execute():
                self._execute = effect
                self._host.later(self._host.world.between(100, 3 * MS), self._run, effect)
            case _:
                pass

    def is_committed(self, transaction: bytes) -> bool:
        """Tell whether a transaction stands in the ledger."""
        ledger = self._host.disk.ledger
        for block in ledger[self._counted :]:
            self._committed.update(block.transactions)
        self._counted = len(ledger)
        return transaction in self._committed

    def transactions_of(self, digest: bytes) -> tuple[bytes, ...] | None:
        """Return the bodies of a block, if they are here: in memory, in the vote log, or in the ledger."""
        held = self._memory.get(digest) or self._host.disk.bodies.get(digest)
        if held is not None:
            return held
        for block in reversed(self._host.disk.ledger[-2:]):
            if block.certificate is not None and block.certificate.digest == digest:
                return block.transactions
        return None

    def is_certified(self, block: StoredBlock) -> bool:
        """Tell whether a fetched block is the certified next one."""
        header, head, host = block.header, self._host.disk.head, self._host
        return (
            block.certificate is not None
            and block.certificate.height == header.height
            and block.certificate.digest == header.digest()
            and block.certificate.result == block.result == block_result(head.result, header.digest())
            and header.parent == head.header.digest()
            and header.tx_root == transactions_root([leaf_of(body) for body in block.transactions])
            and host.manners.is_certified(block.certificate)
        )

    def draft_soon(self) -> None:
        """Build the draft that is asked for, once there is work."""
        if self._draft is not None and self._host.pool:
            self._host.later(self._host.world.between(100, 2 * MS), self._build, self._draft)

    def _build(self, draft: Draft) -> None:
        host = self._host
        if draft is not self._draft or not host.pool or len(host.disk.ledger) != draft.height:
            return
        self._draft = None
        transactions = tuple(list(host.pool)[:TRANSACTIONS_PER_BLOCK])
        header = make_header(host.disk.head, host.name, draft.view, transactions)
        self._memory[header.digest()] = transactions
        bodies = encode(transactions) if host.world.chance(host.manners.inline) else b""
        host.step(Drafted(draft.view, header, tuple(map(leaf_of, transactions)), bodies))

    def _obtain(self, check: Check, holders: tuple[str, ...]) -> None:
        """Look for the bodies until they are found: with who should hold them, later with everybody."""
        if check is not self._check:
            return
        host, digest = self._host, check.header.digest()
        if check.bodies:
            self._memory[digest] = decode_transactions(check.bodies)
        if self.transactions_of(digest) is not None:
            host.later(host.world.between(100, 2 * MS), self._judge, check)
            return
        for holder in holders:
            host.network.send(host.name, holder, ("bodies?", digest))
        host.later(150 * MS, self._obtain, check, host.peers)

    def on_bodies(self, digest: bytes, transactions: tuple[bytes, ...]) -> None:
        """Bodies have come; they are those asked for only if they hash to the leaves."""
        check = self._check
        if check is None or check.header.digest() != digest or self.transactions_of(digest) is not None:
            return
        if tuple(map(leaf_of, transactions)) == check.leaves:
            self._memory[digest] = transactions
            self._host.later(self._host.world.between(100, 2 * MS), self._judge, check)

    def _judge(self, check: Check) -> None:
        host, digest = self._host, check.header.digest()
        if check is not self._check or len(host.disk.ledger) != check.header.height:
            return
        self._check = None
        transactions = self.transactions_of(digest)
        assert transactions is not None
        refusal = None
        if tuple(map(leaf_of, transactions)) != check.leaves or transactions_root(check.leaves) != check.header.tx_root:
            refusal = "leaves"
        elif any(body.startswith(FORGED) or self.is_committed(body) for body in transactions):
            refusal = "transaction"
        elif not check.certified and host.world.chance(host.manners.clock_refusals):
            refusal = "clock"
        if refusal is not None:
            host.world.note(host.name, f"refuses {check.header.height} for its {refusal}")
        host.step(Checked(digest, refusal))

    def _run(self, execute: Execute) -> None:
        host = self._host
        if execute is not self._execute or len(host.disk.ledger) != execute.header.height:
            return
        self._execute = None
        digest = execute.header.digest()
        views = self.executions.setdefault(digest, set())
        if views and host.engine.view not in views:
            self.executed_again += 1
        views.add(host.engine.view)
        host.step(Executed(digest, block_result(host.disk.head.result, digest)))


def decode_transactions(bodies: bytes) -> tuple[bytes, ...]:
    """Read bodies as a draft carries them; what does not decode is one forged transaction."""
    try:
        return msgspec.msgpack.decode(bodies, type=tuple[bytes, ...])
    except msgspec.DecodeError:
        return (FORGED,)
