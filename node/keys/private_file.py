"""Files for their owner's eyes only: written whole or not at all, durable when the call returns, mode 0600."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class PrivateFileError(Exception):
    """A file that must be private can be read or written by other users."""

    code = "file.not_private"


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Write a small file in one go; see ``private_writer``."""
    with private_writer(path, replace=replace) as file:
        file.write(data)


@contextmanager
def private_writer(path: Path, *, replace: bool) -> Iterator[IO[bytes]]:
    """Write a file of mode 0600 so that a crash or an error leaves the old one or the new one, never a part.

    Raises:
        FileExistsError: it is there already and ``replace`` is false; of two writers one wins.
        OSError: the disk's or the folder's reason; no part of the file is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # A link fails where the name is taken; a rename would take it.
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, size_bytes_max: int) -> bytes:
    """Read a file that must be private; at most one byte more than ``size_bytes_max``, so that the caller sees it.

    Raises:
        FileNotFoundError: there is none.
        PrivateFileError: group or others may touch it.
    """
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise PrivateFileError(f"other users can touch {path}")
        return file.read(size_bytes_max + 1)
