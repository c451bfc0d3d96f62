"""How long a node takes to come back without its ledger, once a chain holds so many transactions.

First west loses its ledger and keeps its vote log: it is timed until it votes again. Then it loses all its data, and
its organisation appoints it new keys as soon as it stands level: it is timed from its start until it votes again, the
restart with the new keys included, and then until all of its history is here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.bench import _populate, _tell
from cli.bench_load import Load, counters, saturate
from cli.bench_machine import describe_machine
from cli.client import Json, Node
from cli.cluster import Cluster, Place, kill_node, start_node, stop_node
from cli.errors import CliError
from cli.testnet import close_network, open_network
from storage.schema.genesis import load_file

WITHIN_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transactions", type=int, default=50_000)
    parser.add_argument("--signers", type=int, default=1000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="caretrace-heal-"))
    try:
        sys.stdout.write(json.dumps(measured(folder, arguments.transactions, arguments.signers), indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(folder: Path, transactions: int, signers: int) -> dict[str, Any]:
    machine = describe_machine(folder)
    cluster = open_network(folder / "net", 4, "pbft", None, _tell)
    try:
        nodes = fill(cluster, transactions, signers)
        west = cluster.place("west")
        data = west.home / "data"
        height = int(nodes[0].get("/v1/status", Json)["height"])
        lost = came_back(west, lambda: shutil.rmtree(data / "ledger"), lambda status: status["ready"])
        wiped = came_back(west, lambda: shutil.rmtree(data), lambda status: status["height"] >= height)
        rekeyed = wiped + with_new_keys(cluster, west)
        whole = until(lambda: said(west), lambda status: "history_from" not in status)
        return {
            "machine": {"cpus": machine.cpus, "filesystem": machine.filesystem, "fsync_ms": machine.fsync_ms},
            "transactions": counters(nodes[0])["transactions_committed"],
            "blocks": height,
            "votes_again_without_its_ledger_s": round(lost, 1),
            "level_again_without_any_data_s": round(wiped, 1),
            "votes_again_without_any_data_with_new_keys_s": round(rekeyed, 1),
            "history_whole_after_further_s": round(whole, 1),
        }
    finally:
        close_network(cluster)


def fill(cluster: Cluster, transactions: int, signers: int) -> list[Node]:
    nodes = [Node(place.name, place.socket, 30.0) for place in cluster.places]
    genesis = load_file((cluster.folder / "genesis.json").read_bytes())
    people = _populate(nodes, genesis, signers)
    while (done := counters(nodes[0])["transactions_committed"]) < transactions:
        _tell(f"{done} of {transactions} transactions")
        saturate(Load(people, genesis, nodes), 10)
    until(lambda: [node.get("/v1/status", Json) for node in nodes], lambda told: len({s["height"] for s in told}) == 1)
    return nodes


def with_new_keys(cluster: Cluster, place: Place) -> float:
    """Have the organisation appoint new keys, and start the node with them; returns the seconds until it votes."""
    start = time.monotonic()
    cold = cluster.folder / "cold" / f"{place.name}-organisation.key"
    command = [Path(sys.executable).with_name("caretrace"), "members", "rekey", "--node", place.name, "--key", cold]
    environment = os.environ | {"CARETRACE_TESTNET": str(cluster.folder)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=WITHIN_S)
    stop_node(place)
    start_node(place)
    until(lambda: said(place), lambda status: status["ready"])
    return time.monotonic() - start


def came_back(place: Place, hurt: Callable[[], None], is_back: Callable[[Json], object]) -> float:
    """Kill a node, hurt it, start it; returns the seconds from its start until it is back."""
    kill_node(place)
    hurt()
    start_node(place)
    return until(lambda: said(place), is_back)


def said(place: Place) -> Json:
    try:
        return Node(place.name, place.socket, 30.0).get("/v1/status", Json)
    except CliError:
        return {"ready": False, "height": -1, "history_from": 0}


def until(ask: Callable[[], Any], is_so: Callable[[Any], object]) -> float:
    start = time.monotonic()
    while not is_so(ask()):
        assert time.monotonic() < start + WITHIN_S, "it does not come about"
        time.sleep(0.1)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
