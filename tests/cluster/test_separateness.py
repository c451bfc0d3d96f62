"""The nodes of a test network share nothing but sockets, and no secret is anywhere but in its key file."""

import os
import re
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from node.keys.keyfile import load_key_file
from tests.support.running_network import RunningNetwork

pytestmark = pytest.mark.cluster

MAPPED = re.compile(r"^[0-9a-f-]+ \S+ \S+ \S+ \S+ +(/.*)$", re.MULTILINE)


def open_files(pid: int) -> set[Path]:
    """Every file that a process holds open or has mapped, and the folder in which it works."""
    links = [*Path(f"/proc/{pid}/fd").iterdir(), Path(f"/proc/{pid}/cwd"), Path(f"/proc/{pid}/root")]
    opened = {os.readlink(link) for link in links if link.is_symlink()}
    return {Path(name) for name in opened | set(MAPPED.findall(Path(f"/proc/{pid}/maps").read_text()))}


def secrets_of(network: RunningNetwork) -> dict[str, bytes]:
    """Every secret of the network's keys, by what it is."""
    files = [
        *network.folder.glob("*/keys/*.key"),
        *network.folder.glob("cold/*.key"),
        *network.folder.glob("wallet/*.key"),
    ]
    found = {}
    for path in files:
        for kind, secret in load_key_file(path).open_secrets(None).items():
            found[f"{path.relative_to(network.folder)} {kind}"] = secret
    return found


def test_no_node_has_a_file_open_that_lies_in_the_network_outside_its_own_home(network: RunningNetwork) -> None:
    for place in network.places:
        assert place.pid is not None

        inside = {path for path in open_files(place.pid) if path.is_relative_to(network.folder)}

        assert place.home / "data" / "ledger" / "LOCK" in inside
        assert [path for path in inside if not path.is_relative_to(place.home)] == []


def test_no_node_holds_a_key_file_open_and_the_organisation_keys_lie_outside_all_homes(network: RunningNetwork) -> None:
    opened = {path for place in network.places for path in open_files(place.pid or 0)}
    cold = {load_key_file(path).public["organisation"] for path in network.folder.glob("cold/*.key")}

    assert not [path for path in opened if path.suffix == ".key"]
    assert cold == {member.organisation_key for member in network.genesis.body.members}
    for place in network.places:
        (in_home,) = place.home.rglob("*.key")
        assert set(load_key_file(in_home).public) == {"node", "service", "encryption"}


def test_only_the_owner_may_read_keys_records_or_talk_to_a_node(network: RunningNetwork) -> None:
    network.add_record()
    private = [*network.folder.rglob("*.key"), *network.folder.glob("*/vault/*"), *network.folder.glob("*/datakeys/*")]
    private += [place.socket for place in network.places]

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in private if not path.is_dir()}

    assert len(modes) >= 4 + 4 + 2 + 4
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    for folder in (network.folder, *(place.home for place in network.places), *network.folder.glob("*/keys")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_no_secret_stands_in_a_log_a_ledger_a_vault_or_any_file_but_its_own(network: RunningNetwork) -> None:
    network.add_record()
    secrets = secrets_of(network)
    assert len(secrets) >= 4 * 3 + 4 + 2 * 2
    forms = {name: (secret, secret.hex().encode(), secret.hex().upper().encode()) for name, secret in secrets.items()}

    leaks = [
        (str(path.relative_to(network.folder)), name)
        for path in network.folder.rglob("*")
        if path.is_file() and path.suffix != ".key"
        for content in [path.read_bytes()]
        for name, written in forms.items()
        if any(form in content for form in written)
    ]

    assert leaks == []


def test_the_content_of_a_record_stands_nowhere_in_clear(network: RunningNetwork) -> None:
    mark = b"Serum potassium 4.2 mmol/L of pia"
    path = network.folder.parent / "clear.json"
    path.write_bytes(b'{"resourceType": "Observation", "note": "' + mark + b'"}')

    network.ask("record", "add", str(path), "--patient", "pia", "--category", "laboratory", "--node", "north")

    files = [file for file in network.folder.rglob("*") if file.is_file()]
    assert [file for file in files if mark in file.read_bytes()] == []


def test_over_tcp_a_node_answers_whether_it_is_well_and_nothing_else(network: RunningNetwork) -> None:
    for place in network.places:
        with urllib.request.urlopen(f"http://{place.http}/readyz", timeout=10) as answer:
            assert answer.status == 200
        for path in ("/v1/status", "/v1/transactions", "/metrics", "/v1/genesis", "/openapi.json"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://{place.http}{path}", timeout=10)
            assert refused.value.code == 404
            refused.value.close()
