"""Where the nodes of a test network listen: free ports of this machine, in a row."""

import os
import socket

from cli.errors import CliError

BASE_PORT = 27100
HOST = "127.0.0.1"


def choose_ports(count: int, base_port: int | None) -> list[int]:
    """Return ports from ``base_port`` on, or, where none is asked for, the first free run from a usual one on.

    Raises:
        CliError: a port that was asked for is taken.
    """
    if base_port is not None:
        taken = [port for port in range(base_port, base_port + count) if not _is_free(port)]
        if taken:
            raise CliError("port.taken", f"port {taken[0]} of {HOST} is in use", field="--base-port")
        return list(range(base_port, base_port + count))
    starts = range(BASE_PORT, 32000, count)
    for turn in range(len(starts)):
        # Two that choose in the same moment would both find the same ports free.
        start = starts[(os.getpid() + turn) % len(starts)]
        ports = list(range(start, start + count))
        if all(map(_is_free, ports)):
            return ports
    raise CliError("port.taken", f"there are no {count} free ports in a row from {BASE_PORT} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
