"""A node that has lost its ledger, or finds it damaged, has it anew from the others, and votes again if it may.

West is the one that is hurt. Each test leaves it voting, but the last three, whose west may never vote again.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.client import Json
from cli.errors import CliError
from storage.schema.calls import Grant
from tests.cluster.test_damage import flip, goes_on_without_west
from tests.support.raw_calls import caller, id_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, installed_program, until

pytestmark = pytest.mark.cluster

GRANT = Grant(provision(), None)


def home(network: RunningNetwork) -> Path:
    return network.place("west").home


def votes(network: RunningNetwork) -> None:
    """Check that west votes: of the three others one is frozen, so that there is no quorum without it."""
    until(lambda: is_ready(network), 60)
    network.signal("south", signal.SIGSTOP)
    try:
        envelope = caller(network, "pia", "north").call("consent.grant", GRANT)
        assert refusal_of(network, "west", envelope) == ""
        until(lambda: status_of(network, id_of(envelope)) == "ok", 60)
    finally:
        network.signal("south", signal.SIGCONT)
    until(lambda: is_level(network), 60)
    assert network.ask("ledger", "verify", "--node", "west")["ok"]


def status_of(network: RunningNetwork, tx_id: str) -> str:
    try:
        return str(network.node("north").get(f"/v1/transactions/{tx_id}", Json)["status"])
    except CliError:
        return "not committed"


def is_ready(network: RunningNetwork) -> bool:
    try:
        return bool(network.status("west")["ready"])
    except CliError:
        return False  # It begins again.


def quarantined(network: RunningNetwork) -> list[str]:
    return [kept["why"] for kept in network.status("west").get("quarantine", [])]


@contextmanager
def alone(network: RunningNetwork, folder: Path, **more: str) -> Iterator[Path]:
    """Run a node of west's from a home, and end it; gives its log."""
    log_file = folder / "alone.log"
    with log_file.open("w") as output:
        command = [installed_program(), "start", "--home", folder]
        process = subprocess.Popen(command, env=network.environment | more, stdin=subprocess.DEVNULL, stderr=output)
        try:
            yield log_file
        finally:
            process.kill()
            process.wait()


def quarantined_or_none(network: RunningNetwork) -> list[str]:
    try:
        return quarantined(network)
    except CliError:
        return []


def is_level(network: RunningNetwork) -> bool:
    try:
        return network.is_level()
    except CliError:
        return False


def why_not(network: RunningNetwork) -> str:
    try:
        return " ".join(network.status("west").get("why_not", []))
    except CliError:
        return ""


def test_a_ledger_that_is_gone_is_had_anew_and_the_node_votes_again(own_network: RunningNetwork) -> None:
    network = own_network
    for _ in range(3):
        goes_on_without_west(network)
    network.kill("west")
    shutil.rmtree(home(network) / "data" / "ledger")
    goes_on_without_west(network)

    network.start("west")
    votes(network)

    (why,) = quarantined(network)
    assert why.startswith("database.lost: ")
    assert "votes again once it has caught up" in network.log("west")


