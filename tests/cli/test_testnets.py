"""``caretrace testnet`` up to the start of its processes; what these do is tried in tests/cluster."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.cluster import Cluster, load_cluster
from cli.main import caretrace
from cli.testnet import _found, _refuse_changes
from cli.weather import start_relay, stop_relay
from node.config import Home, load_config
from node.keys.keyfile import load_key_file
from storage.schema.genesis import load_file
from tests.support.running_network import base_port


def run(*arguments: str) -> Result:
    return CliRunner().invoke(caretrace, ["testnet", *arguments], catch_exceptions=False)


def refused(*arguments: str, exit_code: int = 1) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    error: dict[str, Any] = json.loads(result.stdout)["error"]
    return error


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Five hospitals founded in a folder; none of them runs."""
    return _found(tmp_path_factory.mktemp("t") / "net", 5, base_port())


def test_every_hospital_has_a_home_of_its_own_and_its_organisation_key_lies_outside(founded: Cluster) -> None:
    genesis = load_file((founded.folder / "genesis.json").read_bytes())

    assert [place.name for place in founded.places] == ["north", "south", "east", "west", "node-5"]
    for place in founded.places:
        member = genesis.member(place.name)
        assert member is not None
        home = Home(place.home)
        assert home.genesis_file.read_bytes() == (founded.folder / "genesis.json").read_bytes()
        assert load_key_file(home.key_file).public["node"] == member.node_key
        assert load_config(home, {}).listen == member.addresses == (place.p2p,)
        cold = load_key_file(founded.folder / "cold" / f"{place.name}-organisation.key")
        assert cold.public["organisation"] == member.organisation_key
    assert len({member.organisation_key for member in genesis.body.members}) == 5


def test_no_two_nodes_share_a_port(founded: Cluster) -> None:
    ports = [place.http.rpartition(":")[2] for place in founded.places]
    ports += [place.p2p.rpartition("/")[2] for place in founded.places]

    assert len(set(ports)) == 10


def test_the_network_is_found_again_as_it_was_founded(founded: Cluster) -> None:
    assert load_cluster(founded.folder) == founded


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")

    error = refused("up", "--dir", str(tmp_path))

    assert error["code"] == "testnet.exists"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_taken_base_port_is_named_before_anything_is_made(tmp_path: Path) -> None:
    port = base_port()
    with socket.create_server(("127.0.0.1", port + 3)):
        error = refused("up", "--dir", str(tmp_path / "net"), "--base-port", str(port))

    assert error["code"] == "port.taken"
    assert str(port + 3) in error["message"]
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("verb", ["down", "status", "clean"])
def test_what_is_asked_of_a_network_that_is_not_there_is_refused(tmp_path: Path, verb: str) -> None:
    assert refused(verb, "--dir", str(tmp_path), exit_code=5)["code"] == "testnet.not_found"


@pytest.mark.parametrize("verb", ["kill", "pause", "resume"])
def test_a_node_that_does_not_run_or_does_not_exist_is_named(founded: Cluster, verb: str) -> None:
    folder = str(founded.folder)

    assert refused(verb, "west", "--dir", folder)["message"] == "west does not run"
    assert "no node rome" in refused(verb, "rome", "--dir", folder, exit_code=5)["message"]


def test_the_status_of_stopped_nodes_says_so_and_so_do_their_logs(founded: Cluster) -> None:
    folder = str(founded.folder)

    nodes = json.loads(run("status", "--dir", folder, "--json").stdout)["nodes"]
    logs = json.loads(run("logs", "west", "--dir", folder, "--json").stdout)

    assert {(node["running"], node["ready"], node["height"], node["pid"]) for node in nodes} == {
        (False, False, None, None)
    }
    assert logs["lines"] == ["(it printed nothing)"]


@pytest.mark.parametrize("option", [("--nodes", "3"), ("--nodes", "17"), ("--engine", "raft"), ("--base-port", "80")])
def test_what_no_network_can_be_is_a_usage_error(tmp_path: Path, option: tuple[str, str]) -> None:
    assert refused("up", "--dir", str(tmp_path / "net"), *option, exit_code=2)["code"] == "usage"
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("option", [("--nodes", "7"), ("--nodes", "4"), ("--base-port", "5000")])
def test_a_network_that_is_there_is_not_taken_for_another_that_was_asked_for(
    founded: Cluster, option: tuple[str, str]
) -> None:
    error = refused("up", "--dir", str(founded.folder), *option)

    assert error["code"] == "testnet.exists"
    assert "5 nodes" in error["message"]
    assert [place.pid for place in founded.places] == [None] * 5


def test_a_network_is_taken_up_by_the_options_that_made_it(founded: Cluster) -> None:
    first_port = int(founded.places[0].p2p.rpartition("/")[2])

    _refuse_changes(founded, 5, first_port)
    _refuse_changes(founded, None, None)


