"""The load of a bench: workers that submit, a sampler that times single transactions, and the nodes' own counters."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from cli.bench_people import Population, workload
from cli.client import Json, Node
from cli.errors import CliError
from storage.schema.genesis import Genesis
from storage.schema.receipt import verify_receipt
from storage.schema.transaction import decode_transaction

BATCH = 100
WINDOW = 3000
SAMPLE_EVERY_S = 0.1
COUNTERS = (
    "signatures_verified",
    "transactions_committed",
    "transactions_refused",
    "blocks_committed",
    "synced_batches",
)


@dataclass(slots=True)
class Load:
    """What the workers have done so far; shared between their threads."""

    people: Population
    genesis: Genesis
    nodes: list[Node]
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    offered: int = 0
    refused: int = 0
    committed_seen: int = 0
    latencies_ms: list[float] = field(default_factory=list)


def counters(node: Node) -> dict[str, int]:
    """Read a node's own counters from its metrics."""
    values = dict.fromkeys(COUNTERS, 0)
    for line in node.get_bytes("/metrics").decode().splitlines():
        name, _, value = line.partition(" ")
        short = name.removeprefix("caretrace_").removesuffix("_total")
        if short in values:
            values[short] = int(float(value))
    return values


def saturate(load: Load, seconds: float) -> None:
    """Keep a closed window of transactions under way at every node, and time single ones meanwhile.

    Raises:
        CliError: a node refused what it should take.
    """
    start_committed = counters(load.nodes[0])["transactions_committed"]
    with ThreadPoolExecutor(len(load.nodes) + 1) as pool:
        workers = [pool.submit(_fill_window, load, number) for number in range(len(load.nodes))]
        workers.append(pool.submit(_sample, load))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(worker.done() for worker in workers):
            time.sleep(0.05)
            load.committed_seen = counters(load.nodes[0])["transactions_committed"] - start_committed
        load.stop.set()
    for worker in workers:
        worker.result()


def pace(load: Load, seconds: float, rate: float) -> None:
    """Submit single transactions at a steady rate, each timed to its verified receipt.

    Raises:
        CliError: a transaction was not taken or not committed.
    """
    calls = workload(load.people, 0, 1)
    start = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        timed = []
        for number in range(int(seconds * rate)):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            timed.append(pool.submit(_time_one, load, load.nodes[number % len(load.nodes)], next(calls)))
            load.offered += 1
    for future in timed:
        future.result()


def _fill_window(load: Load, number: int) -> None:
    calls = workload(load.people, number, len(load.nodes) + 1)
    node = load.nodes[number]
    while not load.stop.is_set():
        if load.offered - load.committed_seen - load.refused > WINDOW:
            time.sleep(0.005)
            continue
        _submit(load, node, calls)


def _submit(load: Load, node: Node, calls: Iterator[bytes]) -> None:
    batch = list(islice(calls, BATCH))
    with load.lock:
        load.offered += len(batch)
    try:
        refused = len(node.post_msgpack("/v1/transactions", batch, Json)["refused"])
    except CliError as error:
        if error.code != "mempool.full":
            raise
        refused = len(batch)
        time.sleep(0.1)
    if refused:
        with load.lock:
            load.refused += refused


def _sample(load: Load) -> None:
    calls = workload(load.people, len(load.nodes), len(load.nodes) + 1)
    for number, call in enumerate(calls):
        if load.stop.is_set():
            return
        with load.lock:
            load.offered += 1
        _time_one(load, load.nodes[number % len(load.nodes)], call)
        load.stop.wait(SAMPLE_EVERY_S)


def _time_one(load: Load, node: Node, envelope: bytes) -> None:
    """Submit one transaction and stop the clock when its receipt has been verified."""
    start = time.perf_counter()
    node.post_msgpack("/v1/transactions", [envelope], Json)
    tx_id = decode_transaction(envelope).id.hex()
    receipt = node.get_bytes(f"/v1/transactions/{tx_id}/receipt", wait_s=30)
    verify_receipt(receipt, load.genesis)
    load.latencies_ms.append((time.perf_counter() - start) * 1000)
