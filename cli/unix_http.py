"""The standard library's HTTP client on a Unix socket, with one deadline for a whole exchange."""

import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_AGAIN_S = 0.02


class _TimedSocket(socket.socket):
    """A Unix socket whose every step gets what is left of one deadline, so that no drop of an answer renews it."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.extend(timeout_s)

    def extend(self, timeout_s: float) -> None:
        """Put the deadline so far from now."""
        self._deadline = time.monotonic() + timeout_s
        self.renew()

    def renew(self) -> None:
        """Give the next step what is left of the time.

        Raises:
            TimeoutError: nothing is left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.renew()
        return super().recv_into(*arguments, **options)

    def sendall(self, *arguments: Any) -> None:
        self.renew()
        super().sendall(*arguments)


class UnixConnection(HTTPConnection):
    """HTTP on a Unix socket; ``timed`` is its socket, also where http.client has let go of it."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Aim at a socket; nothing is opened before the first request."""
        super().__init__("localhost")
        self._path = str(path)
        self.timed = _TimedSocket(timeout_s)

    def connect(self) -> None:
        """Connect; the deadline counts from when this object was made."""
        self.sock = self.timed
        while True:
            try:
                self.sock.connect(self._path)
                return
            except BlockingIOError:
                # More wait to be accepted than the node's system holds. TCP would wait; a Unix socket refuses at once.
                time.sleep(_AGAIN_S)
                self.timed.renew()
