"""What may stand in a block: one pure definition over block and parent, for the primary and its backups alike.

Includable depends on nothing that earlier transactions of the same block do; what those change gives a refused
outcome instead. Two rules are not here: signatures, which the caller has verified, and the wall clock, by which a
backup judges a block's time once, when its header first arrives (docs/spec/block.md, Includable).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.contracts.entries import MemberEntry, consent_key, load_member, person_key
from node.execution.admission import payer_refusal, window_refusal
from node.execution.parent import Parent
from storage.merkle import log
from storage.schema.block import BLOCK_VERSION, Header
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction, derived_id

_WAITS = frozenset({"tx.too_far_future", "block.count_full", "block.bytes_full", "block.payer_full"})
_MAKERS = frozenset({"identity.register_patient", "identity.enrol_practitioner"})


class BlockInvalidError(Exception):
    """A block must not be voted for; the reason names the rule that it breaks."""

    code = "block.invalid"

    def __init__(self, reason: str) -> None:
        """Say which rule."""
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Selection:
    """What a primary does with what waits: order it now, drop it with the code why, or leave it waiting."""

    included: tuple[Transaction, ...]
    dropped: tuple[tuple[Transaction, str], ...]
    left: tuple[Transaction, ...]


class Screen:
    """Judges the transactions of one block in their order, counting what they take of its limits."""

    def __init__(self, parent: Parent, genesis: Genesis, time_ms: int) -> None:
        """Judge for a block of this time on this parent."""
        self._parent = parent
        self._state = parent.state
        self._chain_id = genesis.chain_id
        self._parameters = genesis.parameters
        self._time_s = time_ms // 1000
        self._members: dict[str, MemberEntry | None] = {}
        self._of_payer: dict[str, int] = {}
        self._ids: set[bytes] = set()
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """How many transactions have been taken."""
        return len(self._ids)

    def refusal(self, transaction: Transaction) -> str:
        """Return the code by which a transaction may not come next; empty if it may."""
        body = transaction.body
        if body.chain_id != self._chain_id:
            return "tx.other_network"
        code = window_refusal(body.not_after_s, self._time_s)
        if code:
            return code
        if transaction.id in self._ids or self._parent.contains(transaction.id):
            return "tx.replayed"
        code = payer_refusal(body, self._payer(body.payer), self._state)
        return code or self._limit(transaction)

    def take(self, transaction: Transaction) -> None:
        """Count a transaction that comes next."""
        self._ids.add(transaction.id)
        self.size_bytes += len(transaction.envelope)
        payer = transaction.body.payer
        self._of_payer[payer] = self._of_payer.get(payer, 0) + 1

    def _payer(self, name: str) -> MemberEntry | None:
        if name not in self._members:
            self._members[name] = load_member(self._state, name)
        return self._members[name]

    def _limit(self, transaction: Transaction) -> str:
        if len(self._ids) >= self._parameters.block_tx_max:
            return "block.count_full"
        if self.size_bytes + len(transaction.envelope) > self._parameters.block_bytes_max:
            return "block.bytes_full"
        is_full = self._of_payer.get(transaction.body.payer, 0) >= self._parameters.payer_tx_per_block_max
        return "block.payer_full" if is_full else ""


def check_block(header: Header, transactions: Sequence[Transaction], parent: Parent, genesis: Genesis) -> None:
    """Judge a block by its parent.

    Raises:
        BlockInvalidError: names the first rule that it breaks.
    """
    _check_header(header, parent, genesis)
    leaves = [transaction.leaf for transaction in transactions]
    if header.tx_count != len(leaves) or header.tx_root != log.root(leaves):
        raise BlockInvalidError("the header states other transactions than the block holds")
    if not leaves and header.time_ms < parent.head.header.time_ms + genesis.parameters.idle_block_s * 1000:
        raise BlockInvalidError("an empty block before its parent is old enough")
    screen = Screen(parent, genesis, header.time_ms)
    may_be_urgent = True
    for position, transaction in enumerate(transactions):
        if transaction.method.urgent and not may_be_urgent:
            raise BlockInvalidError(f"transaction {position} is urgent and stands after one that is not")
        may_be_urgent = transaction.method.urgent
        code = screen.refusal(transaction)
        if code:
            raise BlockInvalidError(f"transaction {position} is not includable: {code}")
        screen.take(transaction)
    if header.tx_bytes != screen.size_bytes:
        raise BlockInvalidError("the header states another size than its transactions have")


def _check_header(header: Header, parent: Parent, genesis: Genesis) -> None:
    head = parent.head
    validators = parent.validators
    for name, stated, expected in (
        ("version", header.version, BLOCK_VERSION),
        ("chain_id", header.chain_id, genesis.chain_id),
        ("epoch", header.epoch, validators.epoch),
        ("height", header.height, head.header.height + 1),
        ("parent", header.parent, head.digest),
        ("parent_result", header.parent_result, head.result_digest),
        ("validators_hash", header.validators_hash, validators.digest()),
        ("history_root", header.history_root, parent.history.root()),
    ):
        if stated != expected:
            raise BlockInvalidError(f"{name} of the header is not what follows from its parent")
    if header.time_ms <= head.header.time_ms:
        raise BlockInvalidError("time_ms of the header is not after its parent's")
    if validators.position(header.proposer) is None:
        raise BlockInvalidError("proposer of the header is not a validator")


def select(waiting: Sequence[Transaction], parent: Parent, genesis: Genesis, time_ms: int) -> Selection:
    """Choose from what waits, in its order and urgent calls first, what a block of this time may hold.

    Left waiting are, beside what does not fit: calls of somebody who is registered by another of those that wait,
    and urgent calls about what another of them makes; put before it they would only be refused.
    """
    made = _made_by(waiting)
    screen = Screen(parent, genesis, time_ms)
    included: list[Transaction] = []
    dropped: list[tuple[Transaction, str]] = []
    left: list[Transaction] = []
    for transaction in sorted(waiting, key=lambda transaction: not transaction.method.urgent):
        if screen.count >= genesis.parameters.block_tx_max or _comes_too_early(transaction, made, parent):
            left.append(transaction)
            continue
        code = screen.refusal(transaction)
        if not code:
            screen.take(transaction)
            included.append(transaction)
        elif code in _WAITS or (code == "tx.payer_unbound" and transaction.body.signers[0] in made):
            left.append(transaction)
        else:
            dropped.append((transaction, code))
    return Selection(tuple(included), tuple(dropped), tuple(left))


def passed_over(
    waiting: Iterable[Transaction], block: Sequence[Transaction], time_ms: int, parent: Parent, genesis: Genesis
) -> list[Transaction]:
    """Return what waits, and waited when this block was drafted, and an honest primary would have taken.

    The block had room for it, or gave another member more turns than the one that pays. Urgent calls compete with
    urgent ones only. ``parent`` may be the block's own state: what it made possible, it did not pass over for long.
    """
    rooms = [_Room(block, time_ms, parent, genesis, urgent=urgent) for urgent in (False, True)]
    return [
        transaction
        for transaction in waiting
        if rooms[transaction.method.urgent].was_due(transaction) and not _lacks_object(transaction, parent)
    ]


class _Room:
    """What a block left free for one more ordinary, or urgent, transaction."""

    def __init__(
        self, block: Sequence[Transaction], time_ms: int, parent: Parent, genesis: Genesis, *, urgent: bool
    ) -> None:
        self._screen = Screen(parent, genesis, time_ms)
        self._turns: Counter[str] = Counter()
        for transaction in block:
            if transaction.method.urgent or not urgent:
                self._screen.take(transaction)
            if transaction.method.urgent is urgent:
                self._turns[transaction.body.payer] += 1
        self._most_turns = max(self._turns.values(), default=0)
        self._is_full = self._screen.count >= genesis.parameters.block_tx_max

    def was_due(self, transaction: Transaction) -> bool:
        had_fewer_turns = self._most_turns > self._turns[transaction.body.payer] + 1
        if self._is_full and not had_fewer_turns:
            return False  # As for nearly all at saturation: no need to look into the state.
        code = self._screen.refusal(transaction)
        return not code or (code in ("block.count_full", "block.bytes_full") and had_fewer_turns)


def _made_by(waiting: Sequence[Transaction]) -> set[bytes]:
    """Return the people and consents that would come to be by these transactions."""
    made = {transaction.body.signers[0] for transaction in waiting if transaction.method.name in _MAKERS}
    if any(transaction.method.urgent for transaction in waiting):
        made |= {derived_id(transaction.id) for transaction in waiting if transaction.method.name == "consent.grant"}
    return made


def _comes_too_early(transaction: Transaction, made: set[bytes], parent: Parent) -> bool:
    """Tell whether an urgent call is about something that another of those that wait has yet to make."""
    # What stands already is never held back: else an enrolment that will be refused could delay a revocation.
    return _object(transaction)[0] in made and _lacks_object(transaction, parent)


def _lacks_object(transaction: Transaction, parent: Parent) -> bool:
    _, key = _object(transaction)
    return key is not None and parent.state.get(key) is None


def _object(transaction: Transaction) -> tuple[bytes, bytes] | tuple[None, None]:
    """Return what an urgent call ends, and where that stands; None if it needs nothing to be there."""
    if transaction.method.name == "consent.revoke":
        return transaction.arguments.consent, consent_key(transaction.arguments.consent)
    if transaction.method.name == "identity.revoke_practitioner":
        return transaction.arguments.practitioner, person_key(transaction.arguments.practitioner)
    return None, None
