import json
import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.operated_nodes import Operated
from tests.support.program import PROGRAM, environment


def test_a_ready_node_is_healthy_and_one_that_is_not_says_why(network: Operated) -> None:
    well = network.ask("health", "--node", "north")
    network.why_not_ready.append("a quorum is 3 validators, and 1 are reachable")
    ill = network.ask("health", "--node", "north", exit_code=8)

    assert well == {"schema": "caretrace.health/1", "ready": True}
    assert ill["ready"] is False
    assert ill["why_not"] == network.why_not_ready


def test_status_and_peers_show_people_and_machines_the_same(network: Operated) -> None:
    answer, text = network.ask("status", "--node", "south"), network.run("status", "--node", "south").output
    peers = network.ask("peers", "--node", "south")["peers"]

    assert answer["schema"] == "caretrace.status/1"
    assert (answer["name"], answer["ready"]) == ("south", True)
    assert f"height       {answer['height']}" in text
    assert [peer["name"] for peer in peers] == [peer["name"] for peer in answer["peers"]] == ["north"]


def test_a_watch_goes_on_until_it_is_interrupted(network: Operated) -> None:
    command = [*PROGRAM, "status", "--watch", "--json", "--node", "north"]
    with subprocess.Popen(
        command,
        env=environment(network.folder, {"CARETRACE_TESTNET": str(network.folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=10)

    assert json.loads(first)["name"] == json.loads(second)["name"] == "north"
    assert process.returncode == 130
    assert "Traceback" not in words


def test_a_ledger_is_verified_through_its_node_and_as_a_copy(network: Operated) -> None:
    copy = network.folder / "copy"
    through_node = network.ask("ledger", "verify", "--node", "north")
    shutil.copytree(network.folder / "ledger", copy / "ledger", ignore=shutil.ignore_patterns("LOCK"))
    arguments = ("ledger", "verify", "--data", str(copy), "--genesis", str(network.genesis_file))
    as_copy = network.ask(*arguments)
    flip_a_byte(copy / "ledger")
    damaged = network.ask(*arguments, exit_code=6)

    assert through_node == as_copy
    assert (as_copy["ok"], as_copy["from"], as_copy["blocks"]) == (True, 0, as_copy["to"])
    assert "first_bad" not in as_copy
    assert damaged["ok"] is False
    assert damaged["first_bad"]["area"]


def flip_a_byte(ledger: Path) -> None:
    largest = max(ledger.glob("*.l*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_a_folder_without_a_ledger_is_said_to_hold_none(network: Operated) -> None:
    empty = network.folder / "empty"
    empty.mkdir()
    arguments = ("ledger", "verify", "--data", str(empty))

    assert network.refusal(*arguments, "--genesis", str(network.genesis_file), exit_code=1)["code"] == "database.lost"
    assert network.refusal(*arguments, exit_code=2)["code"] == "usage"


def test_one_name_is_a_patient_at_two_hospitals_under_two_dids(network: Operated) -> None:
    network.ask("key", "new", "pia@south", "--no-passphrase")

    at_south = network.ask("patient", "register", "--as", "pia", "--node", "south")["patient"]
    at_north = network.ask("patient", "show", "pia", "--node", "north")

    assert at_south != at_north["did"]
    assert at_north["member"] == "north"
    assert network.ask("patient", "show", "pia", "--node", "south")["did"] == at_south
    assert network.ask("patient", "show", at_south, "--node", "north")["member"] == "south"


def test_the_first_node_that_a_wallet_meets_is_its_home_node(network: Operated) -> None:
    outside = {"CARETRACE_TESTNET": str(network.folder), "CARETRACE_WALLET": str(network.folder / "mine")}
    run = network.run("key", "new", "zoe", "--no-passphrase", environment=outside)
    registered = network.run("patient", "register", "--as", "zoe", "--node", "south", environment=outside)
    shown = network.run("patient", "show", "zoe", "--json", environment={**outside, "CARETRACE_TESTNET": ""})

    assert run.exit_code == registered.exit_code == 0
    assert json.loads(shown.stdout)["member"] == "south"
