"""A network of real processes, started by the installed program, hurt and asked as an operator would, and removed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from cli.client import Json, Node
from cli.cluster import Cluster, Place, load_cluster
from cli.errors import CliError
from cli.weather import stop_relay
from node.keys.keyfile import load_key_file
from storage.schema.genesis import Genesis, load_file

# Where no system takes ports for connections that it opens itself.
PORTS = range(10_000, 26_000, 32)
COMMAND_TIMEOUT_S = 90


def installed_program() -> Path:
    """The program as installing put it beside Python."""
    return Path(sys.executable).with_name("caretrace")


def base_port() -> int:
    """The first of thirty-two ports that nobody listens on; runs and workers beside each other have different ones."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = PORTS[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) :: workers]
    for turn in count(os.getpid()):
        base = own[turn * 7 % len(own)]
        if all(map(_is_free, range(base, base + PORTS.step))):
            return base
    raise AssertionError("counting ends never")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def until(is_so: Callable[[], object], within_s: float = 90.0) -> None:
    """Wait for something that processes bring about."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.02)


@dataclass(frozen=True)
class RunningNetwork:
    """A test network in ``folder``, and how it is talked to."""

    folder: Path
    more: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """What commands are started with: nothing of ours from outside but where the network is."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CARETRACE_")}
        inherited.pop("PYTHONPATH", None)
        own = {"CARETRACE_TESTNET": str(self.folder), "HOME": str(self.folder.parent)}
        return inherited | own | dict(self.more)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [installed_program(), *arguments],
            cwd=self.folder.parent,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def begin(self, *arguments: str, more: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a command and leave it running; ``more`` is added to its environment."""
        return subprocess.Popen(
            [installed_program(), *arguments],
            cwd=self.folder.parent,
            env=self.environment | dict(more or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """Run a command with ``--json`` and return its answer."""
        done = self.run(*arguments, "--json")
        assert done.returncode == exit_code, f"{arguments}: exit {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def refusal(self, *arguments: str, exit_code: int) -> dict[str, Any]:
        """Run a command that must fail so, and return what it says of it."""
        error: dict[str, Any] = self.ask(*arguments, exit_code=exit_code)["error"]
        return error

    @cached_property
    def cluster(self) -> Cluster:
        return load_cluster(self.folder)

    @cached_property
    def genesis(self) -> Genesis:
        return load_file((self.folder / "genesis.json").read_bytes())

    @property
    def places(self) -> tuple[Place, ...]:
        return self.cluster.places

    @property
    def names(self) -> list[str]:
        return [place.name for place in self.places]

    def place(self, name: str) -> Place:
        return self.cluster.place(name)

    def node(self, name: str, timeout_s: float = 20.0) -> Node:
        """The socket of a node, to send it whatever bytes a test likes."""
        return Node(name, self.place(name).socket, timeout_s)

    def status(self, name: str) -> Json:
        return self.node(name).get("/v1/status", Json)

    def is_ready(self, name: str) -> bool:
        """Whether a node runs, answers, and says that it is ready."""
        if self.place(name).pid is None:
            return False
        try:
            return self.node(name).status_of("/readyz")[0] == 200
        except CliError:
            # After a crash its old socket stands there, where nobody listens, until it makes a new one.
            return False

    def is_level(self, *names: str) -> bool:
        """Whether nodes (all, if none is named) stand at one height and state, with nothing waiting."""
        statuses = [self.status(name) for name in names or self.names]
        points = {(status["height"], status["block_hash"], status["state_root"]) for status in statuses}
        return len(points) == 1 and not any(status["mempool"] for status in statuses)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a node's process a signal; returns its pid."""
        pid = self.place(name).pid
        assert pid is not None, f"{name} runs"
        os.kill(pid, number)
        return pid

    def kill(self, *names: str) -> None:
        """End nodes at once, as a power cut would, and wait until they are gone."""
        for name in names:
            self.signal(name, signal.SIGKILL)
        until(lambda: all(self.place(name).pid is None for name in names))

    def start(self, *names: str) -> None:
        """Start nodes that were stopped and wait until each says that it is ready."""
        for name in names:
            self.ask("testnet", "start", name)

    def seed(self, name: str, key: str = "signing") -> bytes:
        """The secret of a test key in the network's wallet."""
        return load_key_file(self.folder / "wallet" / f"{name}.key").open_secrets(None)[key]

    def log(self, name: str) -> str:
        return self.place(name).log_file.read_text()

    def enrol(self) -> None:
        """Make the people of the story: the patient pia at north, the physician ben at south."""
        self.ask("key", "new", "pia", "--no-passphrase")
        self.ask("key", "new", "ben", "--kind", "practitioner", "--no-passphrase")
        self.ask("patient", "register", "--as", "pia", "--node", "north")
        self.ask("practitioner", "enrol", "ben", "--role", "physician", "--node", "south")

    def add_record(self, patient: str = "pia") -> str:
        """Seal a record of a patient of north's; returns its id."""
        path = self.folder / "result.json"
        path.write_text('{"resourceType": "Observation", "status": "final"}')
        arguments = ("record", "add", str(path), "--patient", patient, "--category", "laboratory", "--node", "north")
        record: str = self.ask(*arguments)["record"]
        return record


@contextmanager
def running_network(folder: Path, *more: str, environment: Mapping[str, str] | None = None) -> Iterator[RunningNetwork]:
    """Start four hospitals in a folder that is not there yet; whatever happens, nothing of them is left.

    ``more`` are options of ``testnet up``; ``environment`` is added to that of every command and node.
    """
    network = RunningNetwork(folder, tuple((environment or {}).items()))
    try:
        network.ask("testnet", "up", "--base-port", str(base_port()), *more)
        yield network
    finally:
        remove(network)


def remove(network: RunningNetwork) -> None:
    """End every process of a network, frozen ones too, and remove its folder."""
    if (network.folder / "testnet.json").exists():
        cluster = load_cluster(network.folder)
        for place in cluster.places:
            if place.pid is not None:
                os.kill(place.pid, signal.SIGKILL)
        until(lambda: not any(place.pid for place in cluster.places))
        stop_relay(cluster)
    shutil.rmtree(network.folder, ignore_errors=True)
