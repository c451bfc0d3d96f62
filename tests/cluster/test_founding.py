"""Four hospitals found a network for real, by cards and signatures; and what keeps a node of one from starting."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.cluster import Cluster, Place
from cli.errors import CliError
from storage.schema.calls import Grant
from tests.support.raw_calls import caller, committed, id_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, base_port, remove, until

pytestmark = pytest.mark.cluster

NAMES = ("east", "north", "south", "west")
PASSPHRASE = "nine owls over a quiet harbour"
POOL_MAX = 4


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    """Homes whose network is founded; no node runs. North's keys are sealed, west's mempool is small."""
    folder = tmp_path_factory.mktemp("f")
    network, port = RunningNetwork(folder), base_port()
    places = [
        Place(name, folder / name, f"127.0.0.1:{port + 2 * n}", f"/ip4/127.0.0.1/tcp/{port + 2 * n + 1}")
        for n, name in enumerate(NAMES)
    ]
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    for n, place in enumerate(places):
        where = ("--home", str(place.home), "--port", str(port + 2 * n + 1), "--http", place.http)
        protection = sealed(network) if place.name == "north" else ("--no-passphrase",)
        network.ask("init", "--name", place.name, *where, *organisation_key(network, place.name), *protection)
    with (folder / "west" / "config.toml").open("a") as config:
        config.write(f"mempool_transactions_max = {POOL_MAX}\n")
    draft = str(folder / "genesis.draft.json")
    network.ask("found", *(str(place.home / "card.json") for place in places), "--network", "four", "--out", draft)
    for name in NAMES:
        opening = sealed(network) if name == "north" else ()
        network.ask("found", "sign", draft, *organisation_key(network, name), *opening)
    Cluster(folder, "four", tuple(places)).save()
    try:
        yield network
    finally:
        remove(network)


def organisation_key(network: RunningNetwork, name: str) -> tuple[str, str]:
    return ("--organisation-key", str(network.folder / "cold" / f"{name}.key"))


def sealed(network: RunningNetwork) -> tuple[str, str]:
    return ("--passphrase-file", str(network.folder / "passphrase"))


def start_arguments(network: RunningNetwork, name: str) -> tuple[str, ...]:
    genesis = str(network.folder / "genesis.json")
    more = sealed(network) if name == "north" else ()
    return ("start", "--home", str(network.folder / name), "--genesis", genesis, *more)


@contextmanager
def changed(path: Path, content: str | None) -> Iterator[None]:
    """Change a file, or take it away, for a while."""
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    try:
        yield
    finally:
        path.write_bytes(before)


def refused_start(network: RunningNetwork, *arguments: str, exit_code: int = 1) -> str:
    """Run a start that must fail; returns the code that its one clear complaint begins with."""
    done = network.run(*arguments)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    first, *hints = done.stderr.splitlines()
    assert all(hint.startswith("  ") for hint in hints), done.stderr
    program, code, words = first.split(": ", 2)
    assert program == "caretrace"
    assert words
    return code


@pytest.mark.parametrize(("kind", "code"), [("p2p", "network.address_in_use"), ("http", "http.cannot_listen")])
def test_a_taken_port_is_one_clear_line(founded: RunningNetwork, kind: str, code: str) -> None:
    place = founded.place("west")
    port = int(place.p2p.rpartition("/")[2] if kind == "p2p" else place.http.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        done = founded.run(*start_arguments(founded, "west"))

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"caretrace: {code}: cannot listen on ")
    assert str(port) in line
    # What it had taken before is free again, so that the next start only needs the port.
    assert place.pid is None


def test_a_home_without_its_settings_or_with_damaged_ones_says_which_file_and_what_is_wrong(
    founded: RunningNetwork,
) -> None:
    config, start = founded.folder / "west" / "config.toml", start_arguments(founded, "west")
    text = config.read_text()

    with changed(config, None):
        missing = refused_start(founded, *start, exit_code=5)
    with changed(config, text.replace("name =", "name")):
        damaged = refused_start(founded, *start)
    with changed(config, text + 'log_levle = "info"\n'):
        misspelt = refused_start(founded, *start)
    with changed(config, text.replace('"west"', '"East"')):
        wrong = refused_start(founded, *start)

    assert (missing, damaged, misspelt, wrong) == (
        "config.not_found",
        "config.damaged",
        "config.invalid",
        "config.invalid",
    )
    assert config.read_text() == text


def test_a_wrong_passphrase_opens_nothing_and_none_is_asked_for_where_nobody_could_answer(
    founded: RunningNetwork,
) -> None:
    wrong = founded.folder / "wrong"
    wrong.write_text("nine owls over a loud harbour\n")
    start = start_arguments(founded, "north")

    by_file = refused_start(founded, *start[:-1], str(wrong))
    without = refused_start(founded, *start[:-2], exit_code=2)

    assert (by_file, without) == ("passphrase.wrong", "passphrase.needed")


def test_a_genesis_that_is_missing_damaged_or_anothers_is_refused(founded: RunningNetwork) -> None:
    genesis, home = founded.folder / "genesis.json", founded.folder / "south"
    damaged = founded.folder / "damaged.json"
    damaged.write_bytes(genesis.read_bytes().replace(b'"four"', b'"five"'))
    start = ("start", "--home", str(home))

    missing = refused_start(founded, *start, exit_code=5)
    changed_one = refused_start(founded, *start, "--genesis", str(damaged), exit_code=6)
    with changed(home / "config.toml", (home / "config.toml").read_text().replace('"south"', '"nobody"')):
        stranger = refused_start(founded, *start, "--genesis", str(genesis), exit_code=5)
    with changed(home / "config.toml", (home / "config.toml").read_text().replace('"south"', '"east"')):
        impostor = refused_start(founded, *start, "--genesis", str(genesis))

    assert (missing, changed_one) == ("genesis.not_found", "genesis.invalid")
    assert (stranger, impostor) == ("member.unknown", "member.keys_differ")


def test_a_home_or_an_organisation_key_that_exists_is_never_made_again(founded: RunningNetwork) -> None:
    keys = (founded.folder / "west" / "keys" / "node.key").read_bytes()
    new = ("init", "--name", "west", "--no-passphrase", "--home")

    home = refused_start(founded, *new, str(founded.folder / "west"), "--organisation-key", str(founded.folder / "new"))
    cold = refused_start(founded, *new, str(founded.folder / "new"), *organisation_key(founded, "west"))

    assert (home, cold) == ("home.exists", "keyfile.exists")
    assert (founded.folder / "west" / "keys" / "node.key").read_bytes() == keys
    assert not (founded.folder / "new").exists()


@pytest.fixture(scope="module")
def running(founded: RunningNetwork) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """The four nodes as their operators start them, until they stop them."""
    processes = {name: founded.begin(*start_arguments(founded, name)) for name in NAMES}
    try:
        until(lambda: all(map(founded.is_ready, NAMES)), within_s=60)
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_a_network_that_was_founded_by_signatures_orders_what_its_people_sign(
    founded: RunningNetwork, running: dict[str, "subprocess.Popen[str]"]
) -> None:
    founded.enrol()
    record = founded.add_record()

    assert all(process.poll() is None for process in running.values())
    assert founded.genesis.body.name == "four"
    assert founded.ask("record", "show", record, "--node", "west")["custodian"] == "north"


def test_a_full_mempool_turns_away_what_another_node_takes_and_nothing_is_lost(
    founded: RunningNetwork, running: dict[str, "subprocess.Popen[str]"]
) -> None:
    calls = [caller(founded, "pia", "north").call("consent.grant", Grant(provision(), None)) for _ in range(3)]
    with frozen(running["east"], running["south"]):
        # Without a quorum all of them wait; of those that one member pays for, half of the pool.
        taken = [refusal_of(founded, "west", call) for call in calls[:2]]
        until(lambda: founded.status("west")["mempool"] == POOL_MAX // 2)
        full = refusal_of(founded, "west", calls[2])
        with pytest.raises(CliError) as refused:
            founded.node("west").post_msgpack("/v1/transactions", [calls[2]], dict)
        elsewhere = refusal_of(founded, "north", calls[2])
        waiting = founded.status("west")["mempool"]

    assert taken == ["", ""]
    assert (full, elsewhere, waiting) == ("mempool.full", "", POOL_MAX // 2)
    assert refused.value.hint
    assert [committed(founded, "west", id_of(call), wait_s=40).outcome.code for call in calls] == ["ok"] * 3
    until(founded.is_level)


@contextmanager
def frozen(*processes: "subprocess.Popen[str]") -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_the_command_stop_ends_a_node_cleanly_and_says_when_none_runs(
    founded: RunningNetwork, running: dict[str, "subprocess.Popen[str]"]
) -> None:
    home = ("--home", str(founded.folder / "south"))

    answer = founded.ask("stop", *home)
    again = founded.refusal("stop", *home, exit_code=3)

    assert answer["pid"] == running["south"].pid
    assert running["south"].wait(10) == 0
    assert not founded.place("south").socket.exists()
    assert again["code"] == "node.not_running"
    assert founded.refusal("status", *home, exit_code=3)["code"] == "node.not_reachable"


@pytest.mark.parametrize(("name", "number"), [("west", signal.SIGTERM), ("east", signal.SIGINT)])
def test_a_node_ends_soon_and_cleanly_on_either_signal(
    founded: RunningNetwork, running: dict[str, "subprocess.Popen[str]"], name: str, number: signal.Signals
) -> None:
    height, begun = founded.status(name)["height"], time.monotonic()

    running[name].send_signal(number)
    _, words = running[name].communicate(timeout=30)

    assert running[name].returncode == 0
    assert time.monotonic() - begun < 5
    assert words.splitlines()[-1].endswith(f"{name} has stopped at height {height}")
    assert "Traceback" not in words
    assert not founded.place(name).socket.exists()
