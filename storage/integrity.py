"""Whether a ledger is, byte for byte, what follows from its genesis: nothing changed, nothing missing, nothing added.

Files and checksums come first. Then each block, from genesis on: its certificate by a quorum, the header and result
that it certifies, their links to the block below, every transaction and its signatures, the outcomes, the history.
Each block is executed again, in a second ledger that begins with genesis, and must give the certified result. At the
end both ledgers must hold the same, entry by entry: so are the state, the indexes, the trail and the lists of seen
ids checked, and nothing that only the checked ledger says is ever believed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from storage.blocks import Block, Blocks, load_history_from
from storage.database import (
    AREAS,
    FILES_AREA,
    HEADER,
    HISTORY,
    META,
    OUTCOMES,
    RESULT,
    SEEN,
    STATE,
    TRAIL,
    TX_INDEX,
    Database,
    DatabaseCorruptError,
    Reader,
)
from storage.database_files import FileDamageError, check_logs, check_tables
from storage.ledger import Commit, Head, Ledger
from storage.opening import VOTES, LedgerError, check_network, head_height, load_certified
from storage.partial import PartialVerification, TrailOf, checked_outcomes, checked_transactions
from storage.places import created_marker
from storage.schema.block import Header, Result
from storage.schema.genesis import Genesis
from storage.schema.transaction import Transaction
from storage.schema.validators import ValidatorSet
from storage.state import PreparedState
from storage.vote_log import VoteLog, VoteLogError

VOTES_AREA = "vote log"
REPLAY_PREFIX = "verify-"
"""How the folder of the second ledger is called, which a verification that is killed leaves behind."""


class Executed(Protocol):
    """What executing a block gives, as far as the ledger keeps it; see ``storage.ledger.Commit``."""

    @property
    def outcomes(self) -> tuple[bytes, ...]:
        """The encoded outcomes."""

    @property
    def result(self) -> Result:
        """What a certificate signs."""

    @property
    def prepared(self) -> PreparedState:
        """The state after the block."""

    @property
    def seen(self) -> Mapping[int, tuple[bytes, ...]]:
        """The sorted ids by expiry minute."""

    @property
    def expired(self) -> tuple[tuple[int, int], ...]:
        """The lists of ids that go."""

    @property
    def trail(self) -> tuple[tuple[bytes, int], ...]:
        """Subjects with the outcomes that concern them."""

    @property
    def validators(self) -> ValidatorSet:
        """Who decides the next height."""


Execute = Callable[[Header, Sequence[Transaction], Ledger], Executed]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong; ``height`` is None where the damage belongs to no block."""

    height: int | None
    area: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was verified: the heights from and to, how many blocks held, and what did not."""

    from_height: int
    to_height: int
    blocks: int
    first_bad: Finding | None

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return self.first_bad is None


def verify_folder(
    path: Path,
    genesis: Genesis,
    genesis_state: Mapping[bytes, bytes],
    execute: Execute,
    progress: Progress,
    *,
    trail_of: TrailOf,
) -> Report:
    """Verify the ledger in a folder that no process holds open, and its end by a vote log beside it; see ``verify``.

    Raises:
        DatabaseError: there is none, or it is in use.
    """
    try:
        _check_logs(path)  # Before it is opened, which empties the log.
        database = Database.open(path)
    except DatabaseCorruptError as error:
        return Report(0, 0, 0, _finding(error))
    with closing(database):
        report = verify(database, genesis, genesis_state, execute, progress, trail_of=trail_of)
    return _compared_with_votes(report, path.parent) if report.ok else report


def _compared_with_votes(report: Report, data: Path) -> Report:
    """Find out whether the ledger's end was lost: no block says that more came after it, but votes beside it do."""
    for votes in sorted(data.glob("votes*.log")):
        file = os.open(votes, os.O_RDONLY | os.O_CLOEXEC)
        try:
            VoteLog(votes, None, file, report.to_height)
        except VoteLogError as error:
            return replace(report, first_bad=Finding(None, VOTES_AREA, str(error)))
        finally:
            os.close(file)
    return report


def verify(
    database: Database,
    genesis: Genesis,
    genesis_state: Mapping[bytes, bytes],
    execute: Execute,
    progress: Progress,
    *,
    trail_of: TrailOf,
) -> Report:
    """Verify the files of a ledger's database and, from genesis to the head, all that it holds at this moment.

    A ledger whose history is not whole is verified from the lowest block that is here; see ``storage.partial``.

    A running node calls this in a thread of its own and goes on. It takes about as long as executing every block
    did, and room for a second ledger beside the folder. ``execute`` and ``trail_of`` must do what the network does;
    ``progress`` is told each height with that of the head, and ends the whole by raising.
    """
    first = height = verified = 0
    try:
        _check_logs(database.path)
        _check_tables(database)
        reader = database.snapshot()
        _read_everything(reader)
        check_network(reader, genesis)
        _check_mark(database.path, genesis)
        height = head_height(reader)
        lowest = load_history_from(reader)
        if lowest > 1:
            first = lowest
            partial = PartialVerification(reader, genesis, lowest, trail_of)
            for above in range(lowest, height + 1):
                partial.block(above)
                verified += 1
                progress(above, height)
            partial.rest(height)
            return Report(first, height, verified, None)
        with (
            TemporaryDirectory(prefix=REPLAY_PREFIX, dir=database.path.parent) as folder,
            closing(Ledger.open(Path(folder) / "ledger", genesis, genesis_state)) as replay,
        ):
            while verified < height:
                _replay_block(Blocks(reader), genesis, replay, execute)
                verified += 1
                progress(verified, height)
            _compare(reader, replay.database.snapshot(), height)
    except DatabaseCorruptError as error:
        return Report(first, height, verified, _finding(error))
    except LedgerError as error:
        return Report(first, height, verified, Finding(None, AREAS[META], str(error)))
    return Report(0, height, verified, None)


