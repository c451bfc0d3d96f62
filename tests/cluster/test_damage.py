"""A node whose disk has lost or changed something: it says what, serves nothing wrong, and the others go on.

West is stopped first, and its data are kept aside; each test has them anew, and ruins them. That is safe only because
west, ruined, signs nothing: that it votes again when it gets them back shows that it has not. It does not heal itself.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.client import Json
from cli.errors import CliError
from storage.schema.calls import Grant
from tests.support.raw_calls import caller, committed, id_of, order, outcome_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, installed_program, until

pytestmark = pytest.mark.cluster

GRANT = Grant(provision(), None)


@pytest.fixture(scope="module")
def kept(own_network: RunningNetwork) -> Path:
    """What west holds when it is stopped, before anything is ruined."""
    own_network.kill("west")
    kept = own_network.folder / "kept"
    shutil.copytree(own_network.place("west").home / "data", kept)
    return kept


@pytest.fixture
def data(own_network: RunningNetwork, kept: Path) -> Path:
    """The data folder of west, which is stopped, as it was before the first test."""
    folder = own_network.place("west").home / "data"
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    return folder


@contextmanager
def running(network: RunningNetwork, *, file_kib_max: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """Start west as it is, not to heal itself, wait until it answers, and end it."""
    limit = "" if file_kib_max is None else f"ulimit -f {file_kib_max}; "
    program, home = installed_program(), network.place("west").home
    process = subprocess.Popen(
        ["bash", "-c", f'{limit}exec "$0" start --no-heal --home "$1"', program, home],
        env=network.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or answers(network), 90)
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(network: RunningNetwork) -> bool:
    try:
        return bool(network.status("west"))
    except CliError:
        return False


def refused_start(network: RunningNetwork) -> str:
    """Try to start west, which must end with exit 1 and no traceback; returns what it says."""
    done = network.run("start", "--no-heal", "--home", str(network.place("west").home))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def goes_on_without_west(network: RunningNetwork) -> str:
    """Have a grant committed through north; returns its id."""
    envelope = caller(network, "pia", "north").call("consent.grant", GRANT)
    assert outcome_of(network, "north", envelope) == "ok"
    return id_of(envelope)


def follows(network: RunningNetwork) -> Any:
    """Check that west commits what the others do, takes transactions in, and say why it is not ready."""
    tx_id = goes_on_without_west(network)
    assert committed(network, "west", tx_id).outcome.code == "ok"
    assert outcome_of(network, "west", caller(network, "pia", "north").call("consent.grant", GRANT)) == "ok"
    until(network.is_level)
    status = network.status("west")
    assert not status["ready"]
    assert network.run("health", "--node", "west").returncode == 8
    assert network.ask("ledger", "verify", "--node", "west")["ok"]
    return status["why_not"]


def test_a_node_whose_vote_log_is_damaged_only_follows_and_says_so(own_network: RunningNetwork, data: Path) -> None:
    flip(next(data.glob("votes-*.log")), 20)

    with running(own_network):
        (reason,) = follows(own_network)

    assert "votes no more and only follows" in reason
    assert "the vote log was lost or damaged" in reason


def test_a_node_that_has_lost_all_its_data_fetches_the_chain_and_only_follows(
    own_network: RunningNetwork, data: Path
) -> None:
    shutil.rmtree(data)

    with running(own_network):
        (reason,) = follows(own_network)

    # Its vote log is whole, and new: that there was another it learns from those who hold its votes.
    assert "votes no more and only follows" in reason
    assert "missing from its vote log" in reason


def test_a_ledger_that_is_gone_is_not_begun_anew_for_who_wants_to_look_first(
    own_network: RunningNetwork, data: Path
) -> None:
    shutil.rmtree(data / "ledger")

    words = refused_start(own_network)

    assert words.startswith("caretrace: database.lost: ")
    assert "try: put it back; or without --no-heal" in words
    assert not (data / "quarantine").exists()


def test_a_flipped_byte_in_the_log_of_the_ledger_keeps_the_node_from_starting(
    own_network: RunningNetwork, data: Path
) -> None:
    newest = max((data / "ledger").glob("*.log"), key=lambda path: path.stat().st_size)
    flip(newest, newest.stat().st_size // 2)

    words = refused_start(own_network)

    assert words.startswith("caretrace: database.corrupt: database files: ")
    assert "try: without --no-heal" in words


def test_a_node_that_gets_back_what_it_had_votes_again(own_network: RunningNetwork, data: Path) -> None:
    network = own_network
    network.start("west")

    # Of the three others one is frozen: without the vote of west there is no quorum.
    network.signal("south", signal.SIGSTOP)
    try:
        envelope = caller(network, "pia", "north").call("consent.grant", GRANT)
        assert refusal_of(network, "west", envelope) == ""
        assert committed(network, "north", id_of(envelope), wait_s=40).outcome.code == "ok"
    finally:
        network.signal("south", signal.SIGCONT)

    until(network.is_level)
    assert "why_not" not in network.status("west")
    assert [network.ask("ledger", "verify", "--node", name)["ok"] for name in network.names] == [True] * 4


def test_a_disk_that_takes_no_more_promises_stops_the_node_and_nothing_is_lost(own_network: RunningNetwork) -> None:
    own_network.kill("west")

    # One of the two halves of the vote log lies beyond the size of a file that this process may write.
    with running(own_network, file_kib_max=1024) as process:
        while process.poll() is None:
            order(own_network, "north")
        _, words = process.communicate()
    own_network.start("west")

    assert process.returncode == 1
    assert "caretrace: disk.failed: " in words
    assert "Traceback" not in words
    assert "why_not" not in own_network.status("west")
    until(own_network.is_level)


def test_a_running_node_serves_nothing_from_flipped_bytes_and_names_the_area(own_network: RunningNetwork) -> None:
    # The last test: west has voted on what is ruined here, and must not get back what it held before.
    block = own_network.node("north").get("/v1/blocks/2", Json)
    tx_id = block["transactions"][0]["transaction"]
    own_network.kill("west")
    with running(own_network) as process:
        until(lambda: own_network.status("west")["ready"])
        for table in (own_network.place("west").home / "data" / "ledger").glob("*.ldb"):
            for place in range(100, table.stat().st_size - 100, 100):
                flip(table, place)

        refusals = [refusal_to_show(own_network, f"/v1/transactions/{tx_id}{more}") for more in ("", "/receipt")]
        report = own_network.ask("ledger", "verify", "--node", "west", exit_code=6)
        # What it would have to read to execute a block is damaged too: it stops rather than guess.
        goes_on_without_west(own_network)
        process.wait(30)
        _, words = process.communicate()

    assert refusals == ["database.corrupt", "database.corrupt"]
    assert not report["ok"]
    assert report["first_bad"]["area"]
    assert process.returncode == 1
    assert "caretrace: database.corrupt: state: " in words
    assert "Traceback" not in words
    assert refused_start(own_network).startswith("caretrace: database.corrupt: ")


def refusal_to_show(network: RunningNetwork, path: str) -> str:
    with pytest.raises(CliError) as refused:
        network.node("west").get_bytes(path)
    return refused.value.code


def flip(path: Path, place: int) -> None:
    """Change one bit of a file in its place, whoever has it open."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
