"""Making names in a folder last: a file or folder that was made or renamed is on the disk once its folder is synced."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make a folder, and those that it lies in, so that they are still there after a crash."""
    if not folder.is_dir():
        make_folder(folder.parent, mode)
        folder.mkdir(mode=mode, exist_ok=True)
        sync_folder(folder.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file or folder; after a crash it has the one name or the other, after the return the new one."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)
