"""``caretrace bench``: its own network in a folder of its own, loaded, counted at every node, and removed."""

import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from cli.bench_load import Load, counters, pace, saturate
from cli.bench_machine import Machine, cpu_seconds, describe_machine, disk_bytes, rss_mib, verify_rate
from cli.bench_people import Population, add_records, base_grants, enrol, post_and_wait
from cli.client import Json, Node
from cli.cluster import Cluster, taking_down_when_ended
from cli.command import Verb
from cli.errors import CliError, Exit
from cli.output import Answer, facts
from cli.testnet import close_network, open_network
from storage.schema.genesis import Genesis, load_file

SETTLE_S = 30.0
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(
    cls=Verb,
    example="caretrace bench --seconds 30\ncaretrace bench --rate 10 --seconds 20 --json",
)
@click.option("--nodes", "node_count", default=4, show_default=True, type=click.IntRange(4, 16), help="How many nodes.")
@click.option(
    "--engine", type=click.Choice(["pbft"]), default="pbft", show_default=True, help="How order is agreed on."
)
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 3600), help="How long to load it.")
@click.option(
    "--rate", type=click.FloatRange(0.1, 1000), help="Transactions a second; without it, as many as it takes."
)
@click.option("--signers", default=1000, show_default=True, type=click.IntRange(8, 100_000), help="Patients who sign.")
@click.option("--dir", "folder", type=_FOLDER, help="Where to put the network; removed afterwards.")
@taking_down_when_ended()
def bench(
    node_count: int, engine: str, seconds: float, rate: float | None, signers: int, folder: Path | None
) -> Answer:
    """Measure a network on this machine: half grants, half access requests that the contract decides."""
    place = Path(tempfile.mkdtemp(prefix="caretrace-bench-", dir=folder))
    try:
        machine = describe_machine(place)
        _tell(f"{node_count} nodes in {place} ({machine.filesystem}, a sync takes {machine.fsync_ms} ms)")
        cluster = open_network(place, node_count, engine, None, _tell)
        try:
            fields = _measure(cluster, machine, seconds, rate, signers) | {"engine": engine}
        finally:
            close_network(cluster)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    is_sound = fields["divergence"] is None
    return Answer(fields, _text(fields), exit_code=Exit.OK if is_sound else Exit.ERROR)


def _tell(words: str) -> None:
    click.echo(words, err=True)


def _measure(cluster: Cluster, machine: Machine, seconds: float, rate: float | None, signers: int) -> dict[str, Any]:
    nodes = [Node(place.name, place.socket, 30.0) for place in cluster.places]
    genesis = load_file((cluster.folder / "genesis.json").read_bytes())
    _tell(f"setting up {signers} patients, each with a record and a consent")
    people = _populate(nodes, genesis, signers)
    before = [counters(node) for node in nodes]
    cpu_before, disk_before = cpu_seconds(cluster), disk_bytes(cluster)
    load = Load(people, genesis, nodes)
    _tell(f"loading it for {seconds:.0f} s" + (f" at {rate:g} a second" if rate else ", as much as it takes"))
    start = time.monotonic()
    if rate is None:
        saturate(load, seconds)
    else:
        pace(load, seconds, rate)
    elapsed = time.monotonic() - start
    at_end = [counters(node) for node in nodes]
    divergence = _settle(nodes)
    after = [counters(node) for node in nodes]
    gained = [{name: a[name] - b[name] for name in a} for a, b in zip(after, before, strict=True)]
    # A rate counts what was committed everywhere within the time; what settled later is counted apart.
    in_time = min(_net(a) - _net(b) for a, b in zip(at_end, before, strict=True))
    _check(gained)
    total = gained[0]["transactions_committed"]
    return {
        "machine": {"cpus": machine.cpus, "filesystem": machine.filesystem, "fsync_ms": machine.fsync_ms},
        "nodes": len(nodes),
        "offered": load.offered,
        "seconds": round(elapsed, 2),
        "committed": in_time,
        "refused": gained[0]["transactions_refused"],
        "committed_per_second": round(in_time / elapsed, 1),
        "latency_ms": _quantiles(load.latencies_ms),
        "cpu_ms_per_tx": round((cpu_seconds(cluster) - cpu_before) * 1000 / max(1, total), 3),
        "rss_mib": rss_mib(cluster),
        "disk_bytes_per_tx": (disk_bytes(cluster) - disk_before) // max(1, total),
        "verify_per_second_one_core": machine.verify_per_second_one_core,
        "verify_per_second_after": verify_rate(),
        "share_of_verify_bound": round(
            in_time / elapsed * len(nodes) / (machine.cpus * machine.verify_per_second_one_core), 3
        ),
        "blocks": gained[0]["blocks_committed"],
        "verifications": sum(gain["signatures_verified"] for gain in gained),
        "divergence": divergence,
    }


