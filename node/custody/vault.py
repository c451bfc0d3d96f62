"""Where ciphertext and data keys rest: two folders of plain files, apart from each other and from the ledger.

A file appears under its name only once it is whole and synced; what a crash leaves half written is removed at the
next start. Every call here blocks on the disk: callers on the event loop run it in a thread.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from nacl.utils import random

from node.custody.sealing import BLOB_ID_BYTES

READ_BYTES_MAX = 1 << 20
_PART = ".part"
# EFBIG: a limit on the size of files, such as a service manager sets.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class VaultError(Exception):
    """The vault cannot do what it was asked."""

    code = "vault.failed"


class BlobNotFoundError(VaultError):
    """This vault does not hold that ciphertext or key."""

    code = "vault.not_found"


class VaultFullError(VaultError):
    """The disk, or the quota on it, is full; nothing of the new file stays."""

    code = "vault.full"


class Folder:
    """A folder of small, private, atomically written files."""

    def __init__(self, path: Path) -> None:
        """Make the folder, private to its owner, and remove what a crash left half written."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        self.path = path
        for leftover in path.glob(f"*{_PART}"):
            leftover.unlink()

    def write(self, name: str, content: bytes) -> None:
        """Write a file durably; an older one of that name is replaced whole or not at all.

        Raises:
            VaultFullError: nothing changed.
        """
        with FileWriter(self, name) as file:
            file.write(content)
            file.commit()

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name, durably."""
        (self.path / name).replace(self.path / new_name)
        self.sync()

    def read(self, name: str, offset: int, length_max: int) -> bytes:
        """Return up to ``length_max`` bytes from ``offset``; fewer only at the file's end.

        Raises:
            BlobNotFoundError: there is no such file.
        """
        with _missing_is_not_found(name), (self.path / name).open("rb") as file:
            file.seek(offset)
            return file.read(length_max)

    def size_bytes(self, name: str) -> int:
        """Return a file's length.

        Raises:
            BlobNotFoundError: there is no such file.
        """
        with _missing_is_not_found(name):
            return (self.path / name).stat().st_size

    def remove(self, name: str) -> None:
        """Remove a file, durably; no error if it is gone already."""
        (self.path / name).unlink(missing_ok=True)
        self.sync()

    def names(self) -> list[str]:
        """Return the names of all whole files, sorted."""
        return sorted(path.name for path in self.path.iterdir() if not path.name.endswith(_PART))

    def sync(self) -> None:
        """Make what was created, renamed and removed here survive a power cut."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class FileWriter:
    """One file being written; without ``commit`` it leaves nothing behind."""

    def __init__(self, folder: Folder, name: str) -> None:
        """Begin a file that will be called ``name``."""
        self.name = name
        self._folder = folder
        self._part = folder.path / f"{name}{_PART}"
        with _full_disk_named():
            # 0600 from the first byte on, whatever the umask; an existing part is another writer's.
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        """Write, then ``commit``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind that was not committed."""
        self.abandon()

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            VaultFullError: the disk is full; call ``abandon``.
        """
        with _full_disk_named():
            self._file.write(data)

    def commit(self) -> None:
        """Make the file durable and let it appear under its name.

        Raises:
            VaultFullError: the disk is full; call ``abandon``.
        """
        with _full_disk_named():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._folder.path / self.name)
            self._folder.sync()

    def abandon(self) -> None:
        """Remove what was written, unless it was committed."""
        with _quietly_full():
            self._file.close()
        self._part.unlink(missing_ok=True)


class Vault:
    """The ciphertexts of one member, by random ids that say nothing about their records."""

    def __init__(self, path: Path) -> None:
        """Open or make the folder."""
        self._folder = Folder(path)

    def begin(self) -> tuple[bytes, FileWriter]:
        """Begin a new blob; returns its id and the file to write it to."""
        blob = random(BLOB_ID_BYTES)
        return blob, FileWriter(self._folder, blob.hex())

    def size_bytes(self, blob: bytes) -> int:
        """Return the length of a ciphertext.

        Raises:
            BlobNotFoundError: it is not here.
        """
        return self._folder.size_bytes(blob.hex())

    def read(self, blob: bytes, offset: int) -> bytes:
        """Return the next at most 1 MiB of a ciphertext; empty at its end.

        Raises:
            BlobNotFoundError: it is not here.
        """
        return self._folder.read(blob.hex(), offset, READ_BYTES_MAX)

    def remove(self, blob: bytes) -> None:
        """Remove a ciphertext for good."""
        self._folder.remove(blob.hex())


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise VaultFullError("no space is left for the vault") from None
        raise


@contextmanager
def _quietly_full() -> Iterator[None]:
    # Closing flushes what is buffered; if that fails for lack of space, the file goes anyway.
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise


@contextmanager
def _missing_is_not_found(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BlobNotFoundError(f"{name} is not in this vault") from None
