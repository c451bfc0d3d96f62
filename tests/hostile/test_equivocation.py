"""A primary that tells different members different things: nobody forks, and whoever sees both names it."""

import pytest

from cli.client import Json
from node.keys.keyfile import load_key_file
from storage.schema.block import VoteType
from storage.schema.calls import Evidence, SignedVote
from storage.schema.codec import typed_id
from storage.schema.events import EquivocationProven
from storage.schema.evidence import evidence_id, verify_evidence
from storage.schema.receipt import Proven
from tests.support.hostile_network import HONEST, HOSTILE
from tests.support.hostile_validator import HostileValidator, Made
from tests.support.raw_calls import Caller, committed, harmless, order, outcome_of
from tests.support.running_network import until

pytestmark = pytest.mark.cluster

ACCUSED = f"{HOSTILE} signed two different statements: "


def two_blocks(bad: HostileValidator) -> tuple[Made, Made]:
    """Two valid blocks of one view and height."""
    view = bad.take_turn()
    return bad.block(harmless(bad.network), view=view), bad.block(harmless(bad.network), view=view)


def prepared_by(bad: HostileValidator, made: Made) -> set[str]:
    return {peer for peer, vote in bad.member.votes_for(made.digest) if vote.kind is VoteType.PREPARE}


def accusations(bad: HostileValidator, made: Made) -> dict[str, int]:
    """How often each honest node's log shows that the hostile member signed this proposal, and another."""
    signature = bad.proposal(made).signature.hex()
    lines = {name: [line for line in bad.network.log(name).splitlines() if ACCUSED in line] for name in HONEST}
    return {name: sum(signature in line for line in said) for name, said in lines.items()}


def convicted_of(bad: HostileValidator, made: Made) -> Proven:
    """What the receipt proves by which the hostile member is convicted for a block's height, alike on every node."""
    node_key = bad.genesis.validators.validators[bad.position].node_key
    name = typed_id("e", evidence_id(node_key, made.header.height))

    def shown(node: str) -> list[Json]:
        listed = bad.network.node(node).get("/v1/evidence", Json)["evidence"]
        return [each for each in listed if each["height"] == made.header.height]

    until(lambda: all(shown(node) for node in HONEST), within_s=60)
    until(lambda: bad.network.is_level(*HONEST))
    assert {each["evidence"] for node in HONEST for each in shown(node)} == {name}
    ((transaction,),) = {tuple(each["transaction"] for each in shown(node)) for node in HONEST}
    return committed(bad.network, "west", str(transaction))


def block_at(bad: HostileValidator, height: int) -> bytes:
    """The digest of the block that all honest nodes hold at a height, once they stand on one chain."""
    until(lambda: bad.network.is_level(*HONEST))
    (digest,) = {bad.network.node(name).get(f"/v1/blocks/{height}", Json)["hash"] for name in HONEST}
    return bytes.fromhex(digest)


def test_two_blocks_to_different_backups_fork_nobody_and_the_equivocator_is_named(bad: HostileValidator) -> None:
    first, second = two_blocks(bad)

    bad.member.tell(bad.proposal(first), "east")
    bad.member.tell(bad.proposal(second), "north", "west")
    until(lambda: prepared_by(bad, first) == {"east"} and prepared_by(bad, second) == {"north", "west"})
    bad.member.tell(bad.proposal(second), "east")
    bad.member.tell(bad.proposal(first), "north", "west")
    order(bad.network)

    # Two that voted alike and the primary's own vote are a quorum: the next view has to keep their block.
    assert block_at(bad, first.header.height) == second.digest
    assert accusations(bad, first) == accusations(bad, second) == dict.fromkeys(HONEST, 1)
    proven = convicted_of(bad, first)
    (event,) = proven.outcome.events
    assert isinstance(event, EquivocationProven)
    assert (event.member, event.height, event.view) == (HOSTILE, first.header.height, first.view)
    evidence = proven.transaction.arguments
    assert {evidence.first.digest, evidence.second.digest} == {first.digest, second.digest}
    verify_evidence(evidence, bad.genesis.chain_id)


def test_the_receipt_of_the_evidence_says_to_anyone_who_lied_without_a_node(bad: HostileValidator) -> None:
    network = bad.network
    first, *_ = network.ask("evidence", "list", "--node", "north")["evidence"]
    receipt, genesis = str(network.folder / "liar.receipt"), str(network.folder / "genesis.json")

    shown = network.ask("evidence", "show", first["evidence"][:10], "--node", "west")
    network.ask("receipt", "get", shown["transaction"], "--out", receipt, "--node", "east")
    proved = network.ask("receipt", "verify", receipt, "--genesis", genesis)

    assert (shown["member"], proved["equivocator"]) == (HOSTILE, HOSTILE)
    assert proved["node_key"] == shown["node_key"]
    assert proved["first"] != proved["second"]


def test_a_block_that_was_committed_at_one_member_alone_is_committed_at_all(bad: HostileValidator) -> None:
    first, second = two_blocks(bad)
    height = second.header.height

    bad.member.tell(bad.proposal(first), "east")
    bad.member.tell(bad.proposal(second), "north", "west")
    until(lambda: prepared_by(bad, first) == {"east"} and prepared_by(bad, second) == {"north", "west"})
    bad.member.tell(bad.vote(VoteType.COMMIT, first, bad.result_of(first)), "east", "west")
    bad.member.tell(bad.vote(VoteType.COMMIT, second, bad.result_of(second)), "north")
    until(lambda: bad.network.status("north")["height"] == height)
    order(bad.network)

    assert block_at(bad, height) == second.digest
    # Nobody was told both: what one brought to the next view convicts it before another.
    assert convicted_of(bad, first).outcome.code == "ok"


def test_a_member_that_forges_evidence_against_another_convicts_nobody(bad: HostileValidator) -> None:
    bad.follow()
    north = bad.network.genesis.member("north")
    assert north is not None
    height = bad.chain.head.header.height
    votes = [SignedVote(2, bytes([number]) * 32, bytes(32), bytes([number]) * 64) for number in (1, 2)]
    secrets = load_key_file(bad.network.place(HOSTILE).home / "keys" / "node.key").open_secrets(None)
    liar = Caller(secrets["service"], bad.genesis.chain_id, HOSTILE)

    envelope = liar.call("network.evidence", Evidence(north.node_key, 0, 0, height, *votes))

    assert outcome_of(bad.network, "east", envelope) == "evidence.forged"
    listed = bad.network.node("east").get("/v1/evidence", Json)["evidence"]
    assert {each["member"] for each in listed} <= {HOSTILE}


def test_a_vote_for_a_result_that_nobody_else_got_counts_for_nothing(bad: HostileValidator) -> None:
    made, _ = two_blocks(bad)
    result = bad.result_of(made)

    bad.member.tell(bad.vote(VoteType.COMMIT, made, bytes(31) + b"\x01"), *HONEST)
    bad.member.tell(bad.proposal(made), *HONEST)
    until(lambda: all(bad.network.status(name)["height"] == made.header.height for name in HONEST))
    bad.follow()

    certificate = bad.chain.head.certificate
    assert certificate is not None
    assert (certificate.digest, certificate.result) == (made.digest, result)
    assert bad.position not in certificate.signers
