"""Evidence: two votes that no honest node signs both, laid before the network by any member.

The call proves by itself, to anyone who knows the network, that one key signed both: its receipt needs no second look.
What follows from it the members decide by vote.
"""

import msgspec

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import Entry, load_key
from node.contracts.people import acting_member
from storage.schema.calls import Evidence
from storage.schema.codec import encode
from storage.schema.events import EquivocationProven
from storage.schema.evidence import NO_CONFLICT, EvidenceError, contradict, evidence_id, verify_signatures

# A week of blocks at one a minute; what lies farther back is for an auditor's own copy.
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


def prove_equivocation(call: Call, state: StateReader) -> Changes:
    """Take down that a member's node key, of now or of before, signed two contradicting votes."""
    arguments: Evidence = call.arguments
    reporter = acting_member(call, state, position=0, count=1)
    key = load_key(state, arguments.node_key)
    if key is None or key.kind != "node":
        raise ContractError("evidence.not_node_key", "node_key", "no member's node key")
    if not call.height - HEIGHTS_BACK_MAX <= arguments.height <= call.height:
        raise ContractError("evidence.out_of_range", "height", f"at most {HEIGHTS_BACK_MAX} heights back, none ahead")
    evidence = evidence_id(arguments.node_key, arguments.height)
    if load_evidence(state, evidence) is not None:
        raise ContractError("evidence.known", "height", "this key stands convicted for this height")
    if not contradict(arguments.first, arguments.second):
        raise ContractError("evidence.no_conflict", "second", NO_CONFLICT)
    try:
        verify_signatures(arguments, call.chain_id)
    except EvidenceError as error:
        raise ContractError("evidence.forged", error.field, str(error)) from None
    place = (arguments.epoch, arguments.view, arguments.height)
    previous = load_newest_evidence(state)
    entry = EvidenceEntry(key.member, arguments.node_key, reporter.name, *place, call.tx_id, call.time_ms, previous)
    return Changes(
        {evidence_key(evidence): encode(entry), newest_evidence_key(): encode(evidence)},
        (EquivocationProven(evidence, key.member, reporter.name, *place),),
    )
