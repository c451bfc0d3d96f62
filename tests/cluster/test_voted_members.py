"""Members change on running nodes: a hospital is voted in, and one replaces the keys that its node works with."""

import json
from pathlib import Path

import pytest

from tests.support.running_network import RunningNetwork, until

pytestmark = pytest.mark.cluster


def cold_key(network: RunningNetwork, name: str) -> str:
    return str(network.folder / "cold" / f"{name}-organisation.key")


def test_a_hospital_is_voted_in_by_its_card(own_network: RunningNetwork, tmp_path: Path) -> None:
    network, home = own_network, tmp_path / "harbour"
    made = network.ask(
        *("init", "--name", "harbour", "--home", str(home), "--no-passphrase"),
        *("--organisation-key", str(tmp_path / "harbour-organisation.key")),
    )

    proposed = network.ask("members", "propose", "admit", str(made["card"]), "--key", cold_key(network, "north"))
    votes = [
        network.ask("members", "vote", proposed["proposal"], "--key", cold_key(network, name), "--node", name)
        for name in ("south", "east")
    ]

    assert [vote["decision"] for vote in votes] == ["open", "accepted"]
    until(network.is_level)
    for name in network.names:
        shown = network.ask("members", "show", "harbour", "--node", name)
        assert shown["roles"] == ["observer"]
        assert shown["node_key"] == json.loads((home / "card.json").read_text())["node_key"]


def test_a_node_with_new_service_and_encryption_keys_serves_what_the_old_ones_sealed(
    own_network: RunningNetwork, tmp_path: Path
) -> None:
    network = own_network
    record = network.add_record()
    network.ask("consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT", "--node", "north")
    out = tmp_path / "read.json"
    read = ("record", "get", record, "--as", "ben", "--purpose", "TREAT", "--node", "south", "--out", str(out))

    answer = network.ask(
        *("members", "rekey", "--only", "service", "--only", "encryption", "--node", "north"),
        *("--key", cold_key(network, "north")),
    )
    network.ask("stop", "--home", str(network.place("north").home))
    network.start("north")

    assert (answer["restart"], "epoch" in answer) == (True, False)
    assert network.status("north")["service_key"] == answer["service_key"]
    assert network.ask(*read)["served"]
    assert out.read_bytes() == (network.folder / "result.json").read_bytes()
    again = network.add_record()
    assert again in [each["record"] for each in network.ask("record", "list", "--patient", "pia")["records"]]
