"""A short bench: its figures are counted, and nothing of it is left. How fast it is, no test says."""

import json

import pytest

from tests.support.running_network import RunningNetwork

pytestmark = pytest.mark.cluster


def test_a_short_bench_counts_at_all_nodes_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("b")
    process = RunningNetwork(place / "net").begin(
        "bench", "--seconds", "1", "--signers", "8", "--dir", str(place), "--json"
    )
    out, told = process.communicate(timeout=120)

    if "bench.in_memory" in out:
        pytest.skip("the folder for temporary files lies in memory, where a sync costs nothing")
    assert process.returncode == 0, told
    answer = json.loads(out)
    assert answer["schema"] == "caretrace.bench/1"
    assert (answer["engine"], answer["nodes"], answer["divergence"]) == ("pbft", 4, None)
    assert 0 < answer["committed"] <= answer["offered"]
    assert answer["refused"] == 0
    assert answer["verifications"] >= answer["committed"] * answer["nodes"]
    assert answer["blocks"] > 0
    assert set(answer["latency_ms"]) == {"p50", "p90", "p99"}
    assert answer["machine"]["fsync_ms"] > 0
    for name in (
        "cpu_ms_per_tx",
        "rss_mib",
        "disk_bytes_per_tx",
        "verify_per_second_one_core",
        "share_of_verify_bound",
    ):
        assert answer[name] > 0, name
    assert list(place.iterdir()) == []
