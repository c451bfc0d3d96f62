"""Faults on real processes by the hundred, while clients work and their history is checked.

    python -m tests.cluster.soak --kills 200 --partitions 50 --corruptions 30 --pauses 20 --seed 1

Each seed is one list of faults. Progress goes to standard error, a JSON summary to standard output. It exits 1 at the
first thing that is wrong, with the number of the fault: ``--begin NUMBER`` takes the list up there, on a new network.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tests.support.ordeal import Ordeal, planned
from tests.support.running_network import running_network
from tests.support.workload import Workload


def main(arguments: list[str]) -> int:
    """Live through the faults that are asked for; returns the exit code."""
    wanted = _parsed(arguments)
    plan = planned(wanted.seed, wanted.kills, wanted.partitions, wanted.corruptions, wanted.pauses)
    started_s = time.monotonic()
    summary: dict[str, Any] = {"seed": wanted.seed, "begin": wanted.begin, "planned": len(plan), "found": []}
    with (
        tempfile.TemporaryDirectory(prefix="ct-") as folder,
        running_network(Path(folder) / "net", "--relay") as network,
    ):
        work = Workload(network, wanted.seed, clients=wanted.clients)
        ordeal = Ordeal(network, work, wanted.seed)
        number = wanted.begin
        try:
            with work:
                work.goes_on()
                for number, fault in list(enumerate(plan))[wanted.begin :]:
                    if time.monotonic() > started_s + 60 * wanted.minutes:
                        break
                    _tell(f"{number + 1}/{len(plan)} {fault}, {len(work.acknowledged)} acknowledged")
                    ordeal.suffer(number, fault)
                else:
                    number = len(plan)
            summary["found"] = work.found()
            summary["found"] += [f"{name}: {words}" for name in network.names if (words := ordeal.bad_ledger(name))]
        except Exception as error:  # noqa: BLE001 - the summary is what tells of it, with the seed
            traceback.print_exc()
            summary["found"] = [f"fault {number}: {error!r}", *work.failures]
        summary |= ordeal.report() | {"suffered_to": number, "seconds": round(time.monotonic() - started_s)}
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 1 if summary["found"] else 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="stop after so long, whatever is left")
    parser.add_argument("--kills", type=int, default=20, help="processes that are ended by SIGKILL")
    parser.add_argument("--partitions", type=int, default=5, help="cables cut or slowed")
    parser.add_argument("--corruptions", type=int, default=3, help="nodes started on ruined, lost or old data")
    parser.add_argument("--pauses", type=int, default=2, help="processes frozen for 5 to 30 seconds")
    parser.add_argument("--clients", type=int, default=4, help="clients at work meanwhile")
    parser.add_argument("--seed", type=int, default=1, help="of the list of faults")
    parser.add_argument("--begin", type=int, default=0, metavar="NUMBER", help="take the list up there")
    return parser.parse_args(arguments)


def _tell(words: str) -> None:
    sys.stderr.write(words + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
