from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from node.contracts.entries import load_record
from node.custody.encryption import decrypt_stream
from node.custody.sealing import Release, open_data_key
from node.keys.did import encode_did
from storage.database import DatabaseCorruptError
from storage.schema.codec import parse_typed_id, typed_id
from tests.support.full_disk import files_no_larger_than
from tests.support.live_node import LiveChain, MemberNode, sealing_secret
from tests.support.provisions import provision
from tests.support.served import RECORD_BYTES_MAX, operating, services_of, until
from tests.support.small_ledger import Actor

PIA, BEN = Actor("pia"), Actor("ben")
CONTENT = b'{"resourceType": "Observation"}' * 50_000


@pytest.fixture
def south(tmp_path: Path, chain: LiveChain, north: MemberNode) -> MemberNode:
    node = MemberNode("south", tmp_path / "south", chain)
    node.peers.nodes = {"north": north}
    chain.register(PIA)
    chain.enrol(BEN)
    return node


def did(actor: Actor) -> str:
    return encode_did(actor.key)


async def add(client: httpx.AsyncClient, content: Any = CONTENT, **query: Any) -> httpx.Response:
    given = {"patient": did(PIA), "category": "laboratory"} | query
    return await client.post("/v1/records", params=given, content=content)


async def test_the_whole_way_of_a_record_from_one_hospital_to_a_reader_at_another(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        added = await add(client, date="2026-11-03")
    chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",), categories=("laboratory",)))
    record = parse_typed_id("r", added.json()["record"])
    access = chain.request(BEN, record)
    async with operating(services_of(south, chain), tmp_path / "s.sock") as client:
        blob = await client.get(f"/v1/accesses/{typed_id('a', access)}/content")
        released = (await client.post(f"/v1/accesses/{typed_id('a', access)}/key")).json()
        shown = (await client.get(f"/v1/records/{added.json()['record']}")).json()

    assert (added.status_code, added.json()["bytes"]) == (202, len(CONTENT))
    commitment = bytes.fromhex(shown["commitment"])
    release = Release(chain.genesis.chain_id, access, record, 0, BEN.key, BEN.sealing_key, "TREAT", commitment)
    key = open_data_key(sealing_secret(BEN), bytes.fromhex(released["sealed_key"]), release)
    assert b"".join(decrypt_stream(key, [blob.content], commitment)) == CONTENT
    assert released["size"] == len(blob.content) == int(blob.headers["content-length"])
    assert chain.kept.locate(bytes.fromhex(released["served"])) == (released["height"], 0)
    assert (shown["year"], shown["custodian"]) == (2026, "north")


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ({"category": "gossip"}, "category.unknown", "category"),
        ({"patient": "did:web:example"}, "did.malformed", "patient"),
        ({"sensitivity": "NOSUCH"}, "sensitivity.unknown", "sensitivity"),
        ({"date": "2026-02-30"}, "request.invalid", "date"),
        ({"date": "last week"}, "request.invalid", "date"),
        ({"category": "x" * 40}, "request.invalid", "category"),
        ({"content": b""}, "record.empty", None),
    ],
)
async def test_a_record_that_cannot_be_taken_is_refused_by_name_and_leaves_nothing(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path, query: dict[str, Any], code: str, field: str
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        answer = await add(client, **query)

    assert (answer.status_code, answer.json()["code"], answer.json().get("field")) == (400, code, field)
    assert north.files() == []


async def test_a_full_disk_is_507_and_leaves_nothing(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        with files_no_larger_than(100_000):
            answer = await add(client, bytes(2_000_000))

    assert (answer.status_code, answer.json()["code"]) == (507, "vault.full")
    assert north.files() == []


async def test_a_damaged_block_is_named_and_the_node_goes_on_answering(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    damaged = DatabaseCorruptError("outcomes", "checksum mismatch", 1)

    def broken() -> dict[str, Any]:
        raise damaged

    async with operating(services_of(north, chain, status=broken), tmp_path / "n.sock") as client:
        answer = await client.get("/v1/status")
        after = await client.get("/livez")

    assert (answer.status_code, answer.json()["code"], after.status_code) == (500, damaged.code, 200)
    assert "outcomes" in answer.json()["detail"]


@pytest.mark.parametrize("is_length_told", [True, False])
async def test_a_record_over_the_limit_is_413_however_it_is_sent_and_leaves_nothing(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path, is_length_told: bool
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(RECORD_BYTES_MAX // 65_536 + 1):
            yield bytes(65_536)

    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        answer = await add(client, bytes(RECORD_BYTES_MAX + 1) if is_length_told else parts())
        after = await add(client, b"small")

    assert (answer.status_code, answer.json()["code"]) == (413, "http.body_too_large")
    assert after.status_code == 202
    assert len(list((north.folder / "vault").iterdir())) == 1


async def test_an_upload_that_is_broken_off_leaves_nothing(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    path = tmp_path / "n.sock"
    head = f"POST /v1/records?patient={did(PIA)}&category=note HTTP/1.1\r\nhost: n\r\ncontent-length: 3000000\r\n\r\n"

    async with operating(services_of(north, chain), path):
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(head.encode() + bytes(2_000_000))
            await until(lambda: north.files() != [])
        await until(lambda: north.files() == [])

    assert north.data_keys.pending() == []


async def test_without_a_permit_there_is_neither_key_nor_content(
    chain: LiveChain, south: MemberNode, tmp_path: Path
) -> None:
    unknown = typed_id("a", bytes(32))

    async with operating(services_of(south, chain), tmp_path / "s.sock") as client:
        key = await client.post(f"/v1/accesses/{unknown}/key")
        content = await client.get(f"/v1/accesses/{unknown}/content")
        malformed = await client.get("/v1/accesses/r-abc/content")

    assert [(each.status_code, each.json()["code"]) for each in (key, content, malformed)] == [
        (404, "access.not_found"),
        (404, "access.not_found"),
        (400, "id.malformed"),
    ]


async def test_a_permit_that_was_revoked_is_403(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        record = parse_typed_id("r", (await add(client, b"content")).json()["record"])
    consent = chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",)))
    access = typed_id("a", chain.request(BEN, record))
    chain.revoke(PIA, consent)

    async with operating(services_of(south, chain), tmp_path / "s.sock") as client:
        answer = await client.post(f"/v1/accesses/{access}/key")

    assert (answer.status_code, answer.json()["code"]) == (403, "consent.denied")


async def test_a_custodian_that_does_not_answer_is_503_with_since_when(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        record = parse_typed_id("r", (await add(client, b"content")).json()["record"])
    chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",)))
    access = typed_id("a", chain.request(BEN, record))
    south.peers.nodes = {}

    async with operating(services_of(south, chain), tmp_path / "s.sock") as client:
        answer = await client.post(f"/v1/accesses/{access}/key")

    assert (answer.status_code, answer.json()["code"]) == (503, "custodian.unreachable")
    assert "north does not answer: connection refused; so since 20" in answer.json()["detail"]
    assert "retry-after" in answer.headers


async def test_content_that_ends_in_the_midst_is_no_whole_answer(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        record = parse_typed_id("r", (await add(client, bytes(2_500_000))).json()["record"])
    consent = chain.grant(PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",)))
    access = typed_id("a", chain.request(BEN, record))
    asked = north.gatekeeper.on_content_request

    async def revoked_in_between(peer: str, payload: bytes) -> bytes:
        answer = await asked(peer, payload)
        chain.revoke(PIA, consent)
        return answer

    north.gatekeeper.on_content_request = revoked_in_between  # type: ignore[method-assign]
    async with operating(services_of(south, chain), tmp_path / "s.sock") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/v1/accesses/{access}/content")


async def test_the_tag_of_a_label_is_the_one_that_the_records_carry(
    chain: LiveChain, north: MemberNode, south: MemberNode, tmp_path: Path
) -> None:
    async with operating(services_of(north, chain), tmp_path / "n.sock") as client:
        added = await add(client, b"content", sensitivity=["PSY", "HIV"])
        tags = [
            (await client.get("/v1/labels", params={"patient": did(PIA), "sensitivity": label})).json()["tag"]
            for label in ("HIV", "PSY", "SDV")
        ]

    record = load_record(chain.kept.state, parse_typed_id("r", added.json()["record"]))
    assert record is not None
    assert {tag.hex() for tag in record.tags} == set(tags[:2])
    assert tags[2] not in tags[:2]
