"""The processes of a test network: how they are found, watched and taken down."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli.cluster
from cli.cluster import (
    Cluster,
    ClusterError,
    Place,
    end_processes,
    kill_node,
    last_lines,
    load_cluster,
    send_signal,
    start_node,
    stop_node,
    taking_down_when_ended,
    uninterrupted,
    wait_for,
)
from node.config import Home
from node.runtime.home_lock import locked


def place_in(folder: Path, name: str = "north") -> Place:
    home = folder / name
    (home / "run").mkdir(parents=True)
    return Place(name, home, "127.0.0.1:1", "/ip4/127.0.0.1/tcp/2")


def test_a_network_is_found_again_by_its_file(tmp_path: Path) -> None:
    places = (place_in(tmp_path), place_in(tmp_path, "south"))
    Cluster(tmp_path, "testnet", places).save()

    found = load_cluster(tmp_path)

    assert found == Cluster(tmp_path, "testnet", places)
    assert found.place("south").socket == tmp_path / "south" / "run" / "node.sock"
    with pytest.raises(ClusterError, match="no node east; there are north, south"):
        found.place("east")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"nodes": []}', '{"network": "n", "nodes": [{"name": "north"}]}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "testnet.json").write_text(content)

    with pytest.raises(ClusterError, match="damaged"):
        load_cluster(tmp_path)


def test_where_no_network_is_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="caretrace testnet up"):
        load_cluster(tmp_path)


def test_a_node_that_does_not_run_cannot_be_signalled_or_killed_and_need_not_be_stopped(tmp_path: Path) -> None:
    place = place_in(tmp_path)

    assert place.pid is None
    assert not stop_node(place)
    with pytest.raises(ClusterError, match="north does not run"):
        send_signal(place, signal.SIGHUP)
    with pytest.raises(ClusterError, match="north does not run"):
        kill_node(place)


def test_a_node_that_runs_is_not_started_again(tmp_path: Path) -> None:
    place = place_in(tmp_path)

    with locked(Home(place.home)):
        assert place.pid == os.getpid()
        with pytest.raises(ClusterError, match="runs already"):
            start_node(place)


HOLDER = """
import signal, sys, time
from pathlib import Path
from node.config import Home
from node.runtime.home_lock import locked
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with locked(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    signal.pause()
"""


def hold(place: Place, how: str) -> "subprocess.Popen[str]":
    """A process that holds a home as a node does, and does nothing else."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.home), how], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("how", "number"), [("willing", signal.SIGTERM), ("stubborn", signal.SIGKILL)])
def test_a_node_is_stopped_cleanly_or_by_force_frozen_or_not(tmp_path: Path, how: str, number: int) -> None:
    place = place_in(tmp_path)
    with hold(place, how) as process:
        send_signal(place, signal.SIGSTOP)

        assert stop_node(place, timeout_s=0.3)

        assert place.pid is None
        assert process.wait(5) == -number


def test_a_killed_node_is_gone_when_the_kill_returns(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    with hold(place, "stubborn") as process:
        assert kill_node(place) == process.pid
        assert place.pid is None
        assert process.wait(5) == -signal.SIGKILL


def test_waiting_ends_when_all_are_ready_and_tells_the_last_words_of_who_has_ended(tmp_path: Path) -> None:
    north, south = place_in(tmp_path), place_in(tmp_path, "south")
    with hold(north, "willing") as process:
        wait_for((north,), lambda _: "", 5)
        south.log_file.write_text("".join(f"line {number}\n" for number in range(20)))

        with pytest.raises(ClusterError, match="not ready in 0 s:\nnorth: no quorum"):
            wait_for((north,), lambda _: "no quorum", 0.1)
        with pytest.raises(ClusterError) as ended:
            wait_for((north, south), lambda _: "", 5)
        process.kill()

    assert "south has ended" in str(ended.value)
    assert "full" not in str(ended.value)
    assert str(ended.value).endswith("line 19")
    assert last_lines(south, 2) == "line 18\nline 19"
    assert last_lines(north) == "(it printed nothing)"


def test_of_a_node_that_a_full_disk_has_ended_the_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_in(tmp_path)
    monkeypatch.setattr(cli.cluster, "_FULL_BYTES", 1 << 62)

    with pytest.raises(ClusterError, match=f"the disk of {place.home} is full"):
        wait_for((place,), lambda _: "", 5)


def test_a_node_is_known_and_can_be_stopped_from_the_moment_it_is_started(tmp_path: Path) -> None:
    place = place_in(tmp_path)

    with start_node(place) as process:
        known = place.pid
        with pytest.raises(ClusterError, match="runs already"):
            start_node(place)
        was_stopped = stop_node(place)

    assert known == process.pid
    assert was_stopped
    assert process.returncode == -signal.SIGTERM
    assert place.pid is None


STARTED_FOR = """
import signal, sys
from pathlib import Path
from node.config import Home
from node.runtime.home_lock import locked
with locked(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    signal.pause()
"""


def test_a_lock_that_was_taken_for_a_node_is_the_nodes_own(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    pid_file = place.home / "run" / "node.pid"
    with pid_file.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(b"987654321 from before\n")
        lock.flush()
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED_FOR, str(place.home)],
            stdin=lock.fileno(),
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path.cwd(),
        )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        assert place.pid == process.pid
        assert kill_node(place) == process.pid


def test_processes_that_were_started_are_ended_though_they_hold_no_home_yet() -> None:
    sleeping = "import time; time.sleep(60)"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for program in (sleeping, stubborn)
    ]
    assert processes[1].stdout is not None
    processes[1].stdout.readline()

    end_processes(processes, timeout_s=0.3)

    assert [process.returncode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]
    for process in processes:
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_would_end_a_command_is_held_back_until_what_must_be_whole_is_done(number: int) -> None:
    done = []
    before = signal.getsignal(number)

    @taking_down_when_ended()
    def start_and_wait() -> None:
        with uninterrupted():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            done.append("started and noted")
        done.append("waited in vain")

    with pytest.raises(KeyboardInterrupt):
        start_and_wait()

    assert done == ["started and noted"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_only_the_first_signal_counts_so_that_taking_down_comes_to_its_end(number: int) -> None:
    done = []

    @taking_down_when_ended()
    def be_ended() -> None:
        try:
            os.kill(os.getpid(), number)
            done.append("nothing happened")
        finally:
            for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), again)
            done.append("taken down")

    with pytest.raises(KeyboardInterrupt):
        be_ended()

    assert done == ["taken down"]


def test_under_nohup_the_end_of_the_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with taking_down_when_ended(), uninterrupted():
            os.kill(os.getpid(), signal.SIGHUP)

        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_file_of_a_network_names_places_from_its_own_folder(tmp_path: Path) -> None:
    Cluster(tmp_path, "testnet", (place_in(tmp_path),)).save()

    content = json.loads((tmp_path / "testnet.json").read_text())

    assert content["nodes"][0]["home"] == "north"
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert load_cluster(moved).place("north").home == moved / "north"
