"""Where a ledger lies in its data folder, and how it is put out of use, or another one in its place.

| name | what |
|---|---|
| ``ledger`` | the ledger |
| ``ledger.created`` | says that one was begun: if the folder is gone then, it was lost |
| ``ledger.before`` | the one that a snapshot took the place of, until the history that it holds is here again |
| ``arriving`` | a state on its way (``storage.snapshot``), no ledger yet |
| ``quarantine/<name>/`` | a damaged ledger, kept as it was found; ``why``; and which ``votes`` stood beside it |

Nothing is repaired and nothing in quarantine is ever removed by the program: what a damaged disk left is evidence.
After a crash between any two steps the next start goes on from there.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from storage.folders import make_folder, rename_durably, sync_folder

QUARANTINES_MAX = 4
"""A disk that damages one ledger after the other is not healed by fetching: then the node stops for its operator."""

_WHY, _VOTES = "why", "votes"


class QuarantineFullError(Exception):
    """As many damaged ledgers lie aside as may: the disk needs a look, and the folder to be emptied."""

    code = "quarantine.full"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A ledger that was put aside: under which name, and why."""

    name: str
    why: str
    votes: str
    """The name of the vote log that stood beside it: it must be there still."""


def created_marker(ledger: Path) -> Path:
    """Return the file that says that a ledger was begun in a folder."""
    return ledger.with_name(ledger.name + ".created")


def mark_created(ledger: Path, words: str) -> None:
    """Say, durably, that a ledger was begun in a folder: from now on its loss is noticed."""
    _write(created_marker(ledger), words)


def arriving_folder(ledger: Path) -> Path:
    """Return where the state of a snapshot is put together."""
    return ledger.with_name("arriving")


def set_aside(ledger: Path, name: str, why: str, votes: str) -> Path:
    """Put a damaged or lost ledger into quarantine, so that another can begin; returns where it lies.

    ``votes`` is the name of the vote log beside it, which the ledger remembered and the next one must.

    Raises:
        QuarantineFullError: too many lie there.
    """
    folder = ledger.with_name("quarantine")
    taken = {kept.name for kept in quarantined(ledger)}
    if len(taken) >= QUARANTINES_MAX:
        raise QuarantineFullError(f"{len(taken)} damaged ledgers lie in {folder}")
    place = folder / next(each for each in (name, *(f"{name}-{n}" for n in range(2, 99))) if each not in taken)
    make_folder(place)
    _write(place / _VOTES, votes)
    _write(place / _WHY, why)
    if ledger.exists():
        rename_durably(ledger, place / ledger.name)
    created_marker(ledger).unlink(missing_ok=True)
    sync_folder(ledger.parent)
    return place


def quarantined(ledger: Path) -> tuple[Quarantined, ...]:
    """Return what lies in quarantine beside a ledger, oldest first."""
    folder = ledger.with_name("quarantine")
    places = sorted(place for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []
    return tuple(Quarantined(place.name, _read(place / _WHY), _read(place / _VOTES)) for place in places)


def replace_ledger(ledger: Path) -> None:
    """Put what has arrived, and is whole, in the place of the ledger, which is kept until its history is here again."""
    before = ledger.with_name(ledger.name + ".before")
    if ledger.exists() and before.exists():
        shutil.rmtree(
            ledger
        )  # It began with a snapshot too: what it has is fetched again, what is kept reaches deeper.
    elif ledger.exists():
        rename_durably(ledger, before)
    rename_durably(arriving_folder(ledger), ledger)


def forget_replaced(ledger: Path) -> None:
    """Remove the ledger that was replaced: all of its history is here again."""
    before = ledger.with_name(ledger.name + ".before")
    if before.exists():
        shutil.rmtree(before)


def _write(path: Path, words: str) -> None:
    with path.open("wb") as file:
        file.write(words.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return ""