def test_a_damaged_file_of_a_network_is_not_answered_with_a_command_that_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "testnet.json").write_text("{")

    error = refused("clean", "--dir", str(tmp_path))
    by_name = CliRunner().invoke(caretrace, ["status", "--node", "north", "--dir", str(tmp_path), "--json"])

    assert error["code"] == json.loads(by_name.stdout)["error"]["code"] == "testnet.damaged"
    assert "clean" not in error["hint"]
    assert json.loads(by_name.stdout)["error"]["hint"] == error["hint"]


def test_a_network_with_a_relay_has_a_way_of_its_own_from_each_node_to_each_other(tmp_path: Path) -> None:
    cluster = _found(tmp_path / "net", 4, base_port(), is_relayed=True)

    ways = [address for place in cluster.places for _, address in place.reach]
    assert cluster.is_relayed
    assert load_cluster(cluster.folder) == cluster
    assert len({*ways, *(place.p2p for place in cluster.places)}) == 12 + 4
    for place in cluster.places:
        config = load_config(Home(place.home), {})
        assert config.reach == {name: (address,) for name, address in place.reach}
        assert config.addresses == (place.p2p,)


def test_cables_cannot_be_hurt_where_there_is_no_relay(founded: Cluster) -> None:
    folder = str(founded.folder)
    commands = [("partition", "west"), ("slow", "west", "--delay", "5ms"), ("heal",), ("up", "--relay")]

    errors = [refused(*command, "--dir", folder) for command in commands]

    assert {error["code"] for error in errors} == {"testnet.failed"}
    assert all("relay" in error["message"] for error in errors)
    assert json.loads(run("status", "--dir", folder, "--json").stdout)["relay"] is None


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[str]:
    """The folder of a network whose relay runs, and no node."""
    cluster = _found(tmp_path / "net", 4, base_port(), is_relayed=True)
    process = start_relay(cluster)
    assert process is not None
    yield str(cluster.folder)
    stop_relay(cluster)
    assert process.wait(20) == 0


def told(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def cuts(answer: dict[str, Any]) -> list[str]:
    return [f"{cut['from']} {cut['to']}" for cut in answer["cuts"]]


def test_cables_are_cut_between_two_sides_one_way_or_both_until_they_are_mended(relayed: str) -> None:
    one_way = told("partition", "north", "south,east", "--one-way", "--dir", relayed)
    both = told("partition", "west", "--dir", relayed)
    status = told("status", "--dir", relayed)
    healed = told("heal", "--dir", relayed)

    one = ["north east", "north south"]
    assert cuts(one_way) == one
    others = ("east", "north", "south")
    assert cuts(both) == sorted([*one, *(f"west {name}" for name in others), *(f"{name} west" for name in others)])
    assert status["relay"] == {"running": True, **{name: both[name] for name in ("relay_pid", "cuts", "slow")}}
    assert (healed["cuts"], healed["slow"]) == ([], [])


def test_slow_cables_are_listed_in_words_and_for_programs(relayed: str) -> None:
    answer = told("slow", "south", "--delay", "1s", "--jitter", "20ms", "--loss", "5", "--dir", relayed)

    assert answer["slow"] == [{"name": "south", "delay_ms": 1000, "jitter_ms": 20, "loss_percent": 5}]
    assert "south is slow: 1000 ms, give or take 20, and 5 % lost" in run("status", "--dir", relayed).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("partition", "north", "north,east"), "no node is on both"),
        (("partition", "north,south,east,west"), "two sides"),
        (("slow", "north"), "nothing is to be slow"),
        (("slow", "north", "--delay", "50"), "no time up to a minute"),
        (("slow", "north", "--delay", "61s"), "no time up to a minute"),
        (("slow", "north", "--loss", "101"), "101"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_of_cables_is_refused(relayed: str, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(*arguments, "--dir", relayed, exit_code=2)["message"]
    assert told("status", "--dir", relayed)["relay"]["cuts"] == []


def test_an_unknown_node_is_named_and_no_cable_cut(relayed: str) -> None:
    errors = [
        refused("partition", "north", "rome", "--dir", relayed, exit_code=5),
        refused("slow", "rome", "--loss", "1", "--dir", relayed, exit_code=5),
    ]

    assert all("no node rome; there are north" in error["message"] for error in errors)
    assert told("status", "--dir", relayed)["relay"]["cuts"] == []


def test_a_relay_that_has_ended_is_said_to_be_down(tmp_path: Path) -> None:
    cluster = _found(tmp_path / "net", 4, base_port(), is_relayed=True)
    folder = str(cluster.folder)

    assert "the relay does not run" in refused("heal", "--dir", folder)["message"]
    assert told("status", "--dir", folder)["relay"] == {"running": False}
    assert "the relay does not run" in run("status", "--dir", folder).stdout
