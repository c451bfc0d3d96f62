"""What ends a permit, tried with the command and with raw requests to the API past it: no key leaves the custodian."""

import json
import time
from collections.abc import Iterator

import pytest

from cli.client import Json
from cli.errors import CliError
from storage.schema.calls import Grant, Period, RequestAccess
from storage.schema.codec import parse_typed_id, typed_id
from storage.schema.transaction import derived_id
from tests.support.raw_calls import caller, committed, id_of, outcome_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def record(network: RunningNetwork) -> str:
    """A record of ros, a patient of north's whom no other module knows: what she grants is all that counts."""
    network.ask("key", "new", "ros", "--no-passphrase")
    network.ask("patient", "register", "--as", "ros", "--node", "north")
    return network.add_record("ros")


@pytest.fixture
def consent(network: RunningNetwork, record: str) -> Iterator[str]:
    """A grant to ben; it is ended after the test."""
    granted: str = grant(network, "--to", "ben")
    yield granted
    network.run("consent", "revoke", granted, "--as", "ros", "--node", "north")


def grant(network: RunningNetwork, *more: str) -> str:
    answer = network.ask("consent", "grant", "--patient", "ros", "--purpose", "TREAT", "--node", "north", *more)
    consent: str = answer["consent"]
    return consent


def reading(network: RunningNetwork, record: str, who: str = "ben", node: str = "south") -> tuple[str, ...]:
    out = str(network.folder / "read.json")
    return ("record", "get", record, "--as", who, "--purpose", "TREAT", "--node", node, "--out", out)


def request_raw(network: RunningNetwork, record: str, node: str) -> bytes:
    """Let ben ask for a record by raw bytes to a node; returns the id of the permit that he must get."""
    envelope = caller(network, "ben", "south").call(
        "access.request", RequestAccess(parse_typed_id("r", record), "TREAT")
    )
    assert refusal_of(network, node, envelope) == ""
    proven = committed(network, "south", id_of(envelope))
    assert proven.outcome.code == "ok"
    return derived_id(proven.transaction.id)


def key_refusal(network: RunningNetwork, node: str, access: bytes) -> str:
    """Ask a node for the key of a permit; the code by which it is withheld, or empty."""
    try:
        network.node(node, 60).post(f"/v1/accesses/{typed_id('a', access)}/key", {}, Json)
    except CliError as error:
        return error.code
    return ""


def test_a_record_is_read_under_consent_and_no_other_node_gives_its_key(
    network: RunningNetwork, record: str, consent: str
) -> None:
    answer = network.ask(*reading(network, record))
    elsewhere = network.refusal(*reading(network, record, node="west"), exit_code=4)
    access = request_raw(network, record, "east")

    assert json.loads((network.folder / "read.json").read_text())["status"] == "final"
    assert answer["consent"] == consent
    assert elsewhere["code"] == "access.other_member"
    assert [key_refusal(network, name, access) for name in ("east", "west", "north")] == ["access.other_member"] * 3
    assert key_refusal(network, "south", access) == ""


def test_a_permit_dies_with_its_consent_though_it_was_given_before(
    network: RunningNetwork, record: str, consent: str
) -> None:
    access = request_raw(network, record, "west")

    network.ask("consent", "revoke", consent, "--as", "ros", "--node", "north")
    (network.folder / "read.json").unlink(missing_ok=True)

    assert key_refusal(network, "south", access) == "consent.denied"
    assert network.refusal(*reading(network, record), exit_code=4)["code"] == "consent.denied"
    assert not (network.folder / "read.json").exists()
    trail = network.ask("audit", "record", record, "--node", "east")["entries"]
    assert trail[-1]["code"] == "consent.denied"


def test_a_permit_that_was_never_given_opens_nothing(network: RunningNetwork) -> None:
    assert {key_refusal(network, name, bytes(32)) for name in network.names} == {"access.not_found"}


def test_a_consent_of_one_use_permits_one_read(network: RunningNetwork, record: str) -> None:
    once = grant(network, "--to", "ben", "--uses", "1")

    network.ask(*reading(network, record))
    used_up = network.refusal(*reading(network, record), exit_code=4)

    assert used_up["code"] == "consent.denied"
    network.ask("consent", "revoke", once, "--as", "ros", "--node", "north")


def test_a_permit_ends_with_the_time_of_its_consent(network: RunningNetwork, record: str) -> None:
    soon_s = int(time.time()) + 3
    ros = caller(network, "ros", "north")
    envelope = ros.call("consent.grant", Grant(provision(period=Period(None, soon_s)), None))
    assert outcome_of(network, "south", envelope) == "ok"
    access = request_raw(network, record, "north")

    until(lambda: time.time() > soon_s + 1)

    assert key_refusal(network, "south", access) == "access.permit_ended"
    assert network.refusal(*reading(network, record), exit_code=4)["code"] == "consent.denied"


def rfc3339(time_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))


def test_a_practitioner_reads_while_the_member_vouches_and_not_before_or_after(
    network: RunningNetwork, record: str
) -> None:
    for name in ("eve", "kim", "lou"):
        network.ask("key", "new", name, "--kind", "practitioner", "--no-passphrase")
    soon_s = int(time.time()) + 3
    for name, times in (("eve", ("--until", rfc3339(soon_s))), ("kim", ("--from", "1h")), ("lou", ())):
        network.ask("practitioner", "enrol", name, "--role", "physician", "--node", "south", *times)
    grant(network, "--to", "south/physician")
    network.ask("practitioner", "revoke", "lou", "--node", "south")

    until(lambda: time.time() > soon_s + 1)

    codes = {who: network.refusal(*reading(network, record, who), exit_code=4)["code"] for who in ("eve", "kim", "lou")}
    assert codes == {"eve": "identity.expired", "kim": "identity.not_yet_valid", "lou": "identity.revoked"}
    assert network.ask(*reading(network, record, "ben"))["record"] == record


def test_a_custodian_that_does_not_answer_is_named_and_nothing_is_lost(
    network: RunningNetwork, record: str, consent: str
) -> None:
    network.ask("testnet", "kill", "north")
    try:
        refused = network.refusal(*reading(network, record), exit_code=3)
    finally:
        network.start("north")

    assert refused["code"] == "custodian.unreachable"
    assert "north" in refused["message"]
    until(network.is_level)
    assert network.ask(*reading(network, record))["consent"] == consent
