"""One node at a time in a home: an exclusive lock on the pid file, held for as long as the process lives.

Who starts a node in the background takes the lock for it and hands it over as standard input, so that nobody believes
the home to be free while the node still loads.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from node.config import Home

_STANDARD_INPUT = 0


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
    if _is_handed_over(descriptor):
        os.close(descriptor)
        descriptor = _STANDARD_INPUT
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUseError(f"a node runs in {home.path} already") from None
        # Never empty in between, for who started this process has written the same and is looking.
        pid = f"{os.getpid()}\n".encode()
        os.pwrite(descriptor, pid, 0)
        os.ftruncate(descriptor, len(pid))
        yield
    finally:
        os.close(descriptor)


def _is_handed_over(pid_file: int) -> bool:
    try:
        return os.path.sameopenfile(pid_file, _STANDARD_INPUT)
    except OSError:
        return False  # There is no standard input.
