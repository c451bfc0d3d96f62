"""Two contradicting votes as a call: what convicts, whom, once; and what does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from node.contracts.contract import Call, ContractError
from node.contracts.evidence import HEIGHTS_BACK_MAX, EvidenceEntry, load_evidence, load_newest_evidence
from node.contracts.registry import execute
from node.execution.trails import show_transaction
from node.execution.views import list_evidence
from storage.schema.block import ZERO_DIGEST, Outcome, vote_preimage
from storage.schema.calls import Evidence, SignedVote
from storage.schema.events import EquivocationProven
from storage.schema.evidence import EvidenceError, evidence_id, verify_evidence
from storage.schema.signatures import sign
from tests.support.small_ledger import Actor, of_member, service
from tests.support.story import World
from tests.support.twin import second_signature

BLOCKS = (b"\x01" * 32, b"\x02" * 32)
RESULTS = (b"\x03" * 32, b"\x04" * 32)
PROPOSAL, PREPARE, COMMIT = 1, 2, 3
CHAIN_ID = World().genesis.chain_id
SOUTH = of_member("south", "node")


def vote(
    kind: int, digest: bytes, result: bytes = ZERO_DIGEST, *, height: int = 1, view: int = 7, signer: Actor = SOUTH
) -> SignedVote:
    preimage = vote_preimage(CHAIN_ID, 0, kind, view, height, digest, result)
    return SignedVote(kind, digest, result, sign(signer.seed, preimage))  # type: ignore[arg-type]


def evidence(first: SignedVote, second: SignedVote, *, height: int = 1, signer: Actor = SOUTH) -> Evidence:
    return Evidence(signer.key, 0, 7, height, first, second)


def two_prepares(**place: Any) -> Evidence:
    votes = [vote(PREPARE, block, **place) for block in BLOCKS]
    return evidence(*votes, height=place.get("height", 1), signer=place.get("signer", SOUTH))


def report(world: World, call: Evidence, member: str = "north") -> Outcome:
    return world.do("network.evidence", call, [service(member)], member)


CONVICTING = {
    "two proposals": [vote(PROPOSAL, block) for block in BLOCKS],
    "two prepares": [vote(PREPARE, block) for block in BLOCKS],
    "a proposal and a prepare": [vote(PROPOSAL, BLOCKS[0]), vote(PREPARE, BLOCKS[1])],
    "two commits of two blocks": [vote(COMMIT, block, RESULTS[0]) for block in BLOCKS],
    "two commits of two results": [vote(COMMIT, BLOCKS[0], result) for result in RESULTS],
}
HARMLESS = {
    "one vote twice": [vote(PREPARE, BLOCKS[0])] * 2,
    "a proposal and a prepare of one block": [vote(PROPOSAL, BLOCKS[0]), vote(PREPARE, BLOCKS[0])],
    "a prepare and a commit": [vote(PREPARE, BLOCKS[0]), vote(COMMIT, BLOCKS[1], RESULTS[0])],
    "prepares with results": [vote(PREPARE, block, RESULTS[0]) for block in BLOCKS],
    "commits without results": [vote(COMMIT, block) for block in BLOCKS],
}


@pytest.mark.parametrize("what", CONVICTING)
def test_the_member_is_convicted_that_signed(what: str) -> None:
    world = World()

    outcome = report(world, evidence(*CONVICTING[what]))

    name = evidence_id(SOUTH.key, 1)
    assert outcome.code == "ok"
    assert outcome.events == (EquivocationProven(name, "south", "north", 0, 7, 1),)
    entry = EvidenceEntry("south", SOUTH.key, "north", 0, 7, 1, outcome.id, world.time_ms, None)
    assert load_evidence(world.ledger.state, name) == entry


@pytest.mark.parametrize("what", HARMLESS)
def test_nobody_is_convicted_of(what: str) -> None:
    assert report(World(), evidence(*HARMLESS[what])).code == "evidence.no_conflict"


def test_two_signatures_over_one_vote_are_no_contradiction() -> None:
    world, first = World(), vote(PREPARE, BLOCKS[0])
    preimage = vote_preimage(CHAIN_ID, 0, PREPARE, 7, 1, BLOCKS[0])
    second = replace(first, signature=second_signature(SOUTH.seed, preimage))

    outcome = report(world, evidence(first, second))

    assert second != first
    assert outcome.code == "evidence.no_conflict"


def test_a_key_is_convicted_once_for_a_height_whoever_reports_it_and_of_whatever() -> None:
    world = World()
    first, second = CONVICTING["two prepares"]

    codes = [
        report(world, evidence(first, second)).code,
        report(world, evidence(second, first), "east").code,
        report(world, evidence(*CONVICTING["two commits of two results"]), "west").code,
        report(world, two_prepares(height=2)).code,
    ]

    assert codes == ["ok", "evidence.known", "evidence.known", "ok"]
    newest = evidence_id(SOUTH.key, 2)
    assert load_newest_evidence(world.ledger.state) == newest
    assert [each["height"] for each in list_evidence(world.ledger.state)] == [2, 1]


@pytest.mark.parametrize(
    ("signer", "code"),
    [
        (of_member("south", "service"), "evidence.not_node_key"),
        (of_member("south", "organisation"), "evidence.not_node_key"),
        (Actor("a stranger"), "evidence.not_node_key"),
        (of_member("north", "node"), "ok"),
    ],
    ids=["a service key", "an organisation key", "a stranger's key", "the reporter's own node key"],
)
def test_only_a_members_node_key_can_be_convicted(signer: Actor, code: str) -> None:
    assert report(World(), two_prepares(signer=signer)).code == code


@pytest.mark.parametrize(
    ("height", "code"),
    [
        (1, "evidence.out_of_range"),
        (2, "ok"),
        (HEIGHTS_BACK_MAX + 2, "ok"),
        (HEIGHTS_BACK_MAX + 3, "evidence.out_of_range"),
        (2**63 - 1, "evidence.out_of_range"),
    ],
)
def test_evidence_is_of_heights_that_are_there_and_not_long_past(height: int, code: str) -> None:
    world, north = World(), service("north")
    parameters, arguments = world.genesis.parameters, two_prepares(height=height)
    now = HEIGHTS_BACK_MAX + 2
    context = (now, 0, parameters, world.genesis.validators, CHAIN_ID)
    call = Call(bytes(32), (north.key,), "north", "network.evidence", arguments, *context)

    assert code_of(call, world) == code


def code_of(call: Call, world: World) -> str:
    try:
        execute(call, world.ledger.state)
    except ContractError as refusal:
        return refusal.code
    return "ok"


def test_the_service_key_of_the_paying_member_reports() -> None:
    world, call = World(), two_prepares()

    by_another_key = world.do("network.evidence", call, [of_member("north", "organisation")], "north")
    by_two = world.do("network.evidence", call, [service("north"), service("south")], "north")

    assert [by_another_key.code, by_two.code] == ["signers.not_service_key", "signers.count"]


def test_the_transaction_leads_from_the_evidence_to_what_happened() -> None:
    world = World()

    outcome = report(world, two_prepares())

    shown = show_transaction(world.ledger, outcome.id)
    assert shown is not None
    (event,) = shown["events"]
    assert (event["kind"], event["member"], event["reporter"]) == ("network.equivocation", "south", "north")
    assert list_evidence(world.ledger.state)[0]["transaction"] == outcome.id.hex()
    assert list(world.ledger.trail(evidence_id(SOUTH.key, 1), limit=10)) == [(1, 0)]


raw = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from([PROPOSAL, PREPARE, COMMIT])


@given(kinds, kinds, raw, raw, raw, raw)
def test_what_verifies_was_signed_twice_at_one_place_and_differs(
    kind: int, other: int, block: bytes, another: bytes, result: bytes, another_result: bytes
) -> None:
    results = [given if at == COMMIT else ZERO_DIGEST for at, given in ((kind, result), (other, another_result))]
    call = evidence(vote(kind, block, results[0]), vote(other, another, results[1]))
    is_conflict = (kind == COMMIT) == (other == COMMIT) and (block, results[0]) != (another, results[1])

    if is_conflict and ZERO_DIGEST not in (result, another_result):
        verify_evidence(call, CHAIN_ID)
    elif not is_conflict:
        with pytest.raises(EvidenceError, match="two votes of one place"):
            verify_evidence(call, CHAIN_ID)


FIELDS = st.sampled_from(["node_key", "epoch", "view", "height", "chain_id", "first", "second"])


@given(FIELDS, st.integers(0, 63), st.integers(0, 7))
def test_no_bit_of_a_statement_or_signature_may_be_another(field: str, byte: int, bit: int) -> None:
    call, chain_id = two_prepares(), CHAIN_ID
    if field == "chain_id":
        chain_id = flipped(chain_id, byte, bit)
    elif field == "node_key":
        call = replace(call, node_key=flipped(call.node_key, byte, bit))
    elif field in ("first", "second"):
        changed: SignedVote = getattr(call, field)
        call = replace(call, **{field: replace(changed, signature=flipped(changed.signature, byte, bit))})
    else:
        call = replace(call, **{field: getattr(call, field) ^ 1 << bit})

    with pytest.raises(EvidenceError, match="does not verify"):
        verify_evidence(call, chain_id)


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[byte % len(data)] ^= 1 << bit
    return bytes(changed)


def test_a_forged_pair_is_refused_on_the_ledger_and_names_the_forged_vote() -> None:
    world, call = World(), two_prepares()
    forged = replace(call, second=vote(PREPARE, BLOCKS[1], signer=of_member("north", "node")))

    outcome = report(world, forged)

    assert outcome.code == "evidence.forged"
    assert getattr(outcome.events[0], "field", "") == "second"
    assert load_evidence(world.ledger.state, evidence_id(SOUTH.key, 1)) is None
