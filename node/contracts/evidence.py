"""Evidence: two votes that no honest node signs both, laid before the network by any member.

The call proves by itself, to anyone who knows the network, that one key signed both: its receipt needs no second look.
What follows from it the members decide by vote.
"""

import msgspec

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import Entry, load_key
from node.contracts.people import acting_member
from storage.schema.block import ZERO_DIGEST, VoteType, vote_preimage
from storage.schema.calls import Evidence, SignedVote
from storage.schema.codec import encode, tagged_digest
from storage.schema.events import EquivocationProven
from storage.schema.signatures import SignatureError, verify_signature

# A week and more of blocks at one a minute; what lies farther back is for an auditor's own copy.
HEIGHTS_BACK_MAX = 10_000


class EvidenceEntry(Entry, frozen=True):
    """Proof of two contradicting votes: whose, by which key, where, by which transaction; and the proof before it."""

    member: str
    node_key: bytes
    reporter: str
    epoch: int
    view: int
    height: int
    transaction: bytes
    time_ms: int
    previous: bytes | None


def evidence_key(evidence: bytes) -> bytes:
    """Where the evidence stands against one node key at one height."""
    return b"evidence/" + evidence


def newest_evidence_key() -> bytes:
    """Where the newest evidence is named, whence the chain goes back."""
    return b"newest-evidence/"


def load_evidence(state: StateReader, evidence: bytes) -> EvidenceEntry | None:
    """Read a piece of evidence."""
    value = state.get(evidence_key(evidence))
    return None if value is None else msgspec.msgpack.decode(value, type=EvidenceEntry)


def load_newest_evidence(state: StateReader) -> bytes | None:
    """Read which evidence came last."""
    value = state.get(newest_evidence_key())
    return None if value is None else msgspec.msgpack.decode(value, type=bytes)


def evidence_id(node_key: bytes, height: int) -> bytes:
    """Return what evidence is named by, whoever reports it: one key is convicted once for a height."""
    return tagged_digest(b"CARETRACE/evidence/1", node_key, height.to_bytes(8, "big"))


def prove_equivocation(call: Call, state: StateReader) -> Changes:
    """Take down that a member's node key, of now or of before, signed two contradicting votes."""
    arguments: Evidence = call.arguments
    reporter = acting_member(call, state, position=0, count=1)
    key = load_key(state, arguments.node_key)
    if key is None or key.kind != "node":
        raise ContractError("evidence.not_node_key", "node_key", "no member's node key")
    if not call.height - HEIGHTS_BACK_MAX <= arguments.height <= call.height:
        raise ContractError("evidence.out_of_range", "height", f"at most {HEIGHTS_BACK_MAX} heights back, none ahead")
    if not contradict(arguments.first, arguments.second):
        raise ContractError("evidence.no_conflict", "second", "two votes of one place, for two blocks or results")
    evidence = evidence_id(arguments.node_key, arguments.height)
    if load_evidence(state, evidence) is not None:
        raise ContractError("evidence.known", "height", "this key stands convicted for this height")
    _check_signatures(call.chain_id, arguments)
    place = (arguments.epoch, arguments.view, arguments.height)
    entry = EvidenceEntry(
        key.member,
        arguments.node_key,
        reporter.name,
        *place,
        call.tx_id,
        call.time_ms,
        load_newest_evidence(state),
    )
    return Changes(
        {evidence_key(evidence): encode(entry), newest_evidence_key(): encode(evidence)},
        (EquivocationProven(evidence, key.member, reporter.name, *place),),
    )


def contradict(first: SignedVote, second: SignedVote) -> bool:
    """Tell whether two votes of one view and height exclude each other; a proposal is its primary's PREPARE."""
    commits = [VoteType(vote.kind) is VoteType.COMMIT for vote in (first, second)]
    results = [vote.result != ZERO_DIGEST for vote in (first, second)]
    # Two signatures over one statement are no contradiction, and what has another form is no vote.
    return commits[0] == commits[1] and results == commits and _statement(first) != _statement(second)


def _statement(vote: SignedVote) -> tuple[bytes, bytes]:
    return vote.digest, vote.result


def _check_signatures(chain_id: bytes, arguments: Evidence) -> None:
    place = (arguments.view, arguments.height)
    for name, vote in (("first", arguments.first), ("second", arguments.second)):
        preimage = vote_preimage(chain_id, arguments.epoch, vote.kind, *place, vote.digest, vote.result)
        try:
            verify_signature(arguments.node_key, preimage, vote.signature)
        except SignatureError:
            raise ContractError("evidence.forged", name, "the signature does not verify under the node key") from None
