from pathlib import Path
from typing import Any

import httpx
import pytest

from node.keys.did import encode_did
from storage.schema.block import CERTIFICATE, HEADER, RESULT, VoteType, verify_certificate, vote_preimage
from storage.schema.calls import Evidence, Exclude, RegisterRecord, SignedVote
from storage.schema.codec import typed_id
from storage.schema.evidence import evidence_id
from storage.schema.signatures import sign
from storage.schema.state_proof import STATE_PROOF, verify_state_proof
from storage.schema.transaction import derived_id
from tests.support.live_node import LiveChain, MemberNode
from tests.support.provisions import provision
from tests.support.served import GENESIS_FILE, operating, services_of
from tests.support.small_ledger import Actor, of_member, service

PIA, BEN = Actor("pia"), Actor("ben")
PIA_DID, BEN_DID = encode_did(PIA.key), encode_did(BEN.key)


class Story:
    """Pia has a laboratory record at north, granted to ben of south, who asked to read it and was served nothing."""

    def __init__(self, chain: LiveChain, north: MemberNode, path: Path) -> None:
        self.chain = chain
        self.services = services_of(north, chain)
        self.path = path
        chain.register(PIA)
        chain.enrol(BEN)
        register = RegisterRecord(PIA.key, "laboratory", (), 2020, bytes(32), b"pointer")
        self.record = derived_id(chain.do("record.register", register, [service("north")]).id)
        self.consent = chain.grant(
            PIA, provision(practitioners=(BEN.key,), purposes=("TREAT",), categories=("laboratory",))
        )
        self.exclusion = derived_id(
            chain.do("consent.exclude", Exclude(provision("deny", categories=("note",)), False), [PIA]).id
        )
        self.access = chain.request(BEN, self.record)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        async with operating(self.services, self.path) as client:
            return await client.get(path, params=query or None)

    async def check(self, **body: Any) -> httpx.Response:
        asked = {"requester": BEN_DID, "record": typed_id("r", self.record), "purpose": "TREAT"} | body
        async with operating(self.services, self.path) as client:
            return await client.post("/v1/consents/check", json=asked)


@pytest.fixture
def story(chain: LiveChain, north: MemberNode, tmp_path: Path) -> Story:
    return Story(chain, north, tmp_path / "node.sock")


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/v1/status", {}, {"name": "north", "height": 6}),
        ("/v1/people/{pia}", {}, {"kind": "patient", "member": "north", "did": PIA_DID}),
        ("/v1/people/{ben}", {}, {"kind": "practitioner", "member": "south", "role": "physician", "status": "valid"}),
        ("/v1/records/{record}", {}, {"category": "laboratory", "year": 2020, "custodian": "north", "height": 3}),
        ("/v1/consents/{consent}", {}, {"kind": "consent", "status": "active", "patient": PIA_DID, "height": 4}),
        ("/v1/consents/{exclusion}", {}, {"kind": "exclusion", "status": "active"}),
    ],
)
async def test_what_the_ledger_says_of_one_thing(
    story: Story, path: str, query: dict[str, str], expected: dict[str, Any]
) -> None:
    filled = path.format(
        pia=PIA_DID,
        ben=BEN_DID,
        record=typed_id("r", story.record),
        consent=typed_id("c", story.consent),
        exclusion=typed_id("x", story.exclusion),
    )

    answer = await story.get(filled, **query)

    assert answer.status_code == 200
    assert expected.items() <= answer.json().items()


