"""``caretrace testnet``: a whole network on one machine, a process and a home for each hospital."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cli.client import Json, Node
from cli.cluster import (
    FILE_NAME,
    Cluster,
    ClusterError,
    Place,
    end_processes,
    last_lines,
    load_cluster,
    start_node,
    stop_node,
    taking_down_when_ended,
    uninterrupted,
    wait_for,
    why_not_ready,
    why_not_up,
)
from cli.command import Noun
from cli.errors import CliError
from cli.founding import draft_genesis, sign_draft
from cli.home import NewHome, create_home
from cli.options import testnet_folder
from cli.output import Answer, table
from cli.ports import HOST, choose_ports
from cli.testnet_faults import heal, kill, partition, pause, resume, slow, weather_fields, weather_words
from cli.weather import Forecast, ask_relay, start_relay, stop_relay
from node.config import Home, multiaddr
from node.keys.keyfile import load_key_file
from node.keys.private_file import write_private
from storage.schema.genesis import Parameters
from storage.schema.validators import quorum

NAMES = ("north", "south", "east", "west")
READY_TIMEOUT_S = 60.0
ENGINES = ("pbft",)


@click.group(cls=Noun)
def testnet() -> None:
    """A test network on this machine: start it, hurt it, remove it."""


for _fault in (kill, pause, resume, partition, slow, heal):
    testnet.add_command(_fault)


def open_network(
    folder: Path,
    count: int,
    engine: str,
    base_port: int | None,
    tell: Callable[[str], None],
    *,
    is_relayed: bool = False,
) -> Cluster:
    """Make a network in a folder, or take up the one that is there, and start what does not run.

    Raises:
        ClusterError: a node does not get ready; what was started here is stopped again. Or a relay is asked for and
            the network that is there was made without one.
    """
    assert engine in ENGINES
    if (folder / FILE_NAME).exists():
        cluster = load_cluster(folder)
        if is_relayed and not cluster.is_relayed:
            raise ClusterError(f"the network in {folder} was made without a relay; make another with --dir")
    else:
        cluster = _found(folder, count, base_port, is_relayed=is_relayed)
    started: list[subprocess.Popen[bytes]] = []
    with _stopped_on_failure(started):
        with uninterrupted():
            started += filter(None, [start_relay(cluster)])
        for place in cluster.places:
            if place.pid is None:
                tell(f"starting {place.name}")
                with uninterrupted():
                    started.append(start_node(place))
        wait_for(cluster.places, why_not_ready, READY_TIMEOUT_S)
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
        stop_relay(cluster)


def _found(folder: Path, count: int, base_port: int | None, *, is_relayed: bool = False) -> Cluster:
    """Make homes, organisation keys (outside the homes) and a genesis file that every founder has signed."""
    if folder.exists() and any(folder.iterdir()):
        raise CliError("testnet.exists", f"{folder} is not empty and holds no test network", hint="another --dir")
    ports = iter(choose_ports(2 * count + (count * (count - 1) if is_relayed else 0), base_port))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    names = [NAMES[n] if n < len(NAMES) else f"node-{n + 1}" for n in range(count)]
    places, cards, colds = [], [], []
    own = {name: (multiaddr(HOST, next(ports)), f"{HOST}:{next(ports)}") for name in names}
    for name, (address, http) in own.items():
        cold = folder / "cold" / f"{name}-organisation.key"
        others = [other for other in names if other != name] if is_relayed else []
        reach = tuple((other, multiaddr(HOST, next(ports))) for other in others)
        places.append(Place(name, folder / name, http, address, reach))
        wanted = NewHome(Home(folder / name), name, address, address, cold, None, None, http_tcp=http, reach=reach)
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


def _refuse_changes(cluster: Cluster, count: int | None, base_port: int | None) -> None:
    """Refuse to take up a network that is not the one that was asked for.

    Raises:
        CliError: it has another number of nodes, or other ports.
    """
    first_port = int(cluster.places[0].p2p.rpartition("/")[2])
    if count in (None, len(cluster.places)) and base_port in (None, first_port):
        return
    raise CliError(
        "testnet.exists",
        f"{cluster.folder} holds a network of {len(cluster.places)} nodes on ports from {first_port} on",
        hint="leave --nodes and --base-port out to start it as it is, or make another: --dir",
    )


@testnet.command(
    example="caretrace testnet up\ncaretrace testnet up --nodes 7 --dir /tmp/seven",
)
@click.option("--nodes", "count", default=4, show_default=True, type=click.IntRange(4, 16), help="How many hospitals.")
@click.option("--engine", type=click.Choice(ENGINES), default="pbft", show_default=True, help="How order is agreed on.")
@click.option("--base-port", type=click.IntRange(1024, 65000), help="First of two ports for each node.")
@click.option(
    "--relay", "is_relayed", is_flag=True, help="Put a relay between the nodes, to cut and slow their cables."
)
@testnet_folder
@click.pass_context
@taking_down_when_ended()
def up(ctx: click.Context, count: int, engine: str, base_port: int | None, is_relayed: bool, folder: Path) -> Answer:
    """Make a network, or take up the one that is there; returns when all nodes are ready."""
    if (folder / FILE_NAME).exists():
        is_asked = ctx.get_parameter_source("count") is not ParameterSource.DEFAULT
        _refuse_changes(load_cluster(folder), count if is_asked else None, base_port)
    cluster = open_network(folder, count, engine, base_port, partial(click.echo, err=True), is_relayed=is_relayed)
    return _answer(cluster)


@testnet.command(example="caretrace testnet down")
@testnet_folder
def down(folder: Path) -> Answer:
    """Stop all nodes; what they hold stays, and `up` goes on from there."""
    cluster = load_cluster(folder)
    close_network(cluster)
    return Answer({"dir": str(cluster.folder), "running": 0}, f"stopped; the data stay in {cluster.folder}")


@testnet.command(example="caretrace testnet status --json")
@testnet_folder
def status(folder: Path) -> Answer:
    """Say which nodes run and where they stand."""
    return _answer(load_cluster(folder))


@testnet.command(example="caretrace testnet logs north --lines 50")
@click.argument("name")
@click.option("--lines", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@testnet_folder
def logs(name: str, lines: int, folder: Path) -> Answer:
    """Show the end of what a node printed."""
    text = last_lines(load_cluster(folder).place(name), lines)
    return Answer({"name": name, "lines": text.splitlines()}, text)


@testnet.command(example="caretrace testnet start west")
@click.argument("name")
@testnet_folder
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
        wait_for((place,), why_not_up if is_alone else why_not_ready, READY_TIMEOUT_S)
    fields = {"name": name, "pid": place.pid, "ready": not is_alone}
    if not is_alone:
        return Answer(fields, f"{name} is ready (process {place.pid})")
    words = f"{needed} nodes agree together, and {running} run; `caretrace testnet up` starts all"
    return Answer(fields, f"{name} runs (process {place.pid}) and is not ready: {words}")


@testnet.command(example="caretrace testnet clean")
@testnet_folder
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
    relay = _relay(cluster)
    if relay is not None:
        text += "\n" + (weather_words(relay) if relay["running"] else "the relay does not run: no node reaches another")
    return Answer({"dir": str(cluster.folder), "network": cluster.network, "nodes": nodes, "relay": relay}, text)


def _relay(cluster: Cluster) -> dict[str, Any] | None:
    """What stands between the nodes; None if they reach each other without a relay."""
    if not cluster.is_relayed:
        return None
    if ask_relay(cluster.folder, Forecast()) is None:
        return {"running": False}
    return {"running": True, **weather_fields(cluster)}


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
