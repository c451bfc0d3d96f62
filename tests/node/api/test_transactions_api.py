from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest
import trio
import trio.testing

from node.contracts.entries import load_person
from storage.schema.calls import EnrolPractitioner, RegisterPatient, RegisterRecord, RevokePractitioner
from storage.schema.codec import Value
from storage.schema.receipt import verify_receipt
from storage.schema.transaction import Transaction, encode_body, encode_envelope, sign_body
from tests.support.live_node import LiveChain, MemberNode, Refused
from tests.support.served import operating, services_of, until
from tests.support.small_ledger import Actor, service

PIA, BEN = Actor("pia"), Actor("ben")
MSGPACK = {"content-type": "application/msgpack"}


def registration(chain: LiveChain, name: str, **other: Any) -> Transaction:
    patient = Actor(name)
    return chain.sign(
        "identity.register_patient", RegisterPatient(patient.sealing_key), [patient, service("north")], **other
    )


async def post(client: httpx.AsyncClient, *envelopes: bytes) -> httpx.Response:
    return await client.post("/v1/transactions", content=msgpack.packb(envelopes), headers=MSGPACK)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


async def test_posted_envelopes_are_answered_by_their_ids_in_order(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    transactions = [registration(chain, f"patient {number}") for number in range(5)]

    async with operating(services_of(north, chain), socket_path) as client:
        answer = await post(client, *(transaction.envelope for transaction in transactions))

    assert answer.status_code == 202
    assert answer.json() == {"transactions": [transaction.id.hex() for transaction in transactions], "refused": []}


async def test_of_a_mixed_batch_the_good_ones_are_taken_and_the_others_told_why(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    good = registration(chain, "good")
    late = registration(chain, "late", not_after_s=chain.time_s - 1)
    forged = registration(chain, "forged")
    damaged = encode_envelope(forged.body_bytes, [bytes(64), bytes(64)])

    async with operating(services_of(north, chain), socket_path) as client:
        answer = await post(client, late.envelope, good.envelope, damaged, b"rubbish")

    assert answer.status_code == 202
    assert answer.json()["transactions"] == [good.id.hex()]
    refused = answer.json()["refused"]
    assert [(each["index"], each["code"]) for each in refused] == [
        (0, "tx.expired"),
        (2, "signature.invalid"),
        (3, "bytes.malformed"),
    ]
    assert refused[0]["field"] == "not_after_s"
    assert all(each["detail"] and each["hint"] for each in refused)


async def test_a_batch_of_nothing_but_refused_ones_is_a_problem_by_the_first_of_them(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    late = registration(chain, "late", not_after_s=chain.time_s - 1)

    async with operating(services_of(north, chain), socket_path) as client:
        answer = await post(client, late.envelope, b"rubbish")

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:caretrace:problem:tx.expired",
        "title": "the transaction's time is over",
        "status": 400,
        "code": "tx.expired",
        "detail": "it may stand in blocks of 86400 s up to its not_after",
        "field": "not_after_s",
        "hint": "sign it again with a later not_after; check the clock",
    }


async def test_a_full_mempool_is_429_with_when_to_come_again(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    async def full(envelopes: list[bytes]) -> list[Refused]:
        return [Refused("mempool.full", "20000 transactions are waiting already") for _ in envelopes]

    async with operating(services_of(north, chain, submit=full), socket_path) as client:
        answer = await post(client, registration(chain, "patient").envelope)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/msgpack", 400, "bytes.malformed"),
        (msgpack.packb([]), "application/msgpack", 400, "bytes.malformed"),
        (msgpack.packb([b"x"] * 501), "application/msgpack", 400, "bytes.malformed"),
        (msgpack.packb([1, 2]), "application/msgpack", 400, "bytes.malformed"),
        (msgpack.packb({"a": 1}), "application/msgpack", 400, "bytes.malformed"),
        (msgpack.packb([b"x"]) + b"\x00", "application/msgpack", 400, "bytes.malformed"),
        (b"\x91" * 100_000, "application/msgpack", 400, "bytes.malformed"),
        (b"\xdd\xff\xff\xff\xff", "application/msgpack", 400, "bytes.malformed"),
        (b"[]", "application/json", 415, "http.media_type"),
        (bytes((4 << 20) + 1), "application/msgpack", 413, "http.body_too_large"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused_by_name(
    chain: LiveChain, north: MemberNode, socket_path: Path, body: bytes, content_type: str, status: int, code: str
) -> None:
    async with operating(services_of(north, chain), socket_path) as client:
        answer = await client.post("/v1/transactions", content=body, headers={"content-type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_receipt_is_waited_for_and_verifies_without_the_node(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    chain.is_holding = True
    transaction = registration(chain, "pia")
    receipts: list[httpx.Response] = []

    async with operating(services_of(north, chain), socket_path) as client, trio.open_nursery() as nursery:
        await post(client, transaction.envelope)

        async def wait() -> None:
            receipts.append(await client.get(f"/v1/transactions/{transaction.id.hex()}/receipt?wait=30"))

        nursery.start_soon(wait)
        await until(lambda: chain.commits.waiting == 1)
        chain.order_held()

    proven = verify_receipt(receipts[0].content, chain.genesis)
    assert (proven.transaction.id, proven.outcome.code) == (transaction.id, "ok")
    assert receipts[0].headers["content-type"] == "application/octet-stream"


async def test_a_transaction_that_does_not_commit_in_time_is_504_and_one_never_seen_404(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    path = f"/v1/transactions/{'ab' * 32}"

    async with operating(services_of(north, chain), socket_path) as client:
        waited = await client.get(f"{path}/receipt?wait=0.05")
        at_once = await client.get(path)

    assert (waited.status_code, waited.json()["code"]) == (504, "tx.not_committed")
    assert waited.json()["transaction"] == "ab" * 32
    assert (at_once.status_code, at_once.json()["code"]) == (404, "tx.not_found")
    assert chain.commits.waiting == 0


async def test_a_client_that_goes_away_is_no_longer_waited_for(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    async with operating(services_of(north, chain), socket_path):
        async with await trio.open_unix_socket(socket_path) as stream:
            await stream.send_all(b"GET /v1/transactions/%s/receipt?wait=60 HTTP/1.1\r\nhost: n\r\n\r\n" % (b"ab" * 32))
            await until(lambda: chain.commits.waiting == 1)
        await until(lambda: chain.commits.waiting == 0)

    assert chain.commits.waiting == 0


async def test_what_came_of_a_transaction_is_told_with_its_events(
    chain: LiveChain, north: MemberNode, socket_path: Path
) -> None:
    registered, again = registration(chain, "pia"), registration(chain, "pia")
    chain.order(registered)
    chain.order(again)

    async with operating(services_of(north, chain), socket_path) as client:
        first = (await client.get(f"/v1/transactions/{registered.id.hex()}")).json()
        second = (await client.get(f"/v1/transactions/{again.id.hex()}")).json()

    assert (first["height"], first["index"], first["status"]) == (1, 0, "ok")
    assert first["events"][0]["kind"] == "patient.registered"
    assert second["status"] == "identity.already_registered"


@pytest.mark.parametrize("tx_id", ["xyz", "AB" * 32, "ab" * 31, "ab" * 33])
async def test_an_id_in_another_form_is_refused_by_name(
    chain: LiveChain, north: MemberNode, socket_path: Path, tx_id: str
) -> None:
    async with operating(services_of(north, chain), socket_path) as client:
        answer = await client.get(f"/v1/transactions/{tx_id}")

    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "id.malformed", "tx_id")


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "forever"])
async def test_a_wait_that_is_no_sensible_time_is_refused(
    chain: LiveChain, north: MemberNode, socket_path: Path, wait: str
) -> None:
    async with operating(services_of(north, chain), socket_path) as client:
        answer = await client.get(f"/v1/transactions/{'ab' * 32}?wait={wait}")

    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "request.invalid", "wait")


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
