"""How much of a network's throughput remains when one of its four nodes is dead.

    python -m tests.cluster.degraded --seconds 30

The same load, as much as it takes, on all four nodes and then, one killed, on the other three. It exits 1 where less
than 80 % remains.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cli.bench import _net, _populate, _settle
from cli.bench_load import Load, counters, saturate
from cli.bench_people import Population
from cli.client import Node
from tests.support.running_network import RunningNetwork, running_network

SHARE_MIN = 0.8


def main(arguments: list[str]) -> int:
    """Measure both; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.degraded", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each load lasts")
    parser.add_argument("--signers", type=int, default=1000, help="patients who sign")
    parser.add_argument("--down", default="west", help="the node that is killed")
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ct-") as folder, running_network(Path(folder) / "net") as network:
        people = _populate(_nodes(network, network.names), network.genesis, wanted.signers)
        whole = _rate(network, network.names, people, wanted.seconds)
        network.kill(wanted.down)
        left = [name for name in network.names if name != wanted.down]
        degraded = _rate(network, left, people, wanted.seconds)
    share = degraded / whole
    summary = {"whole_tx_s": round(whole, 1), "one_down_tx_s": round(degraded, 1), "share": round(share, 3)}
    sys.stdout.write(json.dumps(summary | {"down": wanted.down, "seconds": wanted.seconds}, indent=1) + "\n")
    return 0 if share >= SHARE_MIN else 1


def _nodes(network: RunningNetwork, names: Sequence[str]) -> list[Node]:
    return [Node(name, network.place(name).socket, 30.0) for name in names]


def _rate(network: RunningNetwork, names: Sequence[str], people: Population, seconds: float) -> float:
    """Transactions a second that all these nodes have committed and not refused, while the load lasted."""
    nodes = _nodes(network, names)
    before = [counters(node) for node in nodes]
    start_s = time.monotonic()
    saturate(Load(people, network.genesis, nodes), seconds)
    elapsed_s = time.monotonic() - start_s
    after = [counters(node) for node in nodes]
    differs = _settle(nodes)
    assert differs is None, differs
    return min(_net(a) - _net(b) for a, b in zip(after, before, strict=True)) / elapsed_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
