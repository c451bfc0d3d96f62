from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import storage.state as module
from storage.database import STATE, Database, DatabaseCorruptError
from storage.recent import Recent
from storage.schema.state_proof import verify_state_proof
from storage.state import State

DEPTH = 2
keys = st.binary(min_size=1, max_size=2)
writes = st.dictionaries(keys, st.none() | st.binary(max_size=8), max_size=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    database = Database.open(folder, create=True)
    yield database
    database.close()


def write(database: Database, state: State, changes: dict[bytes, bytes | None]) -> None:
    prepared = state.prepare(changes)
    batch = database.batch(sync=False)
    state.stage(prepared, batch)
    database.write(batch)
    state.apply(prepared)


def test_a_state_answers_as_a_dictionary_does_and_proves_it(tmp_path: Path) -> None:
    folders = iter(range(1000))

    @given(st.lists(writes, max_size=5), st.lists(keys, max_size=5))
    def check(blocks: list[dict[bytes, bytes | None]], others: list[bytes]) -> None:
        database = Database.open(tmp_path / str(next(folders)), create=True)
        state, model = State(database, DEPTH), dict[bytes, bytes]()
        for block in blocks:
            for key in block:
                assert state.get(key) == model.get(key)
            write(database, state, block)
            model = {key: value for key, value in (model | block).items() if value is not None}

        again = State.load(database, DEPTH)
        assert again.root == state.root
        for key in {*others, *model, *(key for block in blocks for key in block)}:
            assert state.get(key) == again.get(key) == model.get(key)
            verify_state_proof(again.prove(key), key, model.get(key), state.root)
        database.close()

    check()


def test_the_root_depends_on_what_stands_and_not_on_the_way_there(database: Database, tmp_path: Path) -> None:
    other = Database.open(tmp_path / "other", create=True)
    straight, winding = State(database, DEPTH), State(other, DEPTH)

    write(database, straight, {b"a": b"1", b"b": b"2"})
    write(other, winding, {b"b": b"0", b"c": b"3"})
    write(other, winding, {b"c": None, b"a": b"1"})
    write(other, winding, {b"b": b"2", b"never": None})

    assert straight.root == winding.root
    other.close()


def test_what_was_prepared_and_dropped_changes_nothing(database: Database) -> None:
    state = State(database, DEPTH)
    write(database, state, {b"key": b"value"})
    root = state.root

    assert state.prepare({b"key": b"other", b"more": b"x"}).root != root
    assert (
        state.prepare({b"key": b"other", b"more": b"x"}).root == state.prepare({b"more": b"x", b"key": b"other"}).root
    )

    assert state.root == root
    assert state.get(b"key") == b"value"
    assert state.get(b"more") is None


def test_buckets_and_values_that_fell_out_of_memory_are_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUCKETS_BYTES_MAX", 1000)
    monkeypatch.setattr(module, "VALUES_BYTES_MAX", 1000)
    state, roomy = State(database, DEPTH), dict[bytes, bytes]()
    for block in range(30):
        changes = {bytes([block, number % 7]): bytes([number]) * 9 for number in range(20)}
        write(database, state, dict(changes))
        roomy |= changes
        write(database, state, {bytes([block // 2, 3]): None})
        roomy.pop(bytes([block // 2, 3]), None)

    assert {key: state.get(key) for key in roomy} == roomy
    assert State.load(database, DEPTH).root == state.root


class Interrupted(Database):
    """A database between whose reading and answering a block is committed."""

    meanwhile: Callable[[], None] | None = None

    def get(self, key: bytes) -> bytes | None:
        value = super().get(key)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return value


def test_a_value_read_while_a_block_replaced_it_is_not_remembered(folder: Path) -> None:
    database = Interrupted.open(folder, create=True)
    state = State(database, DEPTH)
    write(database, state, {b"consent": b"active"})
    reading = State.load(database, DEPTH)  # One that does not yet remember the value.
    database.meanwhile = lambda: write(database, reading, {b"consent": b"revoked"})

    assert reading.get(b"consent") == b"active"

    assert reading.get(b"consent") == b"revoked"
    database.close()


def test_an_absence_read_while_a_block_ended_it_is_not_remembered(folder: Path) -> None:
    database = Interrupted.open(folder, create=True)
    state = State(database, DEPTH)
    database.meanwhile = lambda: write(database, state, {b"exclusion": b"set"})

    assert state.get(b"exclusion") is None

    assert state.get(b"exclusion") == b"set"
    database.close()


@pytest.mark.parametrize("change", ["value", "added", "removed"])
def test_an_entry_that_the_root_does_not_cover_is_noticed(database: Database, change: str) -> None:
    state = State(database, DEPTH)
    write(database, state, {bytes([number]): b"value" for number in range(200)})
    (key, _), *_ = database.scan(STATE)
    batch = database.batch()
    if change == "removed":
        batch.delete(key)
    else:
        batch.put(key if change == "value" else key[:-1] + bytes([key[-1] ^ 1]), b"other")
    database.write(batch)

    assert State.load(database, DEPTH).root != state.root
    damaged = 0
    for number in range(200):
        try:
            state.prove(bytes([number]))
        except DatabaseCorruptError as error:
            assert error.area == "state"  # noqa: PT017 - raised for the keys of one bucket only
            damaged += 1
    assert 1 <= damaged <= 8


def test_a_bucket_that_is_not_what_the_root_covers_is_never_built_upon(database: Database) -> None:
    written = State(database, DEPTH)
    write(database, written, {b"key": b"value"})
    state = State.load(database, DEPTH)
    state._buckets = Recent(0)
    ((key, _),) = database.scan(STATE)
    batch = database.batch()
    batch.put(key, b"other")
    database.write(batch)

    with pytest.raises(DatabaseCorruptError):
        state.prepare({b"key": b"new"})
