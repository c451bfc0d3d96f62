"""What a folder holds beside the blocks: files without which a loss would not be noticed."""

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from storage.integrity import Finding, Report, verify_folder
from storage.ledger import Ledger
from storage.schema.block import Header
from storage.schema.transaction import Transaction
from storage.vote_log import VoteLog
from tests.support.chain import GENESIS_STATE, Executed, execute, extend, make_genesis, trail_of

GENESIS = make_genesis()
HEIGHT = 4


def execute_here(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Executed:
    return execute(GENESIS, header, transactions, ledger.state, ledger)


def verified(folder: Path) -> Report:
    return verify_folder(folder, GENESIS, GENESIS_STATE, execute_here, lambda _height, _of: None, trail_of=trail_of)


def found(folder: Path) -> Finding:
    first_bad = verified(folder).first_bad
    assert first_bad is not None
    return first_bad


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "ledger"
    with closing(Ledger.open(folder, GENESIS, GENESIS_STATE)) as ledger:
        extend(GENESIS, ledger, block_count=HEIGHT, tx_count=2)
        ledger.note_vote_log(bytes(32))
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "ledger"))


def with_votes(folder: Path, spent_height: int) -> Path:
    """Put a vote log beside a ledger, which knows of a height."""
    path = folder.parent / "votes.log"
    with closing(VoteLog.open(path, bytes(32), ledger_height=spent_height, must_exist=False)) as votes:
        votes.append([b"a promise above it"])
    return path


@pytest.mark.parametrize("name", ["votes.log", "votes-0011223344556677.log"])
def test_an_end_that_was_lost_is_found_by_the_votes_beside_it(folder: Path, name: str) -> None:
    with_votes(folder, HEIGHT).rename(folder.parent / name)
    whole = verified(Path(shutil.copytree(folder.parent, folder.parent / "copy")) / folder.name)
    log = next(folder.glob("*.log"))
    os.truncate(log, log.stat().st_size // 2)

    report = verified(folder)

    assert whole.ok
    assert 0 <= report.to_height < HEIGHT
    assert report.first_bad is not None
    assert report.first_bad.area == "vote log"
    assert f"it knows of block {HEIGHT}, and the ledger ends at {report.to_height}" in report.first_bad.why


def test_a_damaged_vote_log_is_found(folder: Path) -> None:
    path = with_votes(folder, HEIGHT)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)

    assert found(folder).area == "vote log"


def test_a_ledger_without_its_current_file_is_found(folder: Path) -> None:
    (folder / "CURRENT").unlink()

    assert found(folder) == Finding(None, "database files", "CURRENT is gone")


def test_a_changed_mark_beside_the_ledger_is_found_and_none_is_needed(built: Path, folder: Path) -> None:
    mark = built.with_name("ledger.created").read_bytes()
    (folder.parent / "ledger.created").write_bytes(mark)
    unchanged = verified(folder)
    (folder.parent / "ledger.created").write_bytes(bytes([mark[0] ^ 1]) + mark[1:])

    assert unchanged.ok
    assert found(folder).area == "ledger.created"
