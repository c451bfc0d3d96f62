"""Verifying a ledger that began with a snapshot and does not have the history below it yet.

There is no genesis state to execute from. What is checked instead: every block that is here, its certificate, links,
signatures and roots; the index and the trail entry by entry; the whole state, the lists of seen ids and the history
against what the head's certificate covers. What cannot be told is whether an id below was seen once its list is gone.
"""

from collections.abc import Callable, Sequence

import msgspec

from storage.blocks import Blocks
from storage.database import (
    AREAS,
    BODY,
    CERTIFICATE,
    EPOCH,
    HEADER,
    OUTCOMES,
    RESULT,
    SEEN,
    TRAIL,
    TX_INDEX,
    DatabaseCorruptError,
    Reader,
)
from storage.epoch_links import load_epochs
from storage.indexes import ID_BYTES
from storage.merkle import log
from storage.opening import Head, check_link, load_certified, load_history, load_state
from storage.schema.block import OUTCOME, Header, Outcome, transactions_root
from storage.schema.codec import DecodeError
from storage.schema.genesis import Genesis
from storage.schema.seen import seen_count_key, seen_digest, seen_key
from storage.schema.signatures import SignatureError
from storage.schema.transaction import Transaction, decode_transaction

_decode_count = msgspec.msgpack.Decoder(int).decode

TrailOf = Callable[[Sequence[Transaction], Sequence[Outcome]], Sequence[tuple[bytes, int]]]


def checked_transactions(blocks: Blocks, header: Header) -> list[Transaction]:
    """Read a block's transactions, and check that they are those of its header, each validly signed.

    Raises:
        DatabaseCorruptError: they are not.
    """
    try:
        transactions = [decode_transaction(envelope) for envelope in blocks.envelopes(header.height)]
        size_bytes = sum(len(transaction.envelope) for transaction in transactions)
        root = transactions_root([transaction.leaf for transaction in transactions])
        if (root, len(transactions), size_bytes) != (header.tx_root, header.tx_count, header.tx_bytes):
            raise DatabaseCorruptError(AREAS[BODY], "not the transactions of the header", header.height)
        for transaction in transactions:
            transaction.verify_signatures()
    except (DecodeError, SignatureError) as error:
        raise DatabaseCorruptError(AREAS[BODY], f"a transaction is not valid: {error}", header.height) from None
    return transactions


def checked_outcomes(blocks: Blocks, head: Head) -> tuple[bytes, ...]:
    """Read a block's outcomes, and check that they are those of its result.

    Raises:
        DatabaseCorruptError: they are not.
    """
    outcomes = blocks.outcomes(head.height)
    root = log.root([log.leaf_hash(outcome) for outcome in outcomes])
    if (root, len(outcomes)) != (head.result.outcomes_root, head.result.outcome_count):
        raise DatabaseCorruptError(AREAS[OUTCOMES], "not those that the result covers", head.height)
    return outcomes


class PartialVerification:
    """Verifies, height by height, the blocks that are here, and at the end all else."""

    def __init__(self, reader: Reader, genesis: Genesis, from_height: int, trail_of: TrailOf) -> None:
        """Verify what ``reader`` sees, from the lowest block that is here."""
        self._reader = reader
        self._blocks = Blocks(reader)
        self._genesis = genesis
        self._epochs = load_epochs(reader, genesis)
        self._from_height = from_height
        self._trail_of = trail_of
        self._below: Head | None = None
        self._tx_count = self._trail_count = 0

    def block(self, height: int) -> None:
        """Verify the next block.

        Raises:
            DatabaseCorruptError: the first thing that does not hold.
        """
        head = load_certified(self._blocks, self._epochs, height)
        if self._below is not None:
            check_link(self._below.header, self._below.result, head.header)
        transactions = checked_transactions(self._blocks, head.header)
        outcomes = [OUTCOME.decode(outcome) for outcome in checked_outcomes(self._blocks, head)]
        place = height.to_bytes(8, "big")
        for index, transaction in enumerate(transactions):
            if self._reader.get(TX_INDEX + transaction.id) != place + index.to_bytes(4, "big"):
                raise DatabaseCorruptError(AREAS[TX_INDEX], "an entry is missing or was changed", height)
        trail = self._trail_of(transactions, outcomes)
        for subject, outcome_index in trail:
            if self._reader.get(TRAIL + subject + place + outcome_index.to_bytes(4, "big")) != b"":
                raise DatabaseCorruptError(AREAS[TRAIL], "an entry is missing or was changed", height)
        self._tx_count += len(transactions)
        self._trail_count += len(trail)
        self._below = head

    def rest(self, height: int) -> None:
        """Verify all that belongs to no block by itself, with the head at this height.

        Raises:
            DatabaseCorruptError: the first thing that does not hold.
        """
        head = load_certified(self._blocks, self._epochs, height)
        if self._epochs.newest.digest() != head.result.next_validators_hash:
            raise DatabaseCorruptError(AREAS[EPOCH], "the newest set is not the one that the head hands over to")
        load_history(self._reader, head)
        state = load_state(self._reader, self._genesis, head)
        listed: set[bytes] = set()
        list_count = 0
        for key, stored in self._reader.scan(SEEN):
            minute, block = int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")
            ids = [stored[at : at + ID_BYTES] for at in range(0, len(stored), ID_BYTES)]
            if state.get(seen_key(minute, block)) != seen_digest(ids):
                raise DatabaseCorruptError(AREAS[SEEN], "a list is not what the state names", block)
            listed.update(ids if block < self._from_height else ())
            list_count += 1
        counted = state.get(seen_count_key())
        if list_count != (0 if counted is None else _decode_count(counted)):
            raise DatabaseCorruptError(AREAS[SEEN], "there are not as many lists as the state counts")
        self._check_counts(listed, height)

    def _check_counts(self, listed: set[bytes], height: int) -> None:
        """Nothing was added to the indexes, and of what is below the ids that must be known are."""
        here = 0
        for key, place in self._reader.scan(TX_INDEX):
            is_below = int.from_bytes(place[:8], "big") < self._from_height
            if len(place) != (8 if is_below else 12):
                raise DatabaseCorruptError(AREAS[TX_INDEX], "an entry has another length")
            here += not is_below
            listed.discard(key[1:] if is_below else b"")
        if here != self._tx_count or listed:
            raise DatabaseCorruptError(AREAS[TX_INDEX], "an entry was added or is missing", height)
        if sum(1 for _ in self._reader.scan(TRAIL)) != self._trail_count:
            raise DatabaseCorruptError(AREAS[TRAIL], "an entry was added", height)
        blocks, alone = height + 1 - self._from_height, int(self._is_base_alone())
        due = {
            HEADER: 1 + blocks + alone,
            RESULT: 1 + blocks + alone,
            CERTIFICATE: blocks + alone,
            BODY: 1 + blocks,
            OUTCOMES: 1 + blocks,
        }
        for area, count in due.items():
            if sum(1 for _ in self._reader.scan(area)) != count:
                raise DatabaseCorruptError(AREAS[area], "there are more blocks than were verified", height)

    def _is_base_alone(self) -> bool:
        """Whether the block that the snapshot stood on is here without what it holds, and then as it should be."""
        base = self._from_height - 1
        if self._reader.get(HEADER + base.to_bytes(8, "big")) is None:
            return False
        head = load_certified(self._blocks, self._epochs, base)
        if self._below is not None:
            check_link(head.header, head.result, self._blocks.header(self._from_height))
        return True
