import json
from pathlib import Path

import pytest

from node.contracts.entries import load_member
from node.keys.keyfile import create_key_file
from tests.support.council import card, organisation
from tests.support.operated_nodes import Operated

NAMES = ("east", "north", "south", "west")


@pytest.fixture
def keys(network: Operated) -> Path:
    """The organisations' cold keys, outside all homes."""
    for name in NAMES:
        create_key_file(network.folder / f"{name}.key", "organisation", {"organisation": organisation(name).seed}, None)
    return network.folder


def card_file(folder: Path, name: str) -> str:
    applied = card(name)
    fields = {each: getattr(applied, each).hex() for each in applied.__struct_fields__ if each.endswith("_key")}
    content = {"schema": "caretrace.card/1", "name": name, **fields, "addresses": list(applied.addresses)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content | {"roles": ["validator"]}))
    return str(path)


def test_a_hospital_is_proposed_by_its_card_and_admitted_by_vote(network: Operated, keys: Path) -> None:
    proposed = network.ask("members", "propose", "admit", card_file(keys, "harbour"), "--key", f"{keys}/north.key")
    short = str(proposed["proposal"])[:12]
    second = network.ask("members", "vote", short, "--key", f"{keys}/south.key")
    third = network.ask("members", "vote", short, "--key", f"{keys}/east.key")

    assert proposed["decision"] == second["decision"] == "open"
    assert (third["decision"], third["status"], third["proposal"]) == ("accepted", "ok", proposed["proposal"])
    members = network.ask("members", "list")["members"]
    assert [member["name"] for member in members] == ["east", "harbour", "north", "south", "west"]
    shown = network.ask("members", "show", "harbour")
    assert (shown["roles"], shown["validates"]) == (["observer"], False)
    listed = network.ask("members", "proposals")["proposals"]
    assert [each["status"] for each in listed] == ["accepted"]
    assert network.ask("members", "proposals", "--open")["proposals"] == []


def test_what_is_proposed_and_how_the_votes_stand_is_told_in_words(network: Operated, keys: Path) -> None:
    proposed = network.ask("members", "propose", "admit", card_file(keys, "harbour"), "--key", f"{keys}/north.key")
    network.ask("members", "vote", proposed["proposal"], "--reject", "--key", f"{keys}/west.key")

    told = network.run("members", "proposals", "--open").stdout

    head, line = told.splitlines()
    assert head.split() == ["PROPOSAL", "CHANGE", "BY", "STATUS", "FOR", "AGAINST", "NEEDED", "UNTIL"]
    assert line.split()[1:8] == ["admit", "harbour", "north", "open", "1", "1", "3"]


def test_roles_and_removals_are_proposed_and_carry_what_they_rest_on(network: Operated, keys: Path) -> None:
    for name in ("harbour", "abbey"):
        decided(network, keys, "admit", card_file(keys, name))
    decided(network, keys, "role", "harbour", "validator")

    suspended = network.ask(
        *("members", "propose", "role", "west", "observer", "--evidence", "ab" * 32, "--key", f"{keys}/north.key")
    )
    removed = decided(network, keys, "remove", "abbey", voters=("south", "east", "west"))

    shown = network.ask("members", "proposals")["proposals"]
    assert shown[1]["proposal"] == suspended["proposal"]
    assert (shown[1]["evidence"], shown[1]["change"]) == (
        "ab" * 32,
        {"kind": "role", "name": "west", "role": "observer"},
    )
    assert removed == "accepted"
    told = network.run("members", "show", "abbey").stdout
    assert "removed: its keys sign nothing any more" in told
    member = load_member(network.chain.kept.state, "abbey")
    assert member is not None
    assert member.roles == ()


def decided(network: Operated, keys: Path, *change: str, voters: tuple[str, ...] = ("south", "east")) -> str:
    proposed = network.ask("members", "propose", *change, "--key", f"{keys}/north.key")
    votes = [network.ask("members", "vote", proposed["proposal"], "--key", f"{keys}/{name}.key") for name in voters]
    return str(votes[-1]["decision"])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("propose", "remove", "west", "--key", "north.key"), 4, "network.too_few_validators"),
        (("propose", "remove", "moon", "--key", "north.key"), 5, "member.unknown"),
        (("propose", "role", "west", "validator", "--key", "north.key"), 1, "member.role_same"),
        (("propose", "remove", "west", "--key", "none.key"), 5, "keyfile.not_found"),
        (("propose", "remove", "west", "--key", "stranger.key"), 1, "organisation_key.unknown"),
        (("propose", "remove", "west", "--key", "wallet/pia.key"), 1, "keyfile.damaged"),
        (("propose", "remove", "west", "--evidence", "12", "--key", "north.key"), 2, "usage"),
        (("vote", "p-aaaa", "--key", "north.key"), 5, "proposal.not_found"),
        (("vote", "c-aaaa", "--key", "north.key"), 2, "usage"),
        (("show", "moon"), 5, "member.unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_decided_is_refused_by_a_stable_code(
    network: Operated,
    keys: Path,
    arguments: tuple[str, ...],
    exit_code: int,
    code: str,
) -> None:
    create_key_file(keys / "stranger.key", "organisation", {"organisation": organisation("moon").seed}, None)
    whole = [f"{keys}/{part}" if part.endswith(".key") else part for part in arguments]

    assert network.refusal("members", *whole, exit_code=exit_code)["code"] == code


def test_an_observer_has_no_vote(network: Operated, keys: Path) -> None:
    decided(network, keys, "admit", card_file(keys, "harbour"))
    create_key_file(keys / "harbour.key", "organisation", {"organisation": organisation("harbour").seed}, None)
    proposed = network.ask("members", "propose", "admit", card_file(keys, "abbey"), "--key", f"{keys}/north.key")

    refused = network.refusal("members", "vote", proposed["proposal"], "--key", f"{keys}/harbour.key", exit_code=4)

    assert refused["code"] == "network.not_validator"
