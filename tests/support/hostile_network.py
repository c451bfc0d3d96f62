"""A network of real processes that admits hostile members: one validator's key is ours, and many guests' keys."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl.bindings import crypto_scalarmult_base

from cli.cluster import Cluster, Place
from cli.founding import draft_genesis, sign_draft
from cli.home import Card, NewHome, create_home
from node.config import Home, multiaddr
from node.keys.keyfile import load_key_file
from storage.schema.genesis import Parameters
from storage.schema.signatures import public_key_of
from tests.support.chain import seed_of
from tests.support.hostile_member import HostileMember, running
from tests.support.running_network import RunningNetwork, base_port, running_network, until

NAMES = ("north", "south", "east", "west")
HOSTILE = "south"
HONEST = ("east", "north", "west")
GUESTS = tuple(f"clinic-{number:02}" for number in range(1, 33))
"""Members that do not vote: each has a name to lose, so that an attack need not wait until the last one is forgiven."""

BLOCKS_MISSED = 3
"""How far west is behind where it is."""

# Every member is primary at every fourth height, so the hostile one need not wait for its turn.
PARAMETERS = Parameters(rotation_blocks=1)


def found(folder: Path, parameters: Parameters = PARAMETERS) -> None:
    """Make the homes of four hospitals, and a genesis file that names the guests beside them."""
    folder.mkdir(mode=0o700)
    ports = iter(range(base_port(), 1 << 16))
    places, cards, organisation_seeds = [], [], []
    for name in NAMES:
        cold = folder / "cold" / f"{name}-organisation.key"
        address, http = multiaddr("127.0.0.1", next(ports)), f"127.0.0.1:{next(ports)}"
        places.append(Place(name, folder / name, http, address))
        wanted = NewHome(Home(folder / name), name, address, address, cold, None, None, http_tcp=http)
        cards.append(create_home(wanted))
        organisation_seeds.append(load_key_file(cold).open_secrets(None)["organisation"])
    cards += [guest_card(name) for name in GUESTS]
    organisation_seeds += [seed_of(f"{name}/organisation") for name in GUESTS]
    draft = draft_genesis("testnet", cards, parameters)
    for seed in organisation_seeds:
        draft, _ = sign_draft(draft, seed, public_key_of(seed))
    for home in (folder, *(place.home for place in places)):
        (home / "genesis.json").write_bytes(draft.render())
    Cluster(folder, "testnet", tuple(places)).save()


def guest_card(name: str) -> Card:
    """What the founders know of a guest; it has no address, so the others wait until it dials."""
    organisation, node, service = (
        public_key_of(seed_of(f"{name}/{kind}")).hex() for kind in ("organisation", "node", "service")
    )
    encryption = crypto_scalarmult_base(seed_of(f"{name}/encryption")).hex()
    return Card("caretrace.card/1", name, organisation, node, service, encryption, (), ("observer",))


@contextmanager
def network_with_guests(folder: Path, parameters: Parameters = PARAMETERS) -> Iterator[RunningNetwork]:
    """Run the four hospitals, all honest yet, with their people."""
    found(folder, parameters)
    with running_network(folder) as network:
        network.enrol()
        yield network


@contextmanager
def guest(network: RunningNetwork, name: str, *peers: str) -> Iterator[HostileMember]:
    """Be a guest, connected to these nodes, or to all honest ones."""
    with running(HostileMember(network.genesis, name, seed_of(f"{name}/node"), peers or HONEST)) as member:
        until(lambda: member.is_connected(*peers or HONEST))
        yield member


@contextmanager
def frozen(network: RunningNetwork, *names: str) -> Iterator[None]:
    """Freeze nodes: they hold their connections, and say nothing until they are thawed."""
    for name in names:
        network.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            network.signal(name, signal.SIGCONT)


def rss_bytes(network: RunningNetwork, name: str) -> int:
    """How much memory a node's process holds."""
    pid = network.place(name).pid
    assert pid is not None, f"{name} runs"
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def dropped(network: RunningNetwork, name: str, culprit: str, reason: str, since: int = 0) -> None:
    """Wait until a node has dropped a member, and check that its log, from that many characters on, says why."""
    said = f"dropped {culprit} for "
    until(lambda: said in network.log(name)[since:])
    line = next(line for line in network.log(name)[since:].splitlines() if said in line)
    assert reason in line, line