def _finding(error: DatabaseCorruptError) -> Finding:
    return Finding(error.height, error.area, error.detail)


def _check_logs(path: Path) -> None:
    try:
        check_logs(path)
    except FileDamageError as error:
        raise DatabaseCorruptError(FILES_AREA, str(error)) from None


def _check_mark(path: Path, genesis: Genesis) -> None:
    created = created_marker(path)  # A copy of the ledger alone has none.
    if created.exists() and created.read_bytes() != genesis.chain_id.hex().encode() + b"\n":
        raise DatabaseCorruptError(created.name, "it does not name the network of the ledger")


def _check_tables(database: Database) -> None:
    try:
        check_tables(database.path, database.table_names())
    except FileDamageError as error:
        raise DatabaseCorruptError(FILES_AREA, str(error)) from None


def _read_everything(reader: Reader) -> None:
    for area in AREAS:
        for _ in reader.scan(area):
            pass
    if reader.first_key_outside() is not None:
        raise DatabaseCorruptError(FILES_AREA, "there is an entry that belongs to no area")


def _replay_block(blocks: Blocks, genesis: Genesis, replay: Ledger, execute: Execute) -> None:
    height = replay.head.height + 1
    head = load_certified(blocks, replay.epochs, height)
    _check_place(head.header, genesis, replay)
    transactions = checked_transactions(blocks, head.header)
    outcomes = checked_outcomes(blocks, head)
    executed = execute(head.header, transactions, replay)
    _check_execution(executed, head, outcomes)
    assert head.certificate is not None, "every block above 0 has one"
    envelopes = tuple(transaction.envelope for transaction in transactions)
    replay.commit(
        Commit(
            block=Block(head.header, envelopes, head.certificate, head.result, outcomes),
            ids=tuple(transaction.id for transaction in transactions),
            state=executed.prepared,
            seen=executed.seen,
            expired=executed.expired,
            trail=executed.trail,
            validators=executed.validators,
        ),
        sync=False,
    )


def _check_place(header: Header, genesis: Genesis, replay: Ledger) -> None:
    below = replay.head
    if header.chain_id != genesis.chain_id or header.validators_hash != replay.validators.digest():
        raise DatabaseCorruptError(AREAS[HEADER], "of another network or other validators", header.height)
    if (header.parent, header.parent_result) != (below.digest, below.result_digest):
        raise DatabaseCorruptError(AREAS[HEADER], "not built on the block below", header.height)
    if header.history_root != replay.history.root():
        raise DatabaseCorruptError(AREAS[HISTORY], "the header covers another history", header.height)


def _check_execution(executed: Executed, head: Head, outcomes: tuple[bytes, ...]) -> None:
    if executed.outcomes != outcomes:
        raise DatabaseCorruptError(AREAS[OUTCOMES], "executing the block again gives others", head.height)
    if executed.prepared.root != head.result.state_root:
        raise DatabaseCorruptError(AREAS[STATE], "executing the block again gives another", head.height)
    if executed.result != head.result:
        raise DatabaseCorruptError(AREAS[RESULT], "executing the block again gives another", head.height)


def _compare(checked: Reader, replayed: Reader, head_height: int) -> None:
    for area, name in AREAS.items():
        # Beside what follows from the blocks there is one note of the node's own.
        entries = (entry for entry in checked.scan(area) if entry[0] != VOTES)
        for found, due in zip_longest(entries, replayed.scan(area)):
            if found == due:
                continue
            entry, why = due, "an entry was changed"
            if found is None or (due is not None and due[0] < found[0]):
                why = "an entry is missing"
            elif due is None or due[0] > found[0]:
                entry, why = found, "an entry was added"
            assert entry is not None, "one of two that differ is there"
            raise DatabaseCorruptError(name, why, _height_of(area, entry, head_height))


def _height_of(area: bytes, entry: tuple[bytes, bytes], head_height: int) -> int:
    key, value = entry
    if area == TX_INDEX:
        place = value[:8]
    else:
        place = {SEEN: key[9:17], TRAIL: key[33:41], STATE: b"", META: b"", HISTORY: b""}.get(area, key[1:9])
    return min(int.from_bytes(place, "big"), head_height) if place else head_height
