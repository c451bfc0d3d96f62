"""What is found beside the state: transactions by id, the ids still to be remembered, and the trail of each subject.

All of it follows from the blocks, is written in their batches, and is checked against them by ``storage.integrity``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storage.database import AREAS, SEEN, TRAIL, TX_INDEX, DatabaseCorruptError, Reader

ID_BYTES = 32
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_HEX = "0123456789abcdef"


class Indexes:
    """Reads the indexes, and adds a block's entries to its batch."""

    def __init__(self, reader: Reader) -> None:
        """Read indexes from the database or from one moment of it."""
        self._reader = reader
        # Lists go oldest first. To begin where the last one went spares walking over what LevelDB has yet to clear.
        self._seen_from = b""

    def contains(self, tx_id: bytes) -> bool:
        """Tell whether a transaction was ever committed; most ids that were not are told by the filters in memory."""
        return self._reader.get(TX_INDEX + tx_id) is not None

    def locate(self, tx_id: bytes) -> tuple[int, int | None] | None:
        """Return a transaction's height and its index in the block (None: the block is not here), or None."""
        place = self._reader.get(TX_INDEX + tx_id)
        if place is None:
            return None
        if len(place) not in (8, 12):
            raise DatabaseCorruptError(AREAS[TX_INDEX], "an entry has another length")
        return int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big") if place[8:] else None

    def expired_seen(self, before_minute: int, limit: int) -> tuple[tuple[int, int], ...]:
        """Return the (expiry minute, height) of lists of ids that no longer need to be remembered, oldest first."""
        expired: list[tuple[int, int]] = []
        for key, _ in self._reader.scan(SEEN, self._seen_from, before_minute.to_bytes(8, "big")):
            if len(expired) == limit:
                break
            expired.append((int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:], "big")))
        return tuple(expired)

    def seen(self, minute: int, height: int) -> tuple[bytes, ...]:
        """Return a list of ids, sorted; empty when there is none."""
        stored = self._reader.get(SEEN + minute.to_bytes(8, "big") + height.to_bytes(8, "big")) or b""
        return tuple(stored[at : at + ID_BYTES] for at in range(0, len(stored), ID_BYTES))

    def trail(
        self, subject: bytes, *, from_height: int = 0, from_index: int = 0, limit: int
    ) -> Iterator[tuple[int, int]]:
        """Yield the (height, outcome index) of what happened to a subject, oldest first, at most ``limit``."""
        start = subject + from_height.to_bytes(8, "big") + from_index.to_bytes(4, "big")
        # Nothing sorts behind a subject followed by thirteen highest bytes that still belongs to it.
        for count, (key, _) in enumerate(self._reader.scan(TRAIL, start, subject + b"\xff" * 13)):
            if count == limit:
                return
            yield int.from_bytes(key[33:41], "big"), int.from_bytes(key[41:], "big")

    def transactions_matching(self, hex_digits: str, limit: int) -> tuple[bytes, ...]:
        """Return the ids of transactions whose hexadecimal form begins so, in order, at most ``limit``."""
        return self._matching(TX_INDEX, _range(hex_digits, _HEX), limit)

    def subjects_matching(self, base32_digits: str, limit: int) -> tuple[bytes, ...]:
        """Return the subjects of the trail whose typed id, without its letter, begins so, in order."""
        return self._matching(TRAIL, _range(base32_digits, _BASE32), limit)

    def _matching(self, area: bytes, bounds: tuple[int, int], limit: int) -> tuple[bytes, ...]:
        found: list[bytes] = []
        low, high = bounds
        while low <= high and len(found) < limit:
            key = next((key for key, _ in self._reader.scan(area, low.to_bytes(ID_BYTES, "big"))), None)
            if key is None or int.from_bytes(key[1:33], "big") > high:
                break
            found.append(key[1:33])
            low = int.from_bytes(key[1:33], "big") + 1
        return tuple(found)

    def stage(
        self,
        batch: Any,
        height: int,
        ids: Sequence[bytes],
        seen: Mapping[int, Sequence[bytes]],
        expired: Sequence[tuple[int, int]],
        trail: Sequence[tuple[bytes, int]],
    ) -> None:
        """Add a block's entries to the batch that commits it."""
        put, place = batch.put, height.to_bytes(8, "big")
        for index, tx_id in enumerate(ids):
            put(TX_INDEX + tx_id, place + index.to_bytes(4, "big"))
        for minute, minute_ids in seen.items():
            put(SEEN + minute.to_bytes(8, "big") + place, b"".join(minute_ids))
        for minute, seen_height in expired:
            batch.delete(SEEN + minute.to_bytes(8, "big") + seen_height.to_bytes(8, "big"))
        for subject, outcome_index in trail:
            put(TRAIL + subject + place + outcome_index.to_bytes(4, "big"), b"")

    def apply(self, seen: Mapping[int, Sequence[bytes]], expired: Sequence[tuple[int, int]]) -> None:
        """Take up what was staged, once its batch is written."""
        oldest = [expired[-1][0].to_bytes(8, "big")] if expired else [self._seen_from]
        self._seen_from = min(oldest + [minute.to_bytes(8, "big") for minute in seen])


def _range(digits: str, alphabet: str) -> tuple[int, int]:
    width, value = len(alphabet).bit_length() - 1, 0
    for digit in digits:
        position = alphabet.find(digit)
        if position < 0:
            return 1, 0
        value = value * len(alphabet) + position
    missing = 8 * ID_BYTES - width * len(digits)
    if missing < 0:
        # The last of 52 digits in base32 holds a single bit of the id; the other four are zero.
        is_whole = -missing < width and value % (1 << -missing) == 0
        return (value >> -missing, value >> -missing) if is_whole else (1, 0)
    return value << missing, ((value + 1) << missing) - 1
