"""The ledger of a node: every certified block, what executing it gave, and the state, in one database.

A block is committed in one synced batch, so that after a crash the ledger stands at one height or the other, whole.
Opening it checks what the next block will be built on: the network, the head's certificate, the chain of the last
headers, the history, and the state against the certified root. ``storage.integrity`` checks everything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

from storage.blocks import FROM, Block, Blocks, height_key, load_history_from, stage_block
from storage.database import HISTORY, META, Database, HistoryError
from storage.epoch_links import stage_link
from storage.indexes import Indexes
from storage.merkle.log import Frontier
from storage.opening import (
    VOTES,
    Head,
    check_beginning,
    load_head,
    load_history,
    load_state,
    make_head,
    open_database,
)
from storage.receipts import Receipts
from storage.schema.block import Certificate, Header, Outcome, Result, history_leaf
from storage.schema.epochs import EpochLink, Epochs
from storage.schema.genesis import Genesis
from storage.schema.state_proof import StateProof
from storage.schema.validators import ValidatorSet
from storage.state import PreparedState, State

__all__ = ["Block", "Commit", "Head", "Ledger"]


@dataclass(frozen=True, slots=True)
class Commit:
    """A certified block and all that follows from it.

    ``ids`` are those of its transactions, in order. ``seen`` has for each expiry minute the sorted ids that expire
    then; ``expired`` names the lists, by (minute, height), that go, oldest first. ``trail`` has (subject, index of the
    outcome that concerns it). ``validators`` decide the next height.
    """

    block: Block
    ids: tuple[bytes, ...]
    state: PreparedState
    seen: Mapping[int, tuple[bytes, ...]]
    expired: tuple[tuple[int, int], ...]
    trail: tuple[tuple[bytes, int], ...]
    validators: ValidatorSet


class Ledger:
    """The committed blocks of one node.

    One thread commits; others may read meanwhile. Heights given to it are up to the head's. Reading raises
    ``DatabaseCorruptError`` where what is stored is damaged, and ``HistoryError`` below ``history_from``, for a ledger
    that began with a snapshot gets what is below it by and by; height 0 is always here.
    """

    def __init__(self, database: Database, head: Head, epochs: Epochs, history: Frontier, state: State) -> None:
        """Put a ledger together from its checked parts."""
        self.database = database
        self._committing = Lock()
        self._blocks = Blocks(database)
        self._indexes = Indexes(database)
        self._receipts = Receipts(self._blocks)
        self._history = history
        self.head = head
        self.epochs = epochs
        self.state = state
        self.history_from = load_history_from(database)
        self.synced_batch_count = 0
        # Whether somebody has asked for what lies below; who fetches it makes haste then.
        self.is_history_missed = False

    @classmethod
    def open(cls, path: Path, genesis: Genesis, genesis_state: Mapping[bytes, bytes]) -> Self:
        """Open a network's ledger, begun with ``genesis_state`` at height 0 if it was never begun here.

        Raises:
            OtherNetworkError: the folder holds another network's ledger.
            LedgerFormatError: another version wrote it.
            DatabaseError: it is damaged (which area is said), in use, or lost.
        """
        database = open_database(path, genesis, genesis_state)
        try:
            check_beginning(database, genesis, genesis_state)
            head, epochs = load_head(database, genesis)
            return cls(database, head, epochs, load_history(database, head), load_state(database, genesis, head))
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # ------------------------------------------------------------------------------------------------- committing

    def commit(self, commit: Commit, *, sync: bool = True) -> None:
        """Write a block with all that follows from it, and return once it is on the disk.

        May run in a thread of its own; other threads go on during the write. Only what can be made anew from another
        ledger is written without ``sync``.

        Raises:
            DiskFullError: nothing was written; the node must stop.
            DatabaseError: likewise.
        """
        block, header = commit.block, commit.block.header
        head = make_head(header, block.result, block.certificate)
        self._check(commit, head)
        batch = self.database.batch(sync=sync)
        stage_block(batch, header, block.result, block.envelopes, block.outcomes, block.certificate)
        self._indexes.stage(batch, header.height, commit.ids, commit.seen, commit.expired, commit.trail)
        self.state.stage(commit.state, batch)
        link = self._link(commit)
        if link is not None:
            stage_link(batch, link)
        batch.put(HISTORY, b"".join(self._history.peaks))
        batch.put(META + b"head", height_key(header.height))
        with self._committing:
            self.database.write(batch)
            self.synced_batch_count += sync
            self.state.apply(commit.state)
            self._indexes.apply(commit.seen, commit.expired)
            self._history.append(history_leaf(head.digest, head.result_digest))
            self.head = head
            if link is not None:
                self.epochs.append(link)

    def _check(self, commit: Commit, head: Head) -> None:
        header, certificate = head.header, commit.block.certificate
        assert header.height == self.head.height + 1, "blocks are committed one by one"
        assert header.parent == self.head.digest, "a block is built on the head"
        assert header.parent_result == self.head.result_digest, "a block is built on the head's result"
        assert header.history_root == self._history.root(), "a header covers the history below"
        assert certificate.height == header.height, "the certificate is the block's own"
        assert (certificate.digest, certificate.result) == (head.digest, head.result_digest), "and says what we got"
        assert commit.state.root == head.result.state_root, "the state is the certified one"
        assert header.validators_hash == self.validators.digest(), "those who were to decide have decided"
        assert commit.validators.digest() == head.result.next_validators_hash, "and name who decides next"
        assert len(commit.ids) == len(commit.block.envelopes) == header.tx_count, "each transaction has its id"

    def _link(self, commit: Commit) -> EpochLink | None:
        if commit.validators == self.validators:
            return None
        block = commit.block
        return EpochLink(block.header, block.result, block.certificate, commit.validators)

    def add_below(self, block: Block, ids: Sequence[bytes], trail: Sequence[tuple[bytes, int]]) -> None:
        """Write the block below the lowest that is here, which the caller has checked to be that.

        Not synced: a crash may lose the lowest blocks again, each whole.
        """
        height = block.header.height
        assert height == self.history_from - 1, "history grows downwards, block by block"
        batch = self.database.batch(sync=False)
        stage_block(batch, block.header, block.result, block.envelopes, block.outcomes, block.certificate)
        self._indexes.stage(batch, height, ids, {}, (), trail)
        batch.put(FROM, height_key(height)) if height > 1 else batch.delete(FROM)
        with self._committing:
            self.database.write(batch)
            self.history_from = height

    @property
    def link_below(self) -> tuple[bytes, bytes]:
        """The digests of header and result of the block below the lowest one that is here."""
        head, lowest = self.head, self.history_from
        above = self.header(lowest) if lowest <= head.height else None
        return (above.parent, above.parent_result) if above else (head.digest, head.result_digest)

    @property
    def vote_log_key(self) -> bytes | None:
        """The node key whose vote log was begun beside this ledger last."""
        return self.database.get(VOTES)

    def has_vote_log(self, node_key: bytes) -> bool:
        """Whether a vote log of this key was ever begun beside this ledger, and no later key's."""
        return self.vote_log_key == node_key

    def note_vote_log(self, node_key: bytes) -> None:
        """Remember that a key's vote log was begun, so that its loss is noticed."""
        if not self.has_vote_log(node_key):
            batch = self.database.batch()
            batch.put(VOTES, node_key)
            self.database.write(batch)

    # ---------------------------------------------------------------------------------------------------- reading

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides the next height."""
        return self.epochs.newest

    @property
    def history(self) -> Frontier:
        """The tree over digest and result of every block up to the head; copy it before appending."""
        return self._history

    def header(self, height: int) -> Header:
        """Return a block's header."""
        return self._held(height).header(height)

    def certificate(self, height: int) -> Certificate:
        """Return the commit certificate of a height above 0."""
        return self._held(height).certificate(height)

    def result(self, height: int) -> Result:
        """Return what executing a block gave."""
        return self._held(height).result(height)

    def block(self, height: int) -> Block:
        """Return everything of a height above 0."""
        return self._held(height).block(height)

    def encoded_block(self, height: int) -> bytes:
        """Return a height above 0 as an encoded ``CertifiedBlock``, for one who catches up."""
        return self._held(height).encoded_block(height)

    def encoded_whole_block(self, height: int) -> bytes:
        """Return a height above 0 as an encoded ``PastBlock``, for one who lacks its history."""
        return self._held(height).encoded_whole_block(height)

    def outcome(self, height: int, index: int) -> Outcome:
        """Return one outcome."""
        return self._held(height).outcome(height, index)

    def outcomes(self, height: int) -> tuple[bytes, ...]:
        """Return a block's encoded outcomes, in the order of execution."""
        return self._held(height).outcomes(height)

    def check_history(self, height: int = 1) -> None:
        """Check that all blocks from a height on are here, so that what is not found there is nowhere.

        Raises:
            HistoryError: some are not; whoever fetches them is told to make haste.
        """
        if 0 < height < self.history_from:
            self.is_history_missed = True
            raise HistoryError(self.history_from)

    def _held(self, height: int) -> Blocks:
        self.check_history(height)
        return self._blocks

    def contains(self, tx_id: bytes) -> bool:
        """Tell whether a transaction was ever committed."""
        return self._indexes.contains(tx_id)

    def locate(self, tx_id: bytes) -> tuple[int, int] | None:
        """Return a transaction's height and its index in the block, or None."""
        place = self._indexes.locate(tx_id)
        if place is None:
            return None
        height, index = place
        self._held(height)
        assert index is not None, "of a block that is here it is known where each transaction stands"
        return height, index

    def receipt(self, tx_id: bytes) -> bytes | None:
        """Return the receipt file of a transaction, or None if it is not committed."""
        place = self.locate(tx_id)
        return None if place is None else self._receipts.receipt(tx_id, *place)

    def expired_seen(self, before_minute: int, limit: int) -> tuple[tuple[int, int], ...]:
        """Return the (expiry minute, height) of lists of ids that need no longer be remembered, oldest first."""
        return self._indexes.expired_seen(before_minute, limit)

    def trail(
        self, subject: bytes, *, from_height: int = 0, from_index: int = 0, limit: int
    ) -> Iterator[tuple[int, int]]:
        """Yield the (height, outcome index) of what happened to a subject, oldest first, at most ``limit``.

        From height 0 it begins with the lowest block that is here.
        """
        self.check_history(from_height)
        return self._indexes.trail(subject, from_height=from_height, from_index=from_index, limit=limit)

    def transactions_matching(self, hex_digits: str, limit: int) -> tuple[bytes, ...]:
        """Return the ids of transactions whose hexadecimal form begins so, in order."""
        return self._indexes.transactions_matching(hex_digits, limit)

    def subjects_matching(self, base32_digits: str, limit: int) -> tuple[bytes, ...]:
        """Return the subjects of the trail whose typed id, without its letter, begins so, in order."""
        return self._indexes.subjects_matching(base32_digits, limit)

    def prove(self, key: bytes) -> tuple[StateProof, Head]:
        """Prove what the state holds under a key, or that it holds nothing, under the root that the head certifies."""
        with self._committing:
            return self.state.prove(key), self.head
