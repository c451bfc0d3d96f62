"""Members change on running nodes: one replaces its node's keys; a hospital comes by an invite and is voted in."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client import Json, Node
from cli.errors import CliError
from tests.support.running_network import RunningNetwork, base_port, until

pytestmark = pytest.mark.cluster
WITHIN_S = 90.0


def cold_key(network: RunningNetwork, name: str) -> str:
    return str(network.folder / "cold" / f"{name}-organisation.key")


def decide(network: RunningNetwork, *change: str, voters: tuple[str, ...] = ("south", "east")) -> str:
    proposed = network.ask("members", "propose", *change, "--key", cold_key(network, "north"), "--node", "north")
    votes = [
        network.ask("members", "vote", proposed["proposal"], "--key", cold_key(network, name), "--node", name)
        for name in voters
    ]
    return str(votes[-1]["decision"])


def test_a_node_with_new_keys_votes_again_and_serves_what_the_old_ones_sealed(
    own_network: RunningNetwork, tmp_path: Path
) -> None:
    network, out = own_network, tmp_path / "read.json"
    record = network.add_record()
    network.ask("consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT", "--node", "north")
    read = ("record", "get", record, "--as", "ben", "--purpose", "TREAT", "--node", "south", "--out", str(out))

    answer = network.ask("members", "rekey", "--node", "north", "--key", cold_key(network, "north"))
    network.ask("stop", "--home", str(network.place("north").home))
    network.start("north")

    assert (answer["restart"], answer["epoch"]) == (True, 1)
    assert network.status("north")["service_key"] == answer["service_key"]
    assert network.status("north")["membership"] == "validator"
    assert network.ask(*read)["served"]
    assert out.read_bytes() == (network.folder / "result.json").read_bytes()
    network.add_record()
    until(network.is_level, WITHIN_S)
    assert {network.status(name)["epoch"] for name in network.names} == {1}
    verifies_offline_with_the_chain_of_epochs_only(network, tmp_path)


def verifies_offline_with_the_chain_of_epochs_only(network: RunningNetwork, folder: Path) -> None:
    receipt, epochs, genesis = folder / "x.receipt", folder / "epochs.bin", network.folder / "genesis.json"
    newest = network.node("north").get("/v1/blocks/head", Json)["transactions"][0]["transaction"]
    network.ask("receipt", "get", newest, "--out", str(receipt), "--node", "north")
    exported = network.ask("ledger", "export", "--epochs", "--out", str(epochs), "--node", "west")
    verify = ("receipt", "verify", str(receipt), "--genesis", str(genesis))

    assert (exported["epoch"], exported["validators"]) == (1, sorted(network.names))
    assert "validators of epoch 1 are not known" in network.refusal(*verify, exit_code=6)["message"]
    assert network.ask(*verify, "--epochs", str(epochs))["epoch"] == 1


@pytest.fixture
def harbour(own_network: RunningNetwork, tmp_path: Path) -> Iterator[Node]:
    """A fifth hospital's node, which joins by north's invite before anybody has voted on it."""
    network, home, invite = own_network, tmp_path / "h", tmp_path / "harbour.invite"
    network.ask(
        *("init", "--name", "harbour", "--home", str(home), "--port", str(base_port()), "--no-passphrase"),
        *("--organisation-key", str(tmp_path / "harbour-organisation.key")),
    )
    network.ask("members", "invite", "harbour", "--node", "north", "--out", str(invite))
    process = network.begin("join", str(invite), "--home", str(home))
    try:
        yield Node("harbour", home / "run" / "node.sock", 20.0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def membership(node: Node) -> str:
    try:
        return str(node.get("/v1/status", Json)["membership"])
    except CliError:
        return "it does not answer yet"


def test_a_hospital_joins_by_an_invite_waits_for_its_vote_follows_and_validates(
    own_network: RunningNetwork, harbour: Node, tmp_path: Path
) -> None:
    network = own_network
    until(lambda: membership(harbour).startswith("not admitted yet: 4 of 4 members"), WITHIN_S)

    admitted = decide(network, "admit", str(tmp_path / "h" / "card.json"))
    until(lambda: membership(harbour) == "admitted as observer", WITHIN_S)
    voted = decide(network, "role", "harbour", "validator")
    until(lambda: membership(harbour) == "validator", WITHIN_S)
    network.kill("west")
    network.add_record()

    assert (admitted, voted) == ("accepted", "accepted")
    status = harbour.get("/v1/status", Json)
    assert (status["epoch"], status["quorum"]) == (2, {"have": 4, "need": 4})
    network.start("west")
    until(lambda: network.is_level() and harbour.get("/v1/status", Json)["state_root"] == state_root(network), WITHIN_S)
    removed = decide(network, "remove", "harbour", voters=("south", "east", "west"))
    assert removed == "accepted"
    network.add_record()


def state_root(network: RunningNetwork) -> str:
    return str(network.status("north")["state_root"])