async def test_lists_hold_what_belongs_to_whom_they_are_asked_for(story: Story) -> None:
    records = (await story.get("/v1/records", patient=PIA_DID)).json()["records"]
    consents = (await story.get("/v1/consents", patient=PIA_DID)).json()["consents"]
    staff = (await story.get("/v1/practitioners", member="south")).json()["practitioners"]
    own_staff = (await story.get("/v1/practitioners")).json()["practitioners"]
    members = (await story.get("/v1/members")).json()["members"]

    assert [each["record"] for each in records] == [typed_id("r", story.record)]
    assert [each["consent"] for each in consents] == [typed_id("x", story.exclusion), typed_id("c", story.consent)]
    assert ([each["did"] for each in staff], own_staff) == ([BEN_DID], [])
    assert [each["name"] for each in members] == ["east", "north", "south", "west"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/v1/people/{encode_did(Actor('nobody').key)}", 404, "identity.unknown"),
        ("/v1/people/did:key:zzz", 400, "did.malformed"),
        (f"/v1/records/{typed_id('r', bytes(32))}", 404, "record.not_found"),
        (f"/v1/records/{typed_id('c', bytes(32))}", 400, "id.malformed"),
        (f"/v1/consents/{typed_id('c', bytes(32))}", 404, "consent.not_found"),
        ("/v1/consents/nonsense", 400, "id.malformed"),
        ("/v1/blocks/7", 404, "block.not_found"),
        ("/v1/blocks/-1", 404, "block.not_found"),
        ("/v1/blocks/tail", 404, "block.not_found"),
        ("/v1/state/xyz", 400, "id.malformed"),
        ("/v1/resolve/c-0189", 400, "id.malformed"),
        ("/v1/records", 400, "request.invalid"),
        ("/v1/nothing/here", 404, "http.no_such_path"),
        (f"/v1/audit/patients/{PIA_DID}?from=yesterday", 400, "request.invalid"),
        (f"/v1/audit/patients/{PIA_DID}?from=2026-01-01T00:00:00", 400, "request.invalid"),
    ],
)
async def test_what_is_not_there_or_not_asked_well_is_a_problem_by_name(
    story: Story, path: str, status: int, code: str
) -> None:
    answer = await story.get(path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_exclusion_is_not_found_under_a_consents_letter(story: Story) -> None:
    answer = await story.get(f"/v1/consents/{typed_id('c', story.exclusion)}")

    assert answer.status_code == 404


@pytest.mark.parametrize("kind", ["record", "consent", "exclusion", "access"])
async def test_a_prefix_of_a_typed_id_resolves_to_things_of_that_kind_only(story: Story, kind: str) -> None:
    letter = {"record": "r", "consent": "c", "exclusion": "x", "access": "a"}[kind]
    whole = typed_id(letter, getattr(story, kind))

    found = (await story.get(f"/v1/resolve/{whole[:12]}")).json()["matches"]
    as_another = [
        (await story.get(f"/v1/resolve/{other}{whole[1:12]}")).json()["matches"] for other in "rcxa" if other != letter
    ]

    assert (found, as_another) == ([whole], [[], [], []])


async def test_a_prefix_of_a_transactions_id_resolves(story: Story) -> None:
    tx_id = (await story.get("/v1/blocks/3")).json()["transactions"][0]["transaction"]

    found = (await story.get(f"/v1/resolve/{tx_id[:9]}")).json()["matches"]
    nothing = (await story.get(f"/v1/resolve/{'f' * 20}")).json()["matches"]

    assert (found, nothing) == ([tx_id], [])


async def test_a_block_says_who_signed_it_and_what_came_of_its_transactions(story: Story) -> None:
    genesis = (await story.get("/v1/blocks/0")).json()
    head = (await story.get("/v1/blocks/head")).json()
    third = (await story.get("/v1/blocks/3")).json()

    assert (genesis["height"], head["height"]) == (0, 6)
    assert third["signers"] == ["east", "north", "west"]
    assert [each["status"] for each in third["transactions"]] == ["ok"]
    assert third["parent"] == (await story.get("/v1/blocks/2")).json()["hash"]


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_value_of_the_state_is_proven_down_to_the_quorum_that_signed(story: Story, is_there: bool) -> None:
    key = b"record/" + (story.record if is_there else bytes(32))

    shown = (await story.get(f"/v1/state/{key.hex()}", proof="true")).json()

    value = bytes.fromhex(shown["value"]) if shown["value"] else None
    header, result = HEADER.decode(bytes.fromhex(shown["header"])), RESULT.decode(bytes.fromhex(shown["result"]))
    certificate = CERTIFICATE.decode(bytes.fromhex(shown["certificate"]))
    verify_state_proof(STATE_PROOF.decode(bytes.fromhex(shown["proof"])), key, value, result.state_root)
    verify_certificate(certificate, VoteType.COMMIT, story.chain.genesis.chain_id, story.chain.genesis.validators)
    assert (certificate.digest, certificate.result) == (header.digest(), result.digest())
    assert (value is not None) is is_there


async def test_a_check_says_only_to_the_patient_which_provision_decides(story: Story) -> None:
    to_anyone = (await story.check()).json()
    to_patient = (await story.check(**{"as": PIA_DID})).json()
    to_another = (await story.check(**{"as": BEN_DID})).json()

    assert to_anyone == to_another == {"decision": "permit", "code": "ok", "height": 6}
    assert to_patient["consent"] == typed_id("c", story.consent)
    assert to_patient["because"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"purpose": "HRESCH"}, "consent.denied"),
        ({"purpose": "NOSUCH"}, "purpose.unknown"),
        ({"action": "correct"}, "ok"),
        ({"requester": encode_did(Actor("nobody").key)}, "identity.unknown"),
        ({"record": typed_id("r", bytes(32))}, "record.not_found"),
    ],
)
async def test_a_check_answers_by_the_rules_of_a_request(story: Story, asked: dict[str, str], code: str) -> None:
    answer = (await story.check(**asked)).json()

    assert answer["code"] == code


