import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import plyvel
import pytest

from storage.database import (
    AREAS,
    HEADER,
    STATE,
    TRAIL,
    Database,
    DatabaseCorruptError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseLostError,
    DiskFullError,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    database = Database.open(folder, create=True)
    yield database
    database.close()


def put(database: Database, entries: dict[bytes, bytes]) -> None:
    batch = database.batch()
    for key, value in entries.items():
        batch.put(key, value)
    database.write(batch)


def test_what_was_written_is_read_after_opening_again(database: Database, folder: Path) -> None:
    put(database, {HEADER + b"1": b"one"})
    database.close()

    again = Database.open(folder)

    assert again.get(HEADER + b"1") == b"one"
    assert again.get(HEADER + b"2") is None
    again.close()


def test_an_area_is_scanned_in_order_within_its_bounds_and_no_further(database: Database) -> None:
    keys = [b"", b"\x00", b"a", b"b", b"\xff" * 40]
    put(database, {area + key: area + key for area in AREAS for key in keys})

    for area in AREAS:
        whole = [(area + key, area + key) for key in keys]
        assert list(database.scan(area)) == whole
        assert list(database.scan(area, reverse=True)) == whole[::-1]
        assert list(database.scan(area, b"a", b"b")) == whole[2:3]


def test_prefixes_of_areas_do_not_meet() -> None:
    assert all(len(prefix) == 1 for prefix in AREAS)
    assert len(set(AREAS.values())) == len(AREAS)


def test_a_key_of_no_area_is_found_wherever_it_stands(database: Database) -> None:
    put(database, {area + b"key": b"" for area in AREAS})
    assert database.first_key_outside() is None

    for key in (b"A", b"b", b"g", b"q", b"z", b"\xff"):
        put(database, {key: b""})
        assert database.first_key_outside() == key
        batch = database.batch()
        batch.delete(key)
        database.write(batch)


def test_a_snapshot_stays_as_it_was(database: Database) -> None:
    put(database, {STATE + b"key": b"old"})
    snapshot = database.snapshot()

    put(database, {STATE + b"key": b"new", STATE + b"more": b""})

    assert snapshot.get(STATE + b"key") == b"old"
    assert list(snapshot.scan(STATE)) == [(STATE + b"key", b"old")]
    assert snapshot.first_key_outside() is None


def test_a_database_that_is_not_there_is_lost_and_not_begun_anew(folder: Path) -> None:
    with pytest.raises(DatabaseLostError):
        Database.open(folder)


def test_a_database_without_its_current_file_is_damaged_and_not_begun_anew(database: Database, folder: Path) -> None:
    put(database, {STATE + b"key": b"value"})
    database.close()
    (folder / "CURRENT").unlink()

    with pytest.raises(DatabaseCorruptError, match="CURRENT is gone"):
        Database.open(folder, create=True)


@pytest.mark.usefixtures("database")
def test_a_database_is_open_once_in_this_process(folder: Path) -> None:
    with pytest.raises(DatabaseLockedError):
        Database.open(folder)


@pytest.mark.usefixtures("database")
def test_a_database_is_open_once_among_processes(folder: Path) -> None:
    program = "import sys; from pathlib import Path; from storage.database import *; Database.open(Path(sys.argv[1]))"

    run = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)

    assert "DatabaseLockedError" in run.stderr


def test_a_value_whose_bytes_were_changed_on_disk_is_never_returned(database: Database, folder: Path) -> None:
    put(database, {STATE + bytes([number]): bytes([number]) * 1000 for number in range(50)})
    put(database, {TRAIL + bytes([number]): bytes([number]) * 1000 for number in range(50)})
    database.close()
    Database.open(folder).close()  # Opening moves what the log holds into a table.
    (table,) = folder.glob("*.ldb")
    content = bytearray(table.read_bytes())
    content[content.rindex(b"\x07" * 1000) + 500] ^= 1  # The trail sorts before the state.
    table.write_bytes(content)

    damaged = Database.open(folder)

    with pytest.raises(DatabaseCorruptError) as caught:
        damaged.get(STATE + b"\x07")
    assert caught.value.area == "state"
    with pytest.raises(DatabaseCorruptError, match=r"state: .*checksum mismatch"):
        list(damaged.scan(STATE))
    assert damaged.get(TRAIL + b"\x07") == b"\x07" * 1000
    damaged.close()


def test_a_missing_table_is_damage_to_the_files(database: Database, folder: Path) -> None:
    put(database, {STATE + b"key": b"value"})
    database.close()
    Database.open(folder).close()
    (table,) = folder.glob("*.ldb")
    table.unlink()

    with pytest.raises(DatabaseCorruptError) as caught:
        Database.open(folder)
    assert caught.value.area == "database files"


class FailingBatch:
    """A batch whose write fails as LevelDB's does."""

    def __init__(self, error: plyvel.Error) -> None:
        self.error = error

    def write(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (lambda: plyvel.IOError(b"IO error: 000003.log: No space left on device"), DiskFullError),
        (lambda: plyvel.IOError(b"IO error: 000003.log: Input/output error"), DatabaseError),
        (lambda: plyvel.CorruptionError(b"Corruption: block checksum mismatch"), DatabaseCorruptError),
    ],
)
def test_after_a_failed_write_nothing_more_is_written(
    database: Database, raised: Callable[[], plyvel.Error], expected: type[DatabaseError]
) -> None:
    with pytest.raises(expected):
        database.write(FailingBatch(raised()))

    with pytest.raises(DatabaseError, match="an earlier write failed"):
        put(database, {STATE + b"key": b"value"})
    assert database.get(STATE + b"key") is None


WRITES_UNTIL_THE_DISK_REFUSES = """
import resource, signal, sys
from pathlib import Path
from storage.database import STATE, Database, DatabaseError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for number in range(100):
    batch = database.batch()
    for part in range(10):
        batch.put(STATE + bytes([number, part]), bytes([number]) * 1000)
    try:
        database.write(batch)
    except DatabaseError:
        print(number)
        break
"""


def test_a_batch_that_the_disk_refuses_is_kept_not_even_in_part(database: Database, folder: Path) -> None:
    database.close()

    run = subprocess.run(
        [sys.executable, "-c", WRITES_UNTIL_THE_DISK_REFUSES, str(folder)], capture_output=True, text=True, check=True
    )

    refused = int(run.stdout)
    assert 0 < refused < 99
    again = Database.open(folder)
    kept = [key for key, _ in again.scan(STATE)]
    assert kept == [STATE + bytes([number, part]) for number in range(refused) for part in range(10)]
    again.close()
