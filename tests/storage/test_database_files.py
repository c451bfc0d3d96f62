import random
import shutil
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from storage.database import AREAS, STATE, Database, DatabaseCorruptError
from storage.database_files import FileDamageError, check_before_open, check_logs, check_tables


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a table, and with a log of more than one block of 32 KiB."""
    folder = tmp_path_factory.mktemp("built") / "ledger"
    pick = random.Random(1)
    for create, sizes in ((True, [50] * 40 + [9000]), (False, [200, 40_000, 60, 60, 60, 32_000, 7, 1, 60])):
        database = Database.open(folder, create=create)
        for number, size in enumerate(sizes):
            batch = database.batch()
            batch.put(STATE + bytes([create, number]), pick.randbytes(size))
            database.write(batch)
        database.close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "ledger")
    return tmp_path / "ledger"


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def change(path: Path, at: int, by: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= by
    path.write_bytes(content)


def test_undamaged_files_pass(folder: Path) -> None:
    check_before_open(folder)
    check_logs(folder)
    check_tables(folder, [only(folder, "*.ldb").name])
    assert only(folder, "*.log").stat().st_size > 2 * 32 * 1024


def test_a_folder_that_is_not_there_passes(tmp_path: Path) -> None:
    check_before_open(tmp_path / "nothing")
    check_logs(tmp_path / "nothing")
    check_tables(tmp_path / "nothing", ["000005.ldb"])


def test_files_of_a_database_in_use_pass_whatever_is_merged_meanwhile(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "ledger", create=True)
    pick = random.Random(2)
    for _ in range(40):
        batch = database.batch(sync=False)
        for _ in range(100):
            batch.put(STATE + pick.randbytes(32), pick.randbytes(20_000))
        database.write(batch)
        check_before_open(database.path)
        check_tables(database.path, database.table_names())

    assert len(database.table_names()) > 1
    database.close()


def test_a_table_that_no_database_knows_of_is_none_of_its_damage(folder: Path) -> None:
    (folder / "000099.ldb").write_bytes(b"a compaction that the end of the process interrupted")

    assert reads_whole(folder)
    assert not (folder / "000099.ldb").exists()


@pytest.mark.parametrize(
    "content", [b"", b"MANIFEST-000999\n", b"MANIFEST-000004", b"../../MANIFEST-000004\n", b"\xff\n"]
)
def test_a_current_file_that_names_no_manifest_is_damage(folder: Path, content: bytes) -> None:
    (folder / "CURRENT").write_bytes(content)

    with pytest.raises(FileDamageError, match="CURRENT"):
        check_before_open(folder)


@pytest.mark.parametrize("left", ["*.log", "*.ldb"])
def test_a_current_file_that_is_gone_is_missed(folder: Path, left: str) -> None:
    (folder / "CURRENT").unlink()
    for path in set(folder.glob("0*")) - set(folder.glob(left)):
        path.unlink()

    with pytest.raises(FileDamageError, match="CURRENT is gone"):
        check_before_open(folder)


def test_a_folder_whose_making_a_crash_interrupted_is_made_again(folder: Path) -> None:
    for path in [folder / "CURRENT", *folder.glob("0*")]:
        path.unlink()

    Database.open(folder, create=True).close()

    assert (folder / "CURRENT").exists()


def test_a_log_that_is_gone_is_missed(folder: Path) -> None:
    only(folder, "*.log").unlink()

    with pytest.raises(FileDamageError, match="the log is gone"):
        check_before_open(folder)


def headers_of(log: bytes) -> list[int]:
    """Where the records of a log begin, LevelDB's doc/log_format.md."""
    starts = []
    for block in range(0, len(log), 32 * 1024):
        at = block
        while at + 7 <= min(block + 32 * 1024, len(log)):
            starts.append(at)
            at += 7 + int.from_bytes(log[at + 4 : at + 6], "little")
    return starts


def test_leveldb_alone_loses_writes_to_a_changed_length_without_a_word(folder: Path) -> None:
    # Why the ends of logs are looked at before LevelDB opens them.
    log = only(folder, "*.log")
    change(log, headers_of(log.read_bytes())[-1] + 5, 0x7F)

    database = plyvel.DB(str(folder), paranoid_checks=True)

    assert len(list(database)) == 41 + 9 - 1
    database.close()


def test_every_changed_length_at_the_end_of_a_log_is_damage(folder: Path) -> None:
    log = only(folder, "*.log")
    content = log.read_bytes()
    end = len(content) - len(content) % (32 * 1024)
    records = [start for start in headers_of(content) if start >= end]
    assert len(records) >= 3

    for start in records:
        for at, by in ((4, 1), (4, 0x80), (5, 1), (5, 0x7F), (5, 0x80)):
            change(log, start + at, by)
            copy = shutil.copytree(folder, folder.with_name(f"{start} {at} {by}"))
            with pytest.raises(DatabaseCorruptError):
                Database.open(copy)
            change(log, start + at, by)


def test_a_log_that_a_crash_cut_short_is_not_damage(folder: Path) -> None:
    log = only(folder, "*.log")
    content = log.read_bytes()
    for length in [*range(0, len(content), 997), *range(len(content) - 150, len(content))]:
        log.write_bytes(content[:length])
        check_before_open(folder)

    for length in (0, 10, 20_000, 32_768, 32_770, 50_000, len(content) - 1):
        log.write_bytes(content[:length])
        check_logs(folder)
    log.write_bytes(content + bytes(5000))  # Room that a file system gave and nobody wrote to.
    check_logs(folder)


def reads_whole(folder: Path) -> bool:
    try:
        check_logs(folder)
        database = Database.open(folder)
    except (FileDamageError, DatabaseCorruptError):
        return False
    try:
        check_tables(folder, database.table_names())
        for area in AREAS:
            for _ in database.scan(area):
                pass
    except (FileDamageError, DatabaseCorruptError):
        return False
    finally:
        database.close()
    return True


@pytest.mark.parametrize("pattern", ["*.ldb", "*.log", "MANIFEST-*", "CURRENT"])
def test_every_changed_byte_of_every_file_is_found(built: Path, tmp_path: Path, pattern: str) -> None:
    pick = random.Random(pattern)
    content = only(built, pattern).read_bytes()
    # Wherever a structure begins or ends: record headers with the padding before them, and the foot of a table.
    edges = {at + near for at in headers_of(content) for near in range(-7, 8)} if pattern == "*.log" else set[int]()
    edges |= set(range(len(content) - 120, len(content))) | set(pick.sample(range(len(content)), min(60, len(content))))

    for number, at in enumerate(sorted(edge for edge in edges if 0 <= edge < len(content))):
        copy = tmp_path / str(number)
        shutil.copytree(built, copy)
        change(only(copy, pattern), at, pick.randrange(1, 256))

        assert not reads_whole(copy), f"byte {at} of {pattern}"
        shutil.rmtree(copy)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table[:0],
        lambda table: table[:40],
        lambda table: table[:-1],
        lambda table: table[:1000] + table[1001:],
        lambda table: bytes(len(table)),
        lambda table: table[:-48] + b"\xff" * 40 + table[-8:],
    ],
)
def test_a_table_that_is_none_is_found(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    table = only(folder, "*.ldb")
    table.write_bytes(spoil(table.read_bytes()))

    assert not reads_whole(folder)
