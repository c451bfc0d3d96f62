"""One node at a time in a home: an exclusive lock on the pid file, held for as long as the process lives."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from node.config import Home


class HomeInUseError(Exception):
    """Another process runs this home's node; two with the same key would sign against each other."""

    code = "home.in_use"


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the home's lock, with this process's id in the file.

    Raises:
        HomeInUseError: another process holds it.
    """
    home.run_folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(home.pid_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUseError(f"a node runs in {home.path} already") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
