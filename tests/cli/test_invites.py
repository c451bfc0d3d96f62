from pathlib import Path
from typing import Any

import pytest

from node.config import Home
from node.keys.keyfile import create_key_file
from storage.schema.invite import load_invite
from tests.support.live_node import sealing_secret
from tests.support.operated_nodes import Operated
from tests.support.program import answer_of, caretrace
from tests.support.small_ledger import of_member


@pytest.fixture
def invited(network: Operated) -> Path:
    """An invite for harbour, by north."""
    secrets = {kind: of_member("north", kind).seed for kind in ("node", "service")}
    secrets["encryption"] = sealing_secret(of_member("north", "encryption"))
    place = Home(network.folder / "north")
    place.key_file.parent.mkdir()
    create_key_file(place.key_file, "node", secrets, None)
    network.ask("members", "invite", "harbour", "--node", "north", "--out", f"{network.folder}/harbour.invite")
    return network.folder / "harbour.invite"


def join(folder: Path, invite: Path, exit_code: int = 0) -> dict[str, Any]:
    done = caretrace("join", str(invite), "--home", "harbour", "--no-start", "--json", folder=folder)
    return answer_of(done, exit_code)


def init(folder: Path, name: str = "harbour") -> Home:
    answer_of(caretrace("init", "--name", name, "--home", "harbour", "--no-passphrase", "--json", folder=folder))
    return Home(folder / "harbour")


def test_an_invite_says_where_the_members_are_under_a_block_that_they_certified(
    network: Operated, invited: Path
) -> None:
    found = load_invite(invited.read_bytes())

    assert [contact.name for contact in found.invite.members] == ["east", "north", "south", "west"]
    assert found.invite.header.digest() == network.chain.kept.head.digest
    assert found.genesis.chain_id == network.chain.genesis.chain_id
    assert found.invite.service_key == of_member("north", "service").key


def test_joining_puts_the_network_into_the_home_and_says_what_to_compare(
    network: Operated, invited: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    home = init(folder)

    answer = join(folder, invited)
    again = join(folder, invited)

    assert home.genesis_file.read_bytes() == network.genesis_file.read_bytes()
    assert home.invite_file.read_bytes() == invited.read_bytes()
    assert (answer["chain_id"], answer["inviter"]) == (network.chain.genesis.chain_id.hex(), "north")
    assert answer["service_key"] == of_member("north", "service").key.hex()
    assert again == answer


@pytest.mark.parametrize(
    ("spoil", "code", "exit_code"),
    [
        ("the invite", "invite.invalid", 6),
        ("another name", "usage", 2),
        ("another network", "genesis.exists", 1),
        ("no home", "config.not_found", 5),
    ],
)
def test_what_does_not_fit_is_not_joined_and_leaves_the_home_as_it_was(
    network: Operated, invited: Path, tmp_path: Path, spoil: str, code: str, exit_code: int
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    home = Home(folder / "harbour") if spoil == "no home" else init(folder, "lake" if "name" in spoil else "harbour")
    if spoil == "the invite":
        data = bytearray(invited.read_bytes())
        data[-1] ^= 1
        invited.write_bytes(data)
    if spoil == "another network":
        home.genesis_file.write_bytes(b"{}")

    refused = join(folder, invited, exit_code)

    assert refused["error"]["code"] == code
    assert not home.invite_file.exists()


def test_a_founder_needs_no_invite(network: Operated, invited: Path) -> None:
    network.ask("members", "invite", "north", "--node", "north", "--out", f"{network.folder}/north.invite")

    refused = network.refusal(
        "join", f"{network.folder}/north.invite", "--home", f"{network.folder}/north", "--no-start", exit_code=2
    )

    assert "founded this network" in refused["message"]
