from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest

from node.contracts.entries import load_person
from storage.schema.calls import EnrolPractitioner, RegisterPatient, RegisterRecord, RevokePractitioner
from storage.schema.codec import Value
from storage.schema.transaction import encode_body, encode_envelope, sign_body
from tests.support.live_node import LiveChain, MemberNode
from tests.support.served import operating, services_of
from tests.support.small_ledger import Actor, service

PIA, BEN = Actor("pia"), Actor("ben")
MSGPACK = {"content-type": "application/msgpack"}


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


async def post(client: httpx.AsyncClient, envelope: bytes) -> httpx.Response:
    return await client.post("/v1/transactions", content=msgpack.packb([envelope]), headers=MSGPACK)


def draft(chain: LiveChain, method: str, arguments: Value, signers: list[Actor], **other: Any) -> bytes:
    fields = {
        "chain_id": chain.genesis.chain_id,
        "nonce": bytes(16),
        "not_after_s": chain.time_s + 60,
        "payer": "north",
        "signers": [signer.key for signer in signers],
        "method": method,
        "arguments": arguments,
    }
    return encode_body(**(fields | other))


async def sponsor(client: httpx.AsyncClient, body: bytes, *signatures: bytes) -> httpx.Response:
    return await client.post("/v1/sponsor", content=msgpack.packb([body, list(signatures)]), headers=MSGPACK)


async def test_a_member_sponsors_a_patient_by_signing_last(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    body = draft(chain, "identity.register_patient", RegisterPatient(PIA.sealing_key), [PIA, service("north")])
    signature = sign_body(body, PIA.seed)

    async with operating(services_of(north, chain), socket_path) as client:
        theirs = (await sponsor(client, body, signature)).json()["signature"]
        posted = await post(client, encode_envelope(body, [signature, bytes.fromhex(theirs)]))

    assert posted.status_code == 202
    assert load_person(chain.kept.state, PIA.key) is not None


async def test_a_member_ends_an_enrolment_by_its_signature_alone(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    chain.enrol(BEN, "north")
    body = draft(chain, "identity.revoke_practitioner", RevokePractitioner(BEN.key), [service("north")])

    async with operating(services_of(north, chain), socket_path) as client:
        signature = (await sponsor(client, body)).json()["signature"]
        posted = await post(client, encode_envelope(body, [bytes.fromhex(signature)]))

    outcome = chain.kept.outcomes(chain.kept.head.header.height)[0]
    assert posted.status_code == 202
    assert b"practitioner.revoked" in outcome


WISH = RegisterPatient(PIA.sealing_key)
RECORD = RegisterRecord(PIA.key, "note", (), 0, bytes(32), b"p")


@pytest.mark.parametrize(
    ("method", "arguments", "signers", "other", "code"),
    [
        ("record.register", RECORD, [service("north")], {}, "sponsor.method"),
        ("identity.register_patient", WISH, [PIA, service("north")], {"payer": "south"}, "sponsor.other_member"),
        ("identity.register_patient", WISH, [service("north"), PIA], {}, "sponsor.not_last"),
        ("identity.register_patient", WISH, [PIA, service("south")], {}, "sponsor.not_last"),
        ("identity.register_patient", WISH, [PIA, service("north")], {"chain_id": bytes(32)}, "tx.other_network"),
        ("identity.register_patient", WISH, [PIA, service("north")], {"not_after_s": 5}, "tx.expired"),
        ("identity.register_patient", WISH, [PIA, service("north")], {"not_after_s": 2**40}, "tx.too_far_future"),
        ("identity.register_patient", WISH, [BEN, service("north")], {}, "signature.invalid"),
        ("identity.register_patient", WISH, [PIA, BEN, service("north")], {}, "tx.signers"),
        ("identity.enrol_practitioner", WISH, [PIA, service("north")], {}, "bytes.malformed"),
        ("no.such_method", WISH, [PIA, service("north")], {}, "tx.method_unknown"),
    ],
)
async def test_a_member_signs_nothing_else(
    chain: LiveChain,
    north: MemberNode,
    socket_path: Path,
    method: str,
    arguments: Value,
    signers: list[Actor],
    other: dict[str, Any],
    code: str,
) -> None:
    body = draft(chain, method, arguments, signers, **other)
    signatures = [sign_body(body, PIA.seed)] if len(signers) > 1 else []

    async with operating(services_of(north, chain), socket_path) as client:
        answer = await sponsor(client, body, *signatures)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "signature" not in answer.json()


async def test_no_signature_leaves_for_an_enrolment_that_its_practitioner_has_not_signed(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    enrolment = EnrolPractitioner(BEN.sealing_key, "physician", chain.time_s, chain.time_s + 60)
    body = draft(chain, "identity.enrol_practitioner", enrolment, [BEN, service("north")])

    async with operating(services_of(north, chain), socket_path) as client:
        unsigned, forged = await sponsor(client, body), await sponsor(client, body, bytes(64))

    assert (unsigned.json()["code"], forged.json()["code"]) == ("tx.signers", "signature.invalid")
