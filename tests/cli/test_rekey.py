from pathlib import Path
from typing import Any

import pytest

import cli.rekey
from cli.errors import CliError
from node.config import Home
from node.contracts.entries import MemberEntry, load_member
from node.keys.keyfile import create_key_file, load_key_file
from storage.schema.events import KeysReplaced
from tests.support.council import organisation
from tests.support.live_node import sealing_secret
from tests.support.operated_nodes import Operated
from tests.support.small_ledger import of_member

KINDS = ("node", "service", "encryption")


@pytest.fixture
def home(network: Operated) -> Home:
    """North's home with the keys of its founding, and its organisation's key beside it."""
    place = Home(network.folder / "north")
    secrets = {kind: of_member("north", kind).seed for kind in ("node", "service")}
    secrets["encryption"] = sealing_secret(of_member("north", "encryption"))
    place.key_file.parent.mkdir()
    create_key_file(place.key_file, "node", secrets, None)
    for name in ("north", "south"):
        cold = {"organisation": organisation(name).seed}
        create_key_file(network.folder / f"{name}.key", "organisation", cold, None)
    return place


def rekey(network: Operated, *more: str, key: str = "north", exit_code: int = 0) -> dict[str, Any]:
    arguments = ("members", "rekey", "--node", "north", "--key", f"{network.folder}/{key}.key", *more)
    return network.ask(*arguments, exit_code=exit_code)


def stated(network: Operated) -> MemberEntry:
    member = load_member(network.chain.kept.state, "north")
    assert member is not None
    return member


def replacements(network: Operated) -> int:
    blocks = range(1, network.chain.kept.head.header.height + 1)
    outcomes = [network.chain.kept.outcome(height, 0) for height in blocks]
    return sum(isinstance(outcome.events[0], KeysReplaced) for outcome in outcomes)


def test_all_keys_are_replaced_and_the_old_encryption_key_stays_readable(network: Operated, home: Home) -> None:
    old = load_key_file(home.key_file).open_secrets(None)

    answer = rekey(network)

    fresh = load_key_file(home.key_file)
    member = stated(network)
    assert (member.node_key, member.service_key, member.encryption_key) == tuple(fresh.public[kind] for kind in KINDS)
    assert not set(fresh.open_secrets(None).values()) & set(old.values())
    (retired,) = home.retired_key_files
    assert load_key_file(retired).open_secrets(None) == {"encryption": old["encryption"]}
    assert not home.next_key_file.exists()
    assert (answer["name"], answer["epoch"], answer["node_key"]) == ("north", 1, fresh.public["node"].hex())


def test_one_key_is_replaced_and_the_others_stay(network: Operated, home: Home) -> None:
    old = load_key_file(home.key_file).public

    answer = rekey(network, "--only", "service")

    fresh = load_key_file(home.key_file).public
    assert [kind for kind in KINDS if fresh[kind] != old[kind]] == ["service"]
    assert stated(network).service_key == fresh["service"]
    assert home.retired_key_files == []
    assert "epoch" not in answer


@pytest.mark.parametrize("step", ["write_for_organisation", "appoint"])
def test_a_command_that_is_interrupted_changes_nothing_and_the_next_one_finishes_it(
    network: Operated, home: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = load_key_file(home.key_file).public

    def interrupted(*_: object) -> None:
        raise CliError("interrupted", "as by a cut of power")

    with monkeypatch.context() as patched:
        patched.setattr(cli.rekey, step, interrupted)
        rekey(network, exit_code=1)
    between, waiting = load_key_file(home.key_file).public, load_key_file(home.next_key_file).public
    rekey(network)

    assert between == old
    assert load_key_file(home.key_file).public == waiting
    assert stated(network).node_key == waiting["node"]
    assert replacements(network) == 1
    assert not home.next_key_file.exists()


def test_a_transaction_that_landed_unheard_is_found(
    network: Operated, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cli.rekey.write_for_organisation

    def unheard(*arguments: Any) -> None:
        real(*arguments)
        raise CliError("tx.not_committed", "as where the answer was lost")

    monkeypatch.setattr(cli.rekey, "write_for_organisation", unheard)

    rekey(network)

    assert stated(network).node_key == load_key_file(home.key_file).public["node"]


def test_what_the_ledger_refuses_leaves_the_keys_at_work_and_the_new_ones_waiting(
    network: Operated, home: Home
) -> None:
    rekey(network)
    at_work = load_key_file(home.key_file).public

    refused = rekey(network, "--only", "service", exit_code=4)

    assert refused["error"]["code"] == "member.keys_too_soon"
    assert load_key_file(home.key_file).public == at_work
    assert home.next_key_file.exists()


def test_another_organisation_appoints_nothing(network: Operated, home: Home) -> None:
    refused = rekey(network, key="south", exit_code=1)

    assert refused["error"]["code"] == "organisation_key.other_member"
    assert replacements(network) == 0


def test_a_node_does_not_start_with_other_keys_than_were_appointed(
    network: Operated, home: Home, tmp_path: Path
) -> None:
    before = home.key_file.read_bytes()
    home.genesis_file.write_bytes(network.genesis_file.read_bytes())
    rekey(network)
    home.key_file.write_bytes(before)

    refused = network.refusal("start", "--home", str(home.path), exit_code=1)

    assert refused["code"] == "member.keys_differ"
    assert "appointed" in refused["message"]


def test_a_home_whose_node_is_stopped_is_named_and_another_node_carries_the_transaction(
    network: Operated, home: Home
) -> None:
    answer = network.ask(
        *("members", "rekey", "--of", str(home.path), "--node", "south", "--key", f"{network.folder}/north.key")
    )

    assert (answer["name"], answer["restart"]) == ("north", False)
    assert stated(network).node_key == load_key_file(home.key_file).public["node"]


def test_lost_keys_are_replaced_all_together(network: Operated, home: Home) -> None:
    home.key_file.unlink()
    secret = network.folder / "secret"
    secret.write_text("correct horse\n")

    partly = rekey(network, "--only", "node", "--passphrase-file", str(secret), exit_code=5)
    rekey(network, "--passphrase-file", str(secret))

    assert partly["error"]["code"] == "keyfile.not_found"
    fresh = load_key_file(home.key_file)
    assert fresh.open_secrets(b"correct horse")
    assert stated(network).service_key == fresh.public["service"]
    assert home.retired_key_files == []