def test_a_ledger_that_is_damaged_is_put_aside_and_had_anew_and_the_node_votes_again(
    own_network: RunningNetwork,
) -> None:
    network = own_network
    network.kill("west")
    newest = max((home(network) / "data" / "ledger").glob("*.log"), key=lambda path: path.stat().st_size)
    flip(newest, newest.stat().st_size // 2)
    damaged = newest.read_bytes()

    network.start("west")
    votes(network)

    assert [why.split(":")[0] for why in quarantined(network)] == ["database.lost", "database.corrupt"]
    aside = network.status("west")["quarantine"][-1]["name"]
    assert (home(network) / "data" / "quarantine" / aside / "ledger" / newest.name).read_bytes() == damaged


def test_damage_that_a_running_node_reads_is_healed_while_it_runs(own_network: RunningNetwork) -> None:
    network = own_network
    block = network.node("north").get("/v1/blocks/2", Json)
    tx_id = block["transactions"][0]["transaction"]
    network.kill("west")
    network.start("west")  # What it has committed stands in tables now.
    pid = network.place("west").pid
    for table in (home(network) / "data" / "ledger").glob("*.ldb"):
        for place in range(100, table.stat().st_size - 100, 100):
            flip(table, place)

    with pytest.raises(CliError) as refused:
        network.node("west").get_bytes(f"/v1/transactions/{tx_id}")
    until(lambda: len(quarantined_or_none(network)) == 3, 60)
    votes(network)

    assert refused.value.code == "database.corrupt"
    assert network.place("west").pid == pid
    assert network.node("west").get(f"/v1/transactions/{tx_id}", Json)["status"] == "ok"


def test_damage_that_a_verification_finds_is_healed_until_a_disk_damages_too_much(own_network: RunningNetwork) -> None:
    network = own_network
    network.kill("west")
    network.start("west")
    for table in (home(network) / "data" / "ledger").glob("*.ldb"):
        flip(table, table.stat().st_size // 2)

    report = network.ask("ledger", "verify", "--node", "west", exit_code=6)
    until(lambda: len(quarantined_or_none(network)) == 4, 60)
    votes(network)
    network.kill("west")
    shutil.rmtree(home(network) / "data" / "ledger")
    refused = network.run("start", "--home", str(home(network)))
    shutil.rmtree(home(network) / "data" / "quarantine")
    network.start("west")

    assert not report["ok"]
    assert refused.returncode == 1
    assert refused.stderr.startswith("caretrace: quarantine.full: ")


@pytest.fixture(scope="module")
def old_home(own_network: RunningNetwork) -> Path:
    """A copy of west's home from before votes that the others remember."""
    network, copy = own_network, own_network.folder / "w"
    network.kill("west")
    shutil.copytree(home(network), copy, ignore=shutil.ignore_patterns("run"))
    network.start("west")
    for _ in range(3):
        votes(network)
    return copy


def test_a_second_machine_with_the_same_key_only_follows_and_says_so_and_the_first_goes_on(
    own_network: RunningNetwork, old_home: Path
) -> None:
    network = own_network

    with alone(network, old_home, CARETRACE_LISTEN="/ip4/127.0.0.1/tcp/0", CARETRACE_HTTP_TCP="off") as log_file:
        until(lambda: " runs at height " in log_file.read_text(), 60)
        votes(network)
        # The others hold one connection under one key; now it may be the second machine's.
        network.kill("west")
        until(lambda: "missing from its vote log" in log_file.read_text(), 60)

    network.start("west")
    votes(network)
    assert "votes no more and only follows" in log_file.read_text()


def test_an_old_copy_of_the_data_is_found_out_and_the_node_only_follows(
    own_network: RunningNetwork, old_home: Path
) -> None:
    network = own_network
    network.kill("west")
    shutil.rmtree(home(network) / "data")
    shutil.copytree(old_home / "data", home(network) / "data")

    with alone(network, home(network)):
        until(lambda: "missing from its vote log" in why_not(network), 60)
        goes_on_without_west(network)
        until(lambda: is_level(network), 60)
        answer = network.ask("health", "--node", "west", exit_code=8)

    assert "votes no more and only follows" in " ".join(answer["why_not"])


def test_a_wiped_node_takes_the_state_in_parts_and_says_how_far_its_history_reaches_until_it_is_whole(
    own_network: RunningNetwork,
) -> None:
    network = own_network
    tx_id = network.node("north").get("/v1/blocks/2", Json)["transactions"][0]["transaction"]
    shutil.rmtree(home(network) / "data")

    with alone(network, home(network), CARETRACE_BLOCKS_BEHIND_MAX="5") as log_file:
        until(lambda: "history from block 1 on is here" in log_file.read_text(), 60)
        until(lambda: is_level(network), 60)
        status = network.status("west")
        shown = network.node("west").get(f"/v1/transactions/{tx_id}", Json)
        report = network.ask("ledger", "verify", "--node", "west")

        # Its organisation appoints it new keys: with them it votes again.
        cold = str(network.folder / "cold" / "west-organisation.key")
        network.ask("members", "rekey", "--node", "west", "--key", cold)
    network.start("west")
    votes(network)

    assert "takes the state of block" in log_file.read_text()
    assert "history_from" not in status
    assert shown == network.node("north").get(f"/v1/transactions/{tx_id}", Json)
    assert report["ok"]
