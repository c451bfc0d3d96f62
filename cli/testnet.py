"""``caretrace testnet``: a whole network on one machine, a process and a home for each hospital."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cli.client import Json, Node
from cli.cluster import (
    FILE_NAME,
    Cluster,
    Place,
    end_processes,
    kill_node,
    last_lines,
    load_cluster,
    send_signal,
    start_node,
    stop_node,
    taking_down_when_ended,
    uninterrupted,
    wait_for,
)
from cli.command import Noun
from cli.errors import CliError
from cli.founding import draft_genesis, sign_draft
from cli.home import NewHome, create_home
from cli.output import Answer, table
from node.config import Home, multiaddr
from node.keys.keyfile import load_key_file
from node.keys.private_file import write_private
from storage.schema.genesis import Parameters
from storage.schema.validators import quorum

NAMES = ("north", "south", "east", "west")
BASE_PORT = 27100
READY_TIMEOUT_S = 60.0
HOST = "127.0.0.1"
ENGINES = ("pbft",)
DIRECTORY = click.Path(path_type=Path, file_okay=False)

_folder = click.option(
    "--dir",
    "folder",
    type=DIRECTORY,
    envvar="CARETRACE_TESTNET",
    default=Path("caretrace-testnet"),
    show_default=True,
    help="The network's folder.",
)


@click.group(cls=Noun)
def testnet() -> None:
    """A test network on this machine: start it, hurt it, remove it."""


def open_network(folder: Path, count: int, engine: str, base_port: int | None, tell: Callable[[str], None]) -> Cluster:
    """Make a network in a folder, or take up the one that is there, and start what does not run.

    Raises:
        ClusterError: a node does not get ready; what was started here is stopped again.
    """
    assert engine in ENGINES
    cluster = load_cluster(folder) if (folder / FILE_NAME).exists() else _found(folder, count, base_port)
    started: list[subprocess.Popen[bytes]] = []
    with _stopped_on_failure(started):
        for place in cluster.places:
            if place.pid is None:
                tell(f"starting {place.name}")
                with uninterrupted():
                    started.append(start_node(place))
        wait_for(cluster.places, _why_not_ready, READY_TIMEOUT_S)
    return cluster


@contextmanager
def _stopped_on_failure(started: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    try:
        yield
    except BaseException:
        with uninterrupted():
            end_processes(started)
        raise


def close_network(cluster: Cluster) -> None:
    """Stop every node; their data stay."""
    with uninterrupted():
        for place in cluster.places:
            stop_node(place)


def _found(folder: Path, count: int, base_port: int | None) -> Cluster:
    """Make homes, organisation keys (outside the homes) and a genesis file that every founder has signed."""
    if folder.exists() and any(folder.iterdir()):
        raise CliError("testnet.exists", f"{folder} is not empty and holds no test network", hint="another --dir")
    ports = _ports(2 * count, base_port)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    names = [NAMES[n] if n < len(NAMES) else f"node-{n + 1}" for n in range(count)]
    places, cards, colds = [], [], []
    for number, name in enumerate(names):
        cold = folder / "cold" / f"{name}-organisation.key"
        address = multiaddr(HOST, ports[2 * number])
        http = f"{HOST}:{ports[2 * number + 1]}"
        places.append(Place(name, folder / name, http, address))
        wanted = NewHome(Home(folder / name), name, address, address, cold, None, None, http_tcp=http)
        cards.append(create_home(wanted))
        colds.append(load_key_file(cold))
    draft = draft_genesis("testnet", cards, Parameters())
    for file in colds:
        draft, _ = sign_draft(draft, file.open_secrets(None)["organisation"], file.public["organisation"])
    for home in (folder, *(place.home for place in places)):
        write_private(home / "genesis.json", draft.render(), replace=False)
    cluster = Cluster(folder, "testnet", tuple(places))
    cluster.save()
    return cluster


def _ports(count: int, base_port: int | None) -> list[int]:
    """Return ports from ``base_port`` on, or, where none is asked for, the first free run from the usual one on.

    Raises:
        CliError: a port that was asked for is taken.
    """
    if base_port is not None:
        taken = [port for port in range(base_port, base_port + count) if not _is_free(port)]
        if taken:
            raise CliError("port.taken", f"port {taken[0]} of {HOST} is in use", field="--base-port")
        return list(range(base_port, base_port + count))
    for start in range(BASE_PORT, 32000, count):
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


def _why_not_ready(place: Place) -> str:
    try:
        return "; ".join(Node(place.name, place.socket, 2.0).why_not_ready())
    except CliError:
        return f"it does not answer; its log ends with\n{last_lines(place)}"


def _why_not_up(place: Place) -> str:
    """Say why a node does not even answer: without the others it cannot be ready."""
    try:
        Node(place.name, place.socket, 2.0).status_of("/livez")
    except CliError:
        return _why_not_ready(place)
    return ""


@testnet.command(
    example="caretrace testnet up\ncaretrace testnet up --nodes 7 --dir /tmp/seven",
)
@click.option("--nodes", "count", default=4, show_default=True, type=click.IntRange(4, 16), help="How many hospitals.")
@click.option("--engine", type=click.Choice(ENGINES), default="pbft", show_default=True, help="How order is agreed on.")
@click.option("--base-port", type=click.IntRange(1024, 65000), help="First of two ports for each node.")
@_folder
@taking_down_when_ended()
def up(count: int, engine: str, base_port: int | None, folder: Path) -> Answer:
    """Make a network, or take up the one that is there; returns when all nodes are ready."""
    cluster = open_network(folder, count, engine, base_port, lambda words: click.echo(words, err=True))
    return _answer(cluster)


@testnet.command(example="caretrace testnet down")
@_folder
def down(folder: Path) -> Answer:
    """Stop all nodes; what they hold stays, and `up` goes on from there."""
    cluster = load_cluster(folder)
    close_network(cluster)
    return Answer({"dir": str(cluster.folder), "running": 0}, f"stopped; the data stay in {cluster.folder}")


@testnet.command(example="caretrace testnet status --json")
@_folder
def status(folder: Path) -> Answer:
    """Say which nodes run and where they stand."""
    return _answer(load_cluster(folder))


@testnet.command(example="caretrace testnet logs north --lines 50")
@click.argument("name")
@click.option("--lines", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@_folder
def logs(name: str, lines: int, folder: Path) -> Answer:
    """Show the end of what a node printed."""
    text = last_lines(load_cluster(folder).place(name), lines)
    return Answer({"name": name, "lines": text.splitlines()}, text)


@testnet.command(example="caretrace testnet kill west")
@click.argument("name")
@_folder
def kill(name: str, folder: Path) -> Answer:
    """End a node as a crash would (SIGKILL)."""
    pid = kill_node(load_cluster(folder).place(name))
    return Answer({"name": name, "pid": pid}, f"{name} is dead (process {pid})")


@testnet.command(example="caretrace testnet start west")
@click.argument("name")
@_folder
@taking_down_when_ended()
def start(name: str, folder: Path) -> Answer:
    """Start a node again and wait until it is ready.

    Where too few others run for a quorum it can only wait for them, and is left to do so.
    """
    cluster = load_cluster(folder)
    place = cluster.place(name)
    started: list[subprocess.Popen[bytes]] = []
    with _stopped_on_failure(started):
        with uninterrupted():
            started.append(start_node(place))
        running, needed = sum(each.pid is not None for each in cluster.places), quorum(len(cluster.places))
        is_alone = running < needed
        wait_for((place,), _why_not_up if is_alone else _why_not_ready, READY_TIMEOUT_S)
    fields = {"name": name, "pid": place.pid, "ready": not is_alone}
    if not is_alone:
        return Answer(fields, f"{name} is ready (process {place.pid})")
    words = f"{needed} nodes agree together, and {running} run; `caretrace testnet up` starts all"
    return Answer(fields, f"{name} runs (process {place.pid}) and is not ready: {words}")


@testnet.command(example="caretrace testnet pause west")
@click.argument("name")
@_folder
def pause(name: str, folder: Path) -> Answer:
    """Freeze a node (SIGSTOP): it holds its connections and does not answer."""
    pid = send_signal(load_cluster(folder).place(name), signal.SIGSTOP)
    return Answer({"name": name, "pid": pid}, f"{name} is frozen")


@testnet.command(example="caretrace testnet resume west")
@click.argument("name")
@_folder
def resume(name: str, folder: Path) -> Answer:
    """Let a frozen node go on (SIGCONT)."""
    pid = send_signal(load_cluster(folder).place(name), signal.SIGCONT)
    return Answer({"name": name, "pid": pid}, f"{name} goes on")


@testnet.command(example="caretrace testnet clean")
@_folder
def clean(folder: Path) -> Answer:
    """Stop all nodes and remove the network's folder with everything in it, keys too."""
    cluster = load_cluster(folder)
    close_network(cluster)
    shutil.rmtree(cluster.folder)
    return Answer({"dir": str(cluster.folder)}, f"removed {cluster.folder}")


def _answer(cluster: Cluster) -> Answer:
    nodes = [_describe(place) for place in cluster.places]
    text = table(
        ("node", "running", "ready", "height", "state root", "home"),
        [(n["name"], n["running"], n["ready"], n["height"], (n["state_root"] or "")[:16], n["home"]) for n in nodes],
        "no nodes",
    )
    return Answer({"dir": str(cluster.folder), "network": cluster.network, "nodes": nodes}, text)


def _describe(place: Place) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if place.pid is not None:
        try:
            known = Node(place.name, place.socket, 2.0).get("/v1/status", Json)
        except CliError:
            known = {}
    return {
        "name": place.name,
        "pid": place.pid,
        "home": str(place.home),
        "http": place.http,
        "p2p": place.p2p,
        "running": place.pid is not None,
        "ready": bool(known.get("ready", False)),
        "height": known.get("height"),
        "state_root": known.get("state_root"),
    }
