from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Database, DatabaseCorruptError
from storage.indexes import Indexes
from storage.schema.codec import typed_id


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "ledger", create=True)
    yield database
    database.close()


def digest(number: int) -> bytes:
    return sha256(number.to_bytes(4, "big")).digest()


def stage(
    database: Database,
    indexes: Indexes,
    height: int,
    *,
    ids: Sequence[bytes] = (),
    seen: dict[int, tuple[bytes, ...]] | None = None,
    expired: Sequence[tuple[int, int]] = (),
    trail: Sequence[tuple[bytes, int]] = (),
) -> None:
    batch = database.batch()
    indexes.stage(batch, height, ids, seen or {}, expired, trail)
    database.write(batch)
    indexes.apply(seen or {}, expired)


def test_a_transaction_is_found_by_its_id(database: Database) -> None:
    indexes = Indexes(database)
    for height in range(1, 4):
        stage(database, indexes, height, ids=[digest(10 * height + index) for index in range(5)])

    assert indexes.locate(digest(23)) == (2, 3)
    assert indexes.contains(digest(23))
    assert indexes.locate(digest(99)) is None
    assert not indexes.contains(digest(99))


def test_an_entry_of_another_length_is_damage(database: Database) -> None:
    batch = database.batch()
    batch.put(b"t" + digest(1), bytes(11))
    database.write(batch)

    with pytest.raises(DatabaseCorruptError, match="transaction index"):
        Indexes(database).locate(digest(1))


def test_the_trail_is_told_in_order_from_a_place_on_and_for_one_subject_only(database: Database) -> None:
    indexes = Indexes(database)
    subject, before, after = bytes([7]) * 32, bytes([7]) * 31 + b"\x06", bytes([7]) * 31 + b"\x08"
    highest = b"\xff" * 32
    for height in (1, 2, 300, 2**40):
        stage(
            database, indexes, height, trail=[(s, index) for s in (before, subject, after, highest) for index in (0, 9)]
        )

    places = [(height, index) for height in (1, 2, 300, 2**40) for index in (0, 9)]
    for of in (subject, highest):
        assert list(indexes.trail(of, limit=100)) == places
        assert list(indexes.trail(of, limit=3)) == places[:3]
        assert list(indexes.trail(of, from_height=2, limit=100)) == places[2:]
        assert list(indexes.trail(of, from_height=2, from_index=1, limit=2)) == places[3:5]
    assert list(indexes.trail(bytes(32), limit=100)) == []


blocks = st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=4), min_size=1, max_size=8)


def test_lists_of_seen_ids_expire_oldest_first_and_are_gone_then(tmp_path: Path) -> None:
    folders = iter(range(1000))

    @given(blocks, st.integers(1, 5))
    def check(lifetimes: list[set[int]], limit: int) -> None:
        database = Database.open(tmp_path / str(next(folders)), create=True)
        indexes, model = Indexes(database), dict[tuple[int, int], tuple[bytes, ...]]()
        for height, minutes_left in enumerate(lifetimes, start=1):
            now = 5 * height
            seen: dict[int, tuple[bytes, ...]] = {now + left: (digest(height), digest(left)) for left in minutes_left}
            due = tuple(sorted(place for place in model if place[0] < now)[:limit])

            expired = indexes.expired_seen(now, limit)
            assert expired == Indexes(database).expired_seen(now, limit) == due

            stage(database, indexes, height, seen=seen, expired=expired)
            model |= {(minute, height): ids for minute, ids in seen.items()}
            for place in expired:
                del model[place]
        for place, ids in model.items():
            assert indexes.seen(*place) == ids
        assert indexes.expired_seen(2**40, 1000) == tuple(sorted(model))
        database.close()

    check()


def test_an_id_is_found_by_the_beginning_of_its_written_form(database: Database) -> None:
    indexes = Indexes(database)
    ids = sorted(digest(number) for number in range(300))
    stage(database, indexes, 1, ids=ids, trail=[(raw, 0) for raw in ids])
    stage(database, indexes, 2, trail=[(raw, 0) for raw in ids])

    for raw in ids[::37]:
        written, digits = raw.hex(), typed_id("c", raw).removeprefix("c-")
        for length in (0, 1, 2, 3, 5, 63, 64):
            due = [other for other in ids if other.hex().startswith(written[:length])]
            assert indexes.transactions_matching(written[:length], 1000) == tuple(due)
            assert indexes.transactions_matching(written[:length], 2) == tuple(due[:2])
        for length in (0, 1, 2, 3, 5, 51, 52):
            due = [other for other in ids if typed_id("c", other).startswith("c-" + digits[:length])]
            assert indexes.subjects_matching(digits[:length], 1000) == tuple(due)


@pytest.mark.parametrize("digits", ["g", "A", "0x", "é", "0" * 65, "f" * 65])
def test_what_is_not_hexadecimal_or_too_long_begins_no_id(database: Database, digits: str) -> None:
    indexes = Indexes(database)
    stage(database, indexes, 1, ids=[bytes(32), b"\xff" * 32])

    assert indexes.transactions_matching(digits, 10) == ()


@pytest.mark.parametrize("digits", ["1", "A", "a=", "a" * 53, "a" * 51 + "b"])
def test_what_is_not_base32_or_too_long_begins_no_id(database: Database, digits: str) -> None:
    indexes = Indexes(database)
    stage(database, indexes, 1, trail=[(bytes(32), 0)])

    assert indexes.subjects_matching(digits, 10) == ()
    assert indexes.subjects_matching("a" * 52, 10) == (bytes(32),)
