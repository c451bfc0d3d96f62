"""What a bench says of its machine and of its nodes' processes: figures mean nothing without them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cli.cluster import Cluster
from cli.errors import CliError
from storage.schema.signatures import public_key_of, sign, verify_signature

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SYNCS = 40
_VERIFICATIONS = 3000


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors, the filesystem under the nodes, what a sync costs there, and how fast one core verifies."""

    cpus: int
    filesystem: str
    fsync_ms: float
    verify_per_second_one_core: int


def describe_machine(folder: Path) -> Machine:
    """Measure the machine as it is now.

    Raises:
        CliError: the folder lies in memory, where a sync costs nothing.
    """
    filesystem = filesystem_of(folder)
    if filesystem in ("tmpfs", "ramfs"):
        raise CliError(
            "bench.in_memory",
            f"{folder} lies on {filesystem}, where a sync costs nothing: the figures would be of no ledger",
            hint="name a folder on a disk with --dir",
        )
    return Machine(len(os.sched_getaffinity(0)), filesystem, _fsync_ms(folder), verify_rate())


def filesystem_of(folder: Path) -> str:
    """Return the type of the filesystem that a folder lies on, as the kernel names it."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, mounted_kind, *_ = line.split(" ")
        is_under = f"{folder.resolve()}/".startswith(mount.rstrip("/") + "/")
        if is_under and len(mount) >= len(best):
            best, kind = mount, mounted_kind
    return kind


def _fsync_ms(folder: Path) -> float:
    """Return the median time to append 4 KiB and sync it."""
    path = folder / "sync.probe"
    times = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(_SYNCS):
            start = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return round(median(times) * 1000, 3)


def verify_rate() -> int:
    """Return how many transaction signatures one core verifies in a second."""
    seed, message = bytes(range(32)), bytes(46)
    key, signature = public_key_of(seed), sign(seed, message)
    start = time.perf_counter()
    for _ in range(_VERIFICATIONS):
        verify_signature(key, message, signature)
    return int(_VERIFICATIONS / (time.perf_counter() - start))


def cpu_seconds(cluster: Cluster) -> float:
    """Return the processor time that all nodes have used, in seconds."""
    total = 0
    for place in cluster.places:
        fields = Path(f"/proc/{place.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def rss_mib(cluster: Cluster) -> int:
    """Return the largest resident memory among the nodes, in MiB."""
    sizes = []
    for place in cluster.places:
        status = Path(f"/proc/{place.pid}/status").read_text()
        sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
    return max(sizes) // 1024


def disk_bytes(cluster: Cluster) -> int:
    """Return what one node's ledger takes on disk, on average."""
    sizes = [
        sum(file.stat().st_size for file in (place.home / "data" / "ledger").rglob("*") if file.is_file())
        for place in cluster.places
    ]
    return sum(sizes) // len(sizes)
