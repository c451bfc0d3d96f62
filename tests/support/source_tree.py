"""The files of this tree as git would see them, and the syntax trees of its Python."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cli", "consensus", "node", "storage")


@cache
def ignored_names() -> tuple[str, ...]:
    """The patterns of .gitignore: ours are names of files and folders, nothing finer."""
    lines = (ROOT / ".gitignore").read_text().split()
    return (".git", *(line.rstrip("/") for line in lines))


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file under a folder that is not ignored, in one and the same order."""
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in ignored_names()):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in files(ROOT / folder) if path.suffix == ".py"]


def text_files() -> Iterator[tuple[Path, str]]:
    """Every file that is text, with its text."""
    for path in files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@cache
def syntax_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path, line: int | None = None) -> str:
    """The place as an editor opens it."""
    place = str(path.relative_to(ROOT))
    return place if line is None else f"{place}:{line}"
