"""Four hospitals in network namespaces of their own, on one bridge: cables that the kernel cuts, mutes and slows.

It needs root on Linux. Nothing of the machine's own network is touched: the bridge has a namespace too.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.cluster import Cluster, Place
from cli.founding import draft_genesis, sign_draft
from cli.home import NewHome, create_home
from node.config import Home, multiaddr
from node.keys.keyfile import load_key_file
from storage.schema.genesis import Parameters
from tests.support.running_network import RunningNetwork, installed_program, remove, until

NAMES = ("north", "south", "east", "west")
PORT = 4101
NOBODY = "02:00:00:00:00:99"
"""A hardware address that no cable leads to: what is sent there is lost without a word."""
READY_WITHIN_S = 90.0


def why_not_here() -> str:
    """Why this machine cannot have such wires; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "there is no ip command here (iproute2)"
    probe = f"ct{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this system lets nobody make network namespaces: {made.stderr.strip()}"
    bridge = subprocess.run(
        ["ip", "-n", probe, "link", "add", "br0", "type", "bridge"], capture_output=True, text=True, check=False
    )
    _run("ip", "netns", "del", probe)
    return f"the kernel has no bridges: {bridge.stderr.strip()}" if bridge.returncode else ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Wires:
    """The namespaces and the cables between them."""

    def __init__(self) -> None:
        self._tag = f"ct{os.getpid()}"
        self._hub = f"{self._tag}-hub"
        self.has_netem = False

    def space(self, name: str) -> str:
        return f"{self._tag}-{name}"

    def address(self, name: str) -> str:
        return f"10.77.0.{NAMES.index(name) + 1}"

    def lay(self) -> None:
        _run("ip", "netns", "add", self._hub)
        _run("ip", "-n", self._hub, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._hub, "link", "set", "br0", "up")
        for name in NAMES:
            space = self.space(name)
            _run("ip", "netns", "add", space)
            _run("ip", "-n", self._hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", space)
            _run("ip", "-n", self._hub, "link", "set", name, "master", "br0", "up")
            _run("ip", "-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            _run("ip", "-n", space, "link", "set", "eth0", "up")
            _run("ip", "-n", space, "link", "set", "lo", "up")
        with suppress(subprocess.CalledProcessError):
            self.slow(NAMES[0])
            self.has_netem = True
            self.mend()

    def clear(self) -> None:
        for space in (self._hub, *map(self.space, NAMES)):
            with suppress(subprocess.CalledProcessError):  # What was not made cannot be removed.
                _run("ip", "netns", "del", space)

    def cut(self, name: str) -> None:
        """Pull a node's cable: nothing leaves it and nothing arrives."""
        _run("ip", "-n", self._hub, "link", "set", name, "down")

    def mute(self, name: str) -> None:
        """What a node sends is lost; it hears all others."""
        for other in NAMES:
            if other != name:
                neighbour = (self.address(other), "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
                _run("ip", "-n", self.space(name), "neigh", "replace", *neighbour)

    def slow(self, name: str) -> None:
        """Delay and lose packets of a node, where the kernel has netem."""
        netem = ("netem", "delay", "50ms", "20ms", "loss", "5%")
        _run("tc", "-n", self.space(name), "qdisc", "replace", "dev", "eth0", "root", *netem)

    def mend(self) -> None:
        for name in NAMES:
            _run("ip", "-n", self._hub, "link", "set", name, "up")
            _run("ip", "-n", self.space(name), "neigh", "flush", "dev", "eth0", "nud", "permanent")
            if self.has_netem:
                with suppress(subprocess.CalledProcessError):  # Not every cable was slow.
                    _run("tc", "-n", self.space(name), "qdisc", "del", "dev", "eth0", "root")


@contextmanager
def wired_network(folder: Path) -> Iterator[tuple[RunningNetwork, Wires]]:
    """Start four hospitals, each in its namespace; nothing of them is left."""
    wires, network = Wires(), RunningNetwork(folder)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        wires.lay()
        _found(folder, wires)
        processes.extend(_start(network, place, wires) for place in network.places)
        until(lambda: all(map(network.is_ready, NAMES)), READY_WITHIN_S)
        yield network, wires
    finally:
        remove(network)
        for process in processes:
            process.wait()
        wires.clear()


def _start(network: RunningNetwork, place: Place, wires: Wires) -> "subprocess.Popen[bytes]":
    place.log_file.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log_file.open("ab") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", wires.space(place.name), installed_program(), "start", "--home", place.home],
            env=network.environment,
            cwd=place.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def _found(folder: Path, wires: Wires) -> None:
    folder.mkdir(mode=0o700)
    places, cards, colds = [], [], []
    for name in NAMES:
        cold, address = folder / "cold" / f"{name}-organisation.key", multiaddr(wires.address(name), PORT)
        places.append(Place(name, folder / name, "off", address))
        cards.append(create_home(NewHome(Home(folder / name), name, address, address, cold, None, None)))
        colds.append(load_key_file(cold))
    draft = draft_genesis("testnet", cards, Parameters())
    for file in colds:
        draft, _ = sign_draft(draft, file.open_secrets(None)["organisation"], file.public["organisation"])
    for home in (folder, *(place.home for place in places)):
        (home / "genesis.json").write_bytes(draft.render())
    Cluster(folder, "testnet", tuple(places)).save()
