"""A command is ended by Ctrl-C, SIGTERM or with its terminal: it says so, exits 130, and leaves nothing half done."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.client import Json
from tests.support.running_network import RunningNetwork, base_port, until

pytestmark = pytest.mark.cluster


@contextmanager
def frozen(network: RunningNetwork, *names: str) -> Iterator[None]:
    """Freeze nodes (SIGSTOP): they hold their connections and do not answer."""
    for name in names:
        network.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            network.signal(name, signal.SIGCONT)


def interrupted(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> tuple[str, str]:
    """Press Ctrl-C once, as a terminal would, or end the command otherwise; returns what it printed."""
    process.send_signal(number)
    out, words = process.communicate(timeout=60)
    assert process.returncode == 130, (process.returncode, out, words)
    assert "Traceback" not in words
    assert "interrupted" in words
    return out, words


def waits_for_a_node(process: "subprocess.Popen[str]") -> bool:
    """Whether a command has opened a socket; the only one that it opens is to its node."""
    assert process.poll() is None, process.communicate()
    return any(map(is_socket, Path(f"/proc/{process.pid}/fd").iterdir()))


def is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except FileNotFoundError:
        return False  # A file that the starting program has closed in this moment.


@pytest.mark.parametrize(
    "arguments", [("status",), ("ledger", "verify"), ("record", "list", "--patient", "pia")], ids=" ".join
)
def test_a_reading_command_ends_when_it_is_interrupted(network: RunningNetwork, arguments: tuple[str, ...]) -> None:
    with frozen(network, "west"):
        process = network.begin(*arguments, "--node", "west", "--json")
        until(lambda: waits_for_a_node(process))

        out, _ = interrupted(process)

    assert json.loads(out)["error"]["code"] == "interrupted"
    until(lambda: network.is_ready("west"))


def test_a_writing_command_names_the_transaction_that_may_still_land(network: RunningNetwork) -> None:
    before = network.status("north")["height"]
    with frozen(network, "east", "west"):
        process = network.begin("consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT", "--json")
        until(lambda: network.status("north")["mempool"] == 1)

        out, words = interrupted(process)
        error = json.loads(out)["error"]
        assert network.status("north")["height"] == before

    assert error["code"] == "interrupted"
    assert error["transaction"] in words
    # It was handed in, and lands as soon as a quorum is there again.
    answer = network.node("south").get(f"/v1/transactions/{error['transaction']}", Json, wait="30")
    assert answer["status"] == "ok"
    until(network.is_level)


def test_a_node_that_is_interrupted_while_it_starts_does_not_come_up_later(network: RunningNetwork) -> None:
    network.kill("west")
    process = network.begin("testnet", "start", "west", "--json")
    until(lambda: network.place("west").pid)

    interrupted(process)
    left = network.place("west").pid, processes_in(network.place("west").home)
    network.start("west")

    assert left == (None, [])
    until(network.is_level)


@pytest.mark.parametrize(
    ("command", "number"),
    [("demo", signal.SIGTERM), ("bench", signal.SIGHUP), ("testnet up", signal.SIGINT)],
)
def test_a_long_command_takes_down_what_it_has_started(
    tmp_path_factory: pytest.TempPathFactory, command: str, number: signal.Signals
) -> None:
    place = tmp_path_factory.mktemp("t")
    more = ["--dir", str(place / "net"), "--base-port", str(base_port())] if command == "testnet up" else []
    process = RunningNetwork(place / "net").begin(*command.split(), *more, more={"TMPDIR": str(place)})
    until(lambda: len(processes_in(place)) == 1 + 4)

    interrupted(process, number)

    assert processes_in(place) == []
    left = [path.name for path in place.iterdir()]
    # A network that its user asked for stays as data, stopped; one that the command made for itself is gone.
    assert left == (["net"] if command == "testnet up" else [])


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder: a command that was begun there, and the nodes that it has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(path / "cwd")).is_relative_to(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found
