"""Calls that are well formed and may not be: refused by the command line, and, past it, by the ledger of every node."""

import time

import pytest

from cli.client import Json
from node.keys.keyfile import public_key
from storage.schema.calls import (
    EnrolPractitioner,
    Exclude,
    Grant,
    Period,
    RegisterPatient,
    RegisterRecord,
    RequestAccess,
    Revoke,
)
from storage.schema.codec import Value, parse_typed_id
from storage.schema.events import Refused
from storage.schema.transaction import encode_envelope, sign_body
from tests.support.raw_calls import Caller, caller, committed, id_of, outcome_of, provision, refusal_of
from tests.support.running_network import RunningNetwork, until

pytestmark = pytest.mark.cluster

RECORD_BYTES_MAX = 64 << 20
NOBODYS_ID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
GRANT = ("consent", "grant", "--patient", "pia", "--to", "ben", "--node", "north")


@pytest.fixture(scope="module")
def people(network: RunningNetwork) -> dict[str, Caller]:
    return {"pia": caller(network, "pia", "north"), "ben": caller(network, "ben", "south")}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("record", "show", f"r-{NOBODYS_ID}", "--node", "south"), 5, "record.not_found"),
        (("consent", "revoke", f"c-{NOBODYS_ID}", "--as", "pia", "--node", "north"), 5, "consent.not_found"),
        ((*GRANT, "--purpose", "TREAT", "--category", "gossip"), 2, "category.unknown"),
        ((*GRANT, "--purpose", "FUN"), 2, "purpose.unknown"),
        ((*GRANT, "--purpose", ""), 2, "purpose.unknown"),
        (GRANT, 2, "usage"),
        ((*GRANT, "--purpose", "TREAT", "--from", "2d", "--until", "1d"), 2, "usage"),
        ((*GRANT, "--purpose", "TREAT", "--until", "2020-01-01"), 1, "consent.period_over"),
        ((*GRANT, "--purpose", "TREAT", "--record", f"r-{NOBODYS_ID[:9]}"), 5, "record.not_found"),
        (
            ("record", "get", f"r-{NOBODYS_ID}", "--as", "ben", "--purpose", "TREAT", "--out", "x", "--node", "south"),
            5,
            "record.not_found",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_a_command_that_cannot_be_carried_out_says_why(
    network: RunningNetwork, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    error = network.refusal(*arguments, exit_code=exit_code)

    assert error["code"] == code
    assert error["message"]


def refused_calls(pia: bytes) -> list[tuple[str, str, Value, str]]:
    """Who calls what, and the code that the ledger keeps of it."""
    now_s = int(time.time())
    ended = Period(now_s + 100, now_s + 50)
    return [
        ("ben", "access.request", RequestAccess(bytes(32), "TREAT"), "record.not_found"),
        ("pia", "consent.revoke", Revoke(bytes(32)), "consent.not_found"),
        ("pia", "consent.grant", Grant(provision(categories=("gossip",)), None), "category.unknown"),
        ("pia", "consent.grant", Grant(provision(purposes=("FUN",)), None), "purpose.unknown"),
        ("pia", "consent.grant", Grant(provision(purposes=()), None), "consent.purpose_empty"),
        ("pia", "consent.grant", Grant(provision(period=ended), None), "consent.period_reversed"),
        ("pia", "consent.grant", Grant(provision(years=Period(2020, 2019)), None), "consent.period_reversed"),
        ("pia", "consent.grant", Grant(provision(period=Period(None, now_s - 60)), None), "consent.period_over"),
        ("pia", "consent.grant", Grant(provision(), 0), "consent.uses_zero"),
        ("pia", "consent.grant", Grant(provision(effect="deny"), None), "consent.grants_nothing"),
        ("pia", "consent.grant", Grant(provision(roles=("nowhere/physician",)), None), "member.unknown"),
        ("pia", "consent.exclude", Exclude(provision(), False), "consent.excludes_nothing"),
        ("ben", "consent.grant", Grant(provision(), None), "identity.not_patient"),
        ("pia", "identity.register_patient", RegisterPatient(pia), "signers.count"),
    ]


def test_the_ledger_of_every_node_refuses_what_no_command_would_send(
    network: RunningNetwork, people: dict[str, Caller]
) -> None:
    calls = refused_calls(people["pia"].key)
    envelopes = [people[who].call(method, arguments) for who, method, arguments, _ in calls]

    # Through every node by turns, and seen at the next one.
    names = network.names * len(calls)
    for name, envelope in zip(names, envelopes, strict=False):
        assert refusal_of(network, name, envelope) == ""
    proven = [committed(network, name, id_of(envelope)) for name, envelope in zip(names[1:], envelopes, strict=False)]

    assert [each.outcome.code for each in proven] == [code for *_, code in calls]
    assert all(isinstance(each.outcome.events[0], Refused) for each in proven)
    until(network.is_level)


def test_a_consent_is_ended_by_its_patient_alone_and_once(network: RunningNetwork, people: dict[str, Caller]) -> None:
    network.ask("key", "new", "zoe", "--no-passphrase")
    network.ask("patient", "register", "--as", "zoe", "--node", "east")
    zoe = caller(network, "zoe", "east")
    consent = network.ask(*GRANT, "--purpose", "TREAT")["consent"]
    end = Revoke(committed_consent(network, consent))

    by_command = network.refusal("consent", "revoke", consent, "--as", "zoe", "--node", "east", exit_code=4)
    raw = outcome_of(network, "west", zoe.call("consent.revoke", end))
    by_pia = outcome_of(network, "west", people["pia"].call("consent.revoke", end))
    again = outcome_of(network, "south", people["pia"].call("consent.revoke", end))
    again_by_command = network.refusal("consent", "revoke", consent, "--as", "pia", "--node", "north", exit_code=1)

    assert by_command["code"] == raw == "consent.not_yours"
    assert by_command["transaction"]
    assert (by_pia, again, again_by_command["code"]) == ("ok", "consent.already_revoked", "consent.already_revoked")


def committed_consent(network: RunningNetwork, consent: str) -> bytes:
    """The raw id of a consent, once the ledger of another node than the patient's holds it."""
    until(network.is_level)
    shown = network.node("west").get(f"/v1/consents/{consent}", Json)
    assert shown["consent"] == consent
    return parse_typed_id("c", consent)


def test_a_sealing_key_that_anyone_could_open_is_refused_though_the_member_signs(network: RunningNetwork) -> None:
    newcomer = Caller(bytes(range(32)), network.genesis.chain_id, "north")
    service_key = bytes.fromhex(network.status("north")["service_key"])
    body = newcomer.body("identity.register_patient", RegisterPatient(bytes(32)), signers=[newcomer.key, service_key])
    mine = sign_body(body, newcomer.seed)

    theirs = bytes.fromhex(network.node("north").post_msgpack("/v1/sponsor", [body, [mine]], Json)["signature"])

    assert outcome_of(network, "west", encode_envelope(body, [mine, theirs])) == "identity.sealing_key_unsound"


def test_nobody_is_enrolled_without_the_signature_of_the_member(
    network: RunningNetwork, people: dict[str, Caller]
) -> None:
    newcomer = Caller(bytes(range(1, 33)), network.genesis.chain_id, "north")
    sealing_key = public_key("sealing", bytes(range(2, 34)))
    enrolment = EnrolPractitioner(sealing_key, "physician", 0, int(time.time()) + 3600)

    # Unbound: at every node's door. With another's consent to pay: by the ledger.
    alone = {
        refusal_of(network, name, newcomer.call("identity.enrol_practitioner", enrolment)) for name in network.names
    }
    by_ben = outcome_of(network, "west", people["ben"].call("identity.enrol_practitioner", enrolment))

    assert alone == {"tx.payer_unbound"}
    assert by_ben == "signers.count"


def test_a_record_is_registered_by_the_service_key_of_its_custodian_alone(
    network: RunningNetwork, people: dict[str, Caller]
) -> None:
    record = RegisterRecord(people["pia"].key, "laboratory", (), 2020, bytes(32), b"pointer")

    assert outcome_of(network, "west", people["pia"].call("record.register", record)) == "signers.not_service_key"


def test_a_record_over_the_limit_is_refused_by_every_node_before_it_is_sent(network: RunningNetwork) -> None:
    path, height = network.folder / "large.bin", network.status("north")["height"]
    with path.open("wb") as file:
        file.truncate(RECORD_BYTES_MAX + 1)

    add = ("record", "add", str(path), "--patient", "pia", "--category", "imaging")
    errors = [network.refusal(*add, "--node", name, exit_code=1) for name in ("north", "east")]

    path.unlink()
    assert [error["code"] for error in errors] == ["http.body_too_large"] * 2
    assert str(RECORD_BYTES_MAX) in errors[0]["message"]
    assert network.status("north")["height"] == height


def test_all_nodes_agree_on_every_refusal(network: RunningNetwork) -> None:
    until(network.is_level)

    assert [network.ask("ledger", "verify", "--node", name)["ok"] for name in network.names] == [True] * 4
