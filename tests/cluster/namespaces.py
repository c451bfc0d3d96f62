"""Partitions made by the kernel, between network namespaces, while clients work and their history is checked.

    python -m tests.cluster.namespaces --cuts 20 --seed 1

Where namespaces cannot be had it says why, and exits 0: tests.cluster.soak cuts cables everywhere.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.kernel_wires import NAMES, why_not_here, wired_network
from tests.support.running_network import until
from tests.support.workload import Workload

HEAL_WITHIN_S = 120.0


def main(arguments: list[str]) -> int:
    """Live through the cuts that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.namespaces", description=__doc__)
    parser.add_argument("--cuts", type=int, default=6, help="how many cables are cut, muted or slowed")
    parser.add_argument("--seed", type=int, default=1, help="of the list of cuts")
    wanted = parser.parse_args(arguments)
    if reason := why_not_here():
        sys.stdout.write(json.dumps({"skipped": reason}) + "\n")
        return 0
    draw, suffered = random.Random(wanted.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="ct-") as folder, wired_network(Path(folder) / "net") as (network, wires):
        faults = {"cut": wires.cut, "mute": wires.mute} | ({"slow": wires.slow} if wires.has_netem else {})
        with Workload(network, wanted.seed) as work:
            work.goes_on()
            for number in range(wanted.cuts):
                kind, name = [*faults][number % len(faults)], draw.choice(NAMES)
                sys.stderr.write(f"{number + 1}/{wanted.cuts} {kind} {name}, {len(work.acknowledged)} acknowledged\n")
                faults[kind](name)
                end_s = time.monotonic() + draw.uniform(1, 10)
                until(lambda end_s=end_s: time.monotonic() > end_s)  # type: ignore[misc]
                work.goes_on(within_s=HEAL_WITHIN_S)
                wires.mend()
                until(lambda: all(map(network.is_ready, NAMES)), HEAL_WITHIN_S)
                work.goes_on(within_s=HEAL_WITHIN_S)
                suffered[kind] += 1
        found = work.found()
    slow = "" if "slow" in faults else "the kernel has no netem, so no cable was slow"
    summary = {"seed": wanted.seed, "suffered": suffered, "acknowledged": len(work.acknowledged), "found": found}
    sys.stdout.write(json.dumps(summary | {"skipped": slow}, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
