"""What must still be there after a crash is synced, and so is the folder that names it, in that order."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from storage.folders import make_folder, rename_durably
from storage.ledger import Ledger
from storage.places import arriving_folder, replace_ledger, set_aside
from storage.vote_log import VoteLog
from tests.support.chain import GENESIS_STATE, make_genesis


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, frozenset[str]]]:
    """Each file or folder that is synced, by its name, and what a folder named then."""
    seen: list[tuple[str, frozenset[str]]] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        names = frozenset(entry.name for entry in path.iterdir()) if path.is_dir() else frozenset()
        seen.append((path.name, names))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


Synced = list[tuple[str, frozenset[str]]]


def test_each_folder_that_is_made_is_named_durably(tmp_path: Path, synced: Synced) -> None:
    make_folder(tmp_path / "a" / "b")

    assert synced == [(tmp_path.name, frozenset({"a"})), ("a", frozenset({"b"}))]


def test_a_rename_lasts_on_both_sides(tmp_path: Path, synced: Synced) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "x").touch()

    rename_durably(tmp_path / "from" / "x", tmp_path / "to" / "y")

    assert synced == [("to", frozenset({"y"})), ("from", frozenset())]


def test_a_vote_log_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: Synced) -> None:
    VoteLog.open(tmp_path / "votes.log", bytes(32), ledger_height=0, must_exist=False).close()

    assert synced == [("votes.log.new", frozenset()), (tmp_path.name, frozenset({"votes.log"}))]


def test_that_a_ledger_was_begun_lasts_once_it_was(tmp_path: Path, synced: Synced) -> None:
    Ledger.open(tmp_path / "data" / "ledger", make_genesis(), GENESIS_STATE).close()

    assert synced == [
        (tmp_path.name, frozenset({"data"})),
        ("ledger.created", frozenset()),
        ("data", frozenset({"ledger", "ledger.created"})),
    ]


def test_why_a_ledger_is_put_aside_is_on_the_disk_before_it_moves(tmp_path: Path, synced: Synced) -> None:
    with closing(Ledger.open(tmp_path / "ledger", make_genesis(), GENESIS_STATE)):
        pass
    synced.clear()

    set_aside(tmp_path / "ledger", "now", "why it is", "votes.log")

    parent = tmp_path.name
    assert [name for name, _ in synced] == [parent, "quarantine", "votes", "now", "why", "now", "now", parent, parent]
    assert synced[5][1] == {"votes", "why"}
    assert synced[6][1] == {"votes", "why", "ledger"}
    assert synced[-1][1] == {"quarantine"}


def test_what_arrived_takes_the_place_of_the_ledger_after_that_was_put_away(tmp_path: Path, synced: Synced) -> None:
    with closing(Ledger.open(tmp_path / "ledger", make_genesis(), GENESIS_STATE)):
        pass
    arriving_folder(tmp_path / "ledger").mkdir()
    synced.clear()

    replace_ledger(tmp_path / "ledger")

    assert [names for _, names in synced] == [
        {"arriving", "ledger.before", "ledger.created"},
        {"ledger", "ledger.before", "ledger.created"},
    ]
