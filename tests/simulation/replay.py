"""The command behind ``scripts/replay_seed``: one schedule with its trace, or many with their figures."""

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Sequence

from tests.simulation.simulated_cluster import Cluster, Report

COUNTED = (
    "views changed",
    "unsynced writes lost",
    "equivocations",
    "certificates carried",
    "executed again",
    "catch-ups",
    "crashes",
)


def main() -> int:
    """Replay what the command line asks for; 0 if nothing was violated, else 1."""
    parser = argparse.ArgumentParser(prog="scripts/replay_seed", description=__doc__)
    parser.add_argument("seed", type=int, help="the schedule, or the first of them")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="live through N schedules from there on")
    parser.add_argument("--real", action="store_true", help="sign with Ed25519, not with the fast stand-in")
    parser.add_argument("--quiet", action="store_true", help="print no trace of what happened")
    options = parser.parse_args()
    if options.count == 1:
        return replay(options.seed, real=options.real, quiet=options.quiet)
    return soak(range(options.seed, options.seed + options.count), real=options.real)


def replay(seed: int, *, real: bool, quiet: bool) -> int:
    """Live through one schedule; print what happened and, if a property did not hold, which and where."""
    cluster = Cluster(seed, traced=not quiet, real=real)
    report, failure = None, ""
    try:
        report = cluster.run()
    except AssertionError:
        failure = traceback.format_exc()
    for line in cluster.world.trace or ():
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"{cluster.plan}\nliars: {', '.join(sorted(cluster.liars)) or 'none'}\n")
    if report is None:
        sys.stdout.write(failure)
        return 1
    sys.stdout.write(f"heights {report.heights}, {report.events} events, {report.virtual_s:.1f} s of virtual time\n")
    sys.stdout.write(f"seen: {dict(sorted(report.seen.items()))}\nfingerprint {report.fingerprint}\n")
    return 0


def soak(seeds: range, *, real: bool) -> int:
    """Live through many schedules; print the figures, and how to replay each that failed."""
    reports: list[Report] = []
    failed: list[int] = []
    for seed in seeds:
        try:
            reports.append(Cluster(seed, real=real).run())
        except AssertionError as error:
            failed.append(seed)
            sys.stdout.write(f"seed {seed}: {error}\n    scripts/replay_seed {seed}\n")
            sys.stdout.flush()
    sys.stdout.write(figures(reports) + f"\n{len(failed)} of {len(seeds)} schedules failed: {failed}\n")
    return 1 if failed else 0


def figures(reports: Sequence[Report]) -> str:
    """Say how many schedules saw what, and how soon they came forward after the faults."""
    seen = Counter(name for report in reports for name in COUNTED if report.seen[name])
    recovery_s = sorted(report.recovery_s for report in reports) or [0.0]
    lines = [f"{len(reports)} schedules, {sum(report.events for report in reports)} events; how many saw"]
    lines += [f"  {seen[name]:6} {name}" for name in COUNTED]
    lines.append(
        f"  ten blocks after the faults: median {recovery_s[len(recovery_s) // 2]:.1f} s, "
        f"longest {recovery_s[-1]:.1f} s of virtual time"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
