"""The processes of a test network: started, watched, and hurt on purpose, one home folder each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import CliError
from cli.start import running_pid
from node.config import Home

SCHEMA = "caretrace.testnet/1"
FILE_NAME = "testnet.json"


class ClusterError(CliError):
    """A test network cannot do what was asked of it."""

    def __init__(self, message: str) -> None:
        """Say why."""
        super().__init__("testnet.failed", message)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one node of a test network lives."""

    name: str
    home: Path
    http: str
    p2p: str
    reach: tuple[tuple[str, str], ...] = ()
    """Where it reaches which other node, if the relay stands between them."""

    @property
    def log_file(self) -> Path:
        """What the node prints."""
        return self.home / "run" / "node.log"

    @property
    def socket(self) -> Path:
        """Where the node answers its operator."""
        return self.home / "run" / "node.sock"

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return running_pid(Home(self.home))


@dataclass(frozen=True, slots=True)
class Cluster:
    """A test network in one folder."""

    folder: Path
    network: str
    places: tuple[Place, ...]

    @property
    def is_relayed(self) -> bool:
        """Whether its nodes reach each other through the relay alone."""
        return any(place.reach for place in self.places)

    def place(self, name: str) -> Place:
        """Return a node's place.

        Raises:
            ClusterError: there is no node of this name.
        """
        for place in self.places:
            if place.name == name:
                return place
        raise ClusterError(f"no node {name}; there are {', '.join(place.name for place in self.places)}")

    def save(self) -> None:
        """Write ``testnet.json``, by which commands find the nodes."""
        nodes = [
            {"name": p.name, "home": p.home.name, "http": p.http, "p2p": p.p2p, "reach": dict(p.reach)}
            for p in self.places
        ]
        content = {"schema": SCHEMA, "network": self.network, "wallet": "wallet", "nodes": nodes}
        (self.folder / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n")


def load_cluster(folder: Path) -> Cluster:
    """Read the test network of a folder.

    Raises:
        ClusterError: there is none.
    """
    try:
        content: dict[str, Any] = json.loads((folder / FILE_NAME).read_text())
        places = [
            Place(n["name"], (folder / n["home"]).resolve(), n["http"], n["p2p"], tuple(n.get("reach", {}).items()))
            for n in content["nodes"]
        ]
        return Cluster(folder.resolve(), content["network"], tuple(places))
    except OSError:
        raise ClusterError(f"{folder} holds no test network; make one with: caretrace testnet up") from None
    except (ValueError, KeyError, TypeError):
        raise ClusterError(f"{folder / FILE_NAME} is damaged") from None


def start_node(place: Place) -> "subprocess.Popen[bytes]":
    """Start a node in the background, on its own: it outlives this command unless ``end_processes`` is told of it.

    Raises:
        ClusterError: it runs already.
    """
    if place.pid is not None:
        raise ClusterError(f"{place.name} runs already, as process {place.pid}")
    place.log_file.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log_file.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.main", "start", "--home", str(place.home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=place.home,
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until what must be whole is done: a process started and noted, or everything taken down.

    Raises:
        KeyboardInterrupt: at the end, if it was pressed meanwhile.
    """
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def send_signal(place: Place, number: signal.Signals) -> int:
    """Signal a node's process; returns its pid.

    Raises:
        ClusterError: it does not run.
    """
    pid = place.pid
    if pid is None:
        raise ClusterError(f"{place.name} does not run")
    os.kill(pid, number)
    return pid


def stop_node(place: Place, timeout_s: float = 10.0) -> bool:
    """Stop a node cleanly, by force if it takes too long; False if it did not run."""
    if place.pid is None:
        return False
    send_signal(place, signal.SIGCONT)
    send_signal(place, signal.SIGTERM)
    if not _wait(lambda: place.pid is None, timeout_s):
        send_signal(place, signal.SIGKILL)
        _wait(lambda: place.pid is None, timeout_s)
    return True


def end_processes(processes: Sequence["subprocess.Popen[bytes]"], timeout_s: float = 10.0) -> None:
    """End nodes that this command has started, also those that have not come as far as to hold their home."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout_s)


def kill_node(place: Place) -> int:
    """End a node as a crash would (SIGKILL); returns the pid that it had."""
    pid = send_signal(place, signal.SIGKILL)
    _wait(lambda: place.pid is None, 5.0)
    return pid


def wait_for(places: tuple[Place, ...], is_ready: Callable[[Place], bool], timeout_s: float) -> None:
    """Wait until every node is ready.

    Raises:
        ClusterError: one has ended, with the last lines that it printed, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(places)
    started = set()
    while waiting:
        for place in list(waiting):
            if place.pid is not None:
                started.add(place.name)
            elif place.name in started or time.monotonic() > deadline:
                raise ClusterError(f"{place.name} has ended:\n{last_lines(place)}")
            if is_ready(place):
                waiting.remove(place)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(place.name for place in waiting)
            raise ClusterError(f"not ready in {timeout_s:.0f} s: {names}\n{last_lines(waiting[0])}")
        time.sleep(0.05)


def last_lines(place: Place, count: int = 8) -> str:
    """Return the end of a node's log."""
    try:
        lines = place.log_file.read_text(errors="replace").splitlines()
    except OSError:
        return "(it printed nothing)"
    return "\n".join(lines[-count:]) or "(it printed nothing)"


def _wait(is_done: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
