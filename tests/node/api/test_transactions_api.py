from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest
import trio
import trio.testing

from storage.schema.calls import RegisterPatient
from storage.schema.receipt import verify_receipt
from storage.schema.transaction import Transaction, encode_envelope
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
