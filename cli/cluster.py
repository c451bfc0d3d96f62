"""The processes of a test network: started, watched, and hurt on purpose, one home folder each."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.client import Node
from cli.errors import CliError
from cli.place import DAMAGED_HINT
from cli.start import running_pid, start_in_background
from node.config import Home

SCHEMA = "caretrace.testnet/1"
FILE_NAME = "testnet.json"
# A ledger takes more than this to be opened.
_FULL_BYTES = 64 * 1024
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ClusterError(CliError):
    """A test network cannot do what was asked of it."""

    def __init__(self, message: str, code: str = "testnet.failed", hint: str | None = None) -> None:
        """Say why."""
        super().__init__(code, message, hint=hint)


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
        names = ", ".join(place.name for place in self.places)
        raise ClusterError(f"no node {name}; there are {names}", "node.not_found")

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
        words = f"{folder} holds no test network; make one with: caretrace testnet up"
        raise ClusterError(words, "testnet.not_found") from None
    except (ValueError, KeyError, TypeError):
        raise ClusterError(f"{folder / FILE_NAME} is damaged", "testnet.damaged", DAMAGED_HINT) from None


def start_node(place: Place) -> "subprocess.Popen[bytes]":
    """Start a node in the background, on its own: it outlives this command unless ``end_processes`` is told of it.

    Raises:
        ClusterError: it runs already.
    """
    place.log_file.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log_file.open("ab") as output:
        process = start_in_background(Home(place.home), output)
    if process is None:
        raise ClusterError(f"{place.name} runs already, as process {place.pid}")
    return process


def _heeded() -> dict[int, Any]:
    """Return the signals that end a command, with what each does now; a terminal's end under nohup is none."""
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    return {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what would end this command until something is whole: a process started and noted, or all taken down.

    What came meanwhile comes at the end, such as KeyboardInterrupt of a Ctrl-C.
    """
    held_back: list[int] = []
    before = _heeded()
    for number in before:
        signal.signal(number, lambda number, _: held_back.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held_back:
        signal.raise_signal(held_back[0])


@contextmanager
def taking_down_when_ended() -> Iterator[None]:
    """Let SIGTERM and SIGHUP, a closed terminal, end a command as Ctrl-C does: its nodes would outlive it otherwise.

    Only the first one counts: those behind it, such as a second Ctrl-C, would end the taking down half-way.
    """
    before = _heeded()

    def end(_number: int, _frame: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    """End nodes that this command has started, all at once."""
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


def wait_for(places: tuple[Place, ...], why_not: Callable[[Place], str], timeout_s: float) -> None:
    """Wait until ``why_not`` finds no reason any more why a node is not as it should be.

    Raises:
        ClusterError: one has ended, with the last lines that it printed, or the time is over, with the reasons.
    """
    deadline = time.monotonic() + timeout_s
    reasons = dict.fromkeys(places, "")
    while reasons:
        for place in list(reasons):
            if place.pid is None:
                raise ClusterError(f"{place.name} has ended: {why_ended(place)}")
            reasons[place] = why_not(place)
            if not reasons[place]:
                del reasons[place]
        if reasons and time.monotonic() > deadline:
            told = "\n".join(f"{place.name}: {reason}" for place, reason in reasons.items())
            raise ClusterError(f"not ready in {timeout_s:.0f} s:\n{told}")
        time.sleep(0.05)


def why_ended(place: Place) -> str:
    """Return the end of a node's log, and that the disk is full if it is: a full one takes no last words either."""
    free_bytes = shutil.disk_usage(place.home).free
    full = f"the disk of {place.home} is full\n" if free_bytes < _FULL_BYTES else ""
    return f"{full}its log ends with\n{last_lines(place)}"


def why_not_ready(place: Place) -> str:
    """Say why a node is not ready, for ``wait_for``; nothing if it is."""
    try:
        return "; ".join(Node(place.name, place.socket, 2.0).why_not_ready())
    except CliError:
        return f"it does not answer; its log ends with\n{last_lines(place)}"


def why_not_up(place: Place) -> str:
    """Say why a node does not even answer, for ``wait_for``: more it cannot do without the others."""
    try:
        Node(place.name, place.socket, 2.0).status_of("/livez")
    except CliError:
        return why_not_ready(place)
    return ""


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
