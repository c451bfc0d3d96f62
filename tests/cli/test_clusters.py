"""The processes of a test network: how they are found, watched and taken down."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
        wait_for((north,), lambda _: True, 5)
        south.log_file.write_text("".join(f"line {number}\n" for number in range(20)))

        with pytest.raises(ClusterError, match="not ready in 0 s: north"):
            wait_for((north,), lambda _: False, 0.1)
        with pytest.raises(ClusterError) as ended:
            wait_for((north, south), lambda place: place is north, 0.1)
        process.kill()

    assert "south has ended" in str(ended.value)
    assert str(ended.value).endswith("line 19")
    assert last_lines(south, 2) == "line 18\nline 19"
    assert last_lines(north) == "(it printed nothing)"


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


def test_an_interruption_is_held_back_until_what_must_be_whole_is_done() -> None:
    done = []

    def press_twice_and_go_on() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        press_twice_and_go_on()

    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_file_of_a_network_names_places_from_its_own_folder(tmp_path: Path) -> None:
    Cluster(tmp_path, "testnet", (place_in(tmp_path),)).save()

    content = json.loads((tmp_path / "testnet.json").read_text())

    assert content["nodes"][0]["home"] == "north"
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    assert load_cluster(moved).place("north").home == moved / "north"