def _net(counted: dict[str, int]) -> int:
    return counted["transactions_committed"] - counted["transactions_refused"]


def _populate(nodes: list[Node], genesis: Genesis, signers: int) -> Population:
    statuses = [node.get("/v1/status", Json) for node in nodes]
    shares = [signers // len(nodes) + (number < signers % len(nodes)) for number in range(len(nodes))]
    with ThreadPoolExecutor(len(nodes)) as pool:
        enrolled = list(
            pool.map(
                lambda node, status, share: enrol(
                    genesis.chain_id, node, bytes.fromhex(status["service_key"]), status["name"], share
                ),
                nodes,
                statuses,
                shares,
            )
        )
        records = list(pool.map(add_records, nodes, [patients for patients, _ in enrolled]))
    patients = tuple(patient for share, _ in enrolled for patient in share)
    staff = tuple(person for _, share in enrolled for person in share)
    people = Population(genesis.chain_id, patients, staff, tuple(record for share in records for record in share))
    post_and_wait(nodes[0], base_grants(people))
    _settle(nodes)
    return people


def _settle(nodes: list[Node]) -> str | None:
    """Wait until all nodes stand at one height with nothing waiting; returns in words how they differ, if they do."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        statuses = [node.get("/v1/status", Json) for node in nodes]
        points = {(status["height"], status["block_hash"], status["state_root"]) for status in statuses}
        is_empty = not any(status["mempool"] for status in statuses)
        if len(points) == 1 and is_empty:
            return None
        if time.monotonic() > deadline:
            return "; ".join(
                f"{s['name']} {s['height']} {s['state_root'][:16]} ({s['mempool']} wait)" for s in statuses
            )
        time.sleep(0.1)


def _check(gained: list[dict[str, int]]) -> None:
    """Assert from the nodes' counters that nothing was left out.

    Raises:
        CliError: a signature was not verified by every node, or a block not synced.
    """
    committed = gained[0]["transactions_committed"]
    verified = sum(gain["signatures_verified"] for gain in gained)
    if verified < committed * len(gained):
        raise CliError(
            "bench.unverified", f"{verified} verifications for {committed} transactions on {len(gained)} nodes"
        )
    for gain in gained:
        if gain["synced_batches"] != gain["blocks_committed"]:
            raise CliError("bench.unsynced", f"{gain['synced_batches']} syncs for {gain['blocks_committed']} blocks")


def _quantiles(values: list[float]) -> dict[str, float | None]:
    if len(values) < 2:
        return {"p50": None, "p90": None, "p99": None}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p90": round(cuts[89], 1), "p99": round(cuts[98], 1)}


def _text(fields: dict[str, Any]) -> str:
    latency = fields["latency_ms"]
    machine = fields["machine"]
    return facts(
        (
            ("machine", f"{machine['cpus']} cores, {machine['filesystem']}, a sync takes {machine['fsync_ms']} ms"),
            ("committed", f"{fields['committed']} in {fields['seconds']} s by {fields['nodes']} nodes"),
            ("a second", fields["committed_per_second"]),
            ("refused", fields["refused"]),
            ("latency ms", f"p50 {latency['p50']}, p90 {latency['p90']}, p99 {latency['p99']}"),
            ("cpu ms a transaction", f"{fields['cpu_ms_per_tx']:.3f}"),
            ("memory MiB", fields["rss_mib"]),
            ("disk bytes a transaction", fields["disk_bytes_per_tx"]),
            ("verified a second, one core", fields["verify_per_second_one_core"]),
            ("share of the verify bound", f"{fields['share_of_verify_bound']:.3f}"),
            ("blocks", fields["blocks"]),
            ("divergence", fields["divergence"] or "none"),
        )
    )