@pytest.mark.parametrize("extra", [{"surprise": 1}, {"purpose": 7}, {"record": "c-abc"}, {"requester": "ben"}])
async def test_a_check_with_unknown_or_malformed_fields_is_refused(story: Story, extra: dict[str, Any]) -> None:
    answer = await story.check(**extra)

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 60_000, b'{"requester": "a", "requester": "b"}']
)
async def test_a_check_that_is_no_json_of_its_form_is_refused(story: Story, body: bytes) -> None:
    async with operating(story.services, story.path) as client:
        answer = await client.post("/v1/consents/check", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")


async def test_the_trail_of_patient_and_record_tells_who_asked_and_whether_it_was_served(story: Story) -> None:
    patient = (await story.get(f"/v1/audit/patients/{PIA_DID}")).json()["entries"]
    record = (await story.get(f"/v1/audit/records/{typed_id('r', story.record)}")).json()["entries"]

    assert [each["action"] for each in patient] == ["register-patient", "add-record", "grant", "exclude", "read"]
    assert [each["action"] for each in record] == ["add-record", "read"]
    read = patient[-1]
    assert (read["actor"], read["purpose"], read["served"], read["outcome"]) == (BEN_DID, "TREAT", False, "ok")


async def test_a_trail_is_cut_to_the_time_that_is_asked_for(story: Story) -> None:
    whole = (await story.get(f"/v1/audit/patients/{PIA_DID}")).json()["entries"]

    cut = await story.get(f"/v1/audit/patients/{PIA_DID}", **{"from": whole[1]["time"], "to": whole[2]["time"]})

    assert cut.json()["entries"] == whole[1:3]


async def test_genesis_metrics_and_health_are_answered(story: Story, north: MemberNode) -> None:
    genesis, metrics = await story.get("/v1/genesis"), await story.get("/metrics")
    live, ready = await story.get("/livez"), await story.get("/readyz")
    story.services = services_of(north, story.chain, why_not_ready=lambda: ["no quorum: 2 of 3"])
    not_ready = await story.get("/readyz")

    assert genesis.content == GENESIS_FILE
    assert metrics.text.startswith("caretrace_height")
    assert (live.status_code, ready.status_code, not_ready.status_code) == (200, 200, 503)
    assert not_ready.json() == {"ready": False, "why_not": ["no quorum: 2 of 3"]}


async def test_every_route_stands_in_the_description_of_the_api(story: Story) -> None:
    paths = (await story.get("/openapi.json")).json()["paths"]

    assert {"/livez", "/readyz", "/metrics", "/v1/status", "/v1/transactions", "/v1/events"} < set(paths)
    assert "requestBody" in paths["/v1/transactions"]["post"]
    assert [name for name, path in paths.items() for each in path.values() if not each.get("description")] == []


async def test_an_error_of_ours_says_nothing_of_its_inside_and_the_node_goes_on(
    story: Story, north: MemberNode, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("a secret detail")

    story.services = services_of(north, story.chain, status=broken)
    async with operating(story.services, story.path) as client:
        answer = await client.get("/v1/status")
        after = await client.get("/livez")

    assert (answer.status_code, answer.json()["code"], after.status_code) == (500, "node.failed", 200)
    assert "secret" not in answer.text
    assert "a secret detail" in caplog.text


async def test_evidence_is_listed_shown_and_found_by_its_prefix(story: Story) -> None:
    south, genesis = of_member("south", "node"), story.chain.genesis
    votes = []
    for block in (b"\x01" * 32, b"\x02" * 32):
        preimage = vote_preimage(genesis.chain_id, 0, VoteType.PREPARE, 3, 1, block)
        votes.append(SignedVote(2, block, bytes(32), sign(south.seed, preimage)))
    none_yet = (await story.get("/v1/evidence")).json()

    outcome = story.chain.do("network.evidence", Evidence(south.key, 0, 3, 1, votes[0], votes[1]), [service("north")])

    name = typed_id("e", evidence_id(south.key, 1))
    (listed,) = (await story.get("/v1/evidence")).json()["evidence"]
    shown = await story.get(f"/v1/evidence/{name}")
    found = await story.get(f"/v1/resolve/{name[:12]}")
    unknown = await story.get(f"/v1/evidence/{typed_id('e', bytes(32))}")
    assert none_yet == {"evidence": []}
    assert shown.json() == listed
    assert (listed["evidence"], listed["member"], listed["reporter"]) == (name, "south", "north")
    assert listed["transaction"] == outcome.id.hex()
    assert found.json() == {"matches": [name]}
    assert (unknown.status_code, unknown.json()["code"]) == (404, "evidence.not_found")
