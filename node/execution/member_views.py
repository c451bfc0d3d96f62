"""What interfaces read of governance: the members, removed ones by name, and proposals with their votes."""

from typing import Any

from node.contracts.contract import StateReader
from node.contracts.entries import load_member, load_members, load_validators
from node.contracts.proposals import ProposalEntry, load_proposal, load_proposals
from node.execution.rendering import show_id, show_time_ms
from storage.schema.calls import Admit, Change, SetRole

PAGE_LENGTH_MAX = 100
Shown = dict[str, Any]


def show_member(state: StateReader, name: str) -> Shown | None:
    """Show a member, present or removed, and its public keys, in hex; None if there never was one of this name."""
    member = load_member(state, name)
    if member is None:
        return None
    return {
        "name": member.name,
        "roles": list(member.roles),
        "validates": load_validators(state).position(name) is not None,
        "removed": not member.roles,
        "addresses": list(member.addresses),
        "organisation_key": member.organisation_key.hex(),
        "node_key": member.node_key.hex(),
        "service_key": member.service_key.hex(),
        "encryption_key": member.encryption_key.hex(),
        "keys_replaced": None if member.rekeyed_ms is None else show_time_ms(member.rekeyed_ms),
    }


def list_members(state: StateReader, after: str = "", limit: int = PAGE_LENGTH_MAX) -> Shown:
    """List the present members by name, from the one behind ``after``; ``next`` goes on, or is None."""
    names = [name for name in load_members(state) if name > after]
    shown = [show_member(state, name) for name in names[:limit]]
    return {"members": shown, "next": names[limit - 1] if len(names) > limit else None}


def show_proposal(state: StateReader, proposal: bytes, time_ms: int) -> Shown | None:
    """Show a proposal and its votes; approvals and rejections are those that count, by the validators of now."""
    entry = load_proposal(state, proposal)
    return None if entry is None else _shown(state, proposal, entry, time_ms)


def _shown(state: StateReader, proposal: bytes, entry: ProposalEntry, time_ms: int) -> Shown:
    validators = load_validators(state)
    voters = frozenset(validator.name for validator in validators.validators)
    return {
        "proposal": show_id("proposal", proposal),
        "member": entry.member,
        "change": show_change(entry.change),
        "evidence": None if entry.evidence is None else entry.evidence.hex(),
        "status": _status(entry, time_ms),
        "height": entry.height,
        "time": show_time_ms(entry.time_ms),
        "until": show_time_ms(entry.until_ms),
        "ended": None if entry.ended_ms is None else show_time_ms(entry.ended_ms),
        "votes": [{"member": ballot.member, "approve": ballot.approve} for ballot in entry.ballots],
        "approvals": entry.supporters(voters),
        "rejections": entry.opponents(voters),
        "quorum": validators.quorum,
    }


def show_change(change: Change) -> Shown:
    """Show what a proposal would change; of a hospital that applies all that its card says."""
    shown: Shown = {"kind": change.kind, "name": change.name}
    if isinstance(change, SetRole):
        return shown | {"role": change.role}
    if isinstance(change, Admit):
        keys = ("organisation_key", "node_key", "service_key", "encryption_key")
        return shown | {key: getattr(change, key).hex() for key in keys} | {"addresses": list(change.addresses)}
    return shown


def list_proposals(
    state: StateReader, time_ms: int, before: bytes | None = None, limit: int = PAGE_LENGTH_MAX
) -> Shown:
    """List proposals, the newest first, or those made before ``before``, which stands; ``next`` goes on, or is None."""
    found = load_proposals(state).newest if before is None else _entry(state, before).previous
    shown: list[Shown] = []
    while found is not None and len(shown) < limit:
        entry = _entry(state, found)
        shown.append(_shown(state, found, entry, time_ms))
        found = entry.previous
    return {"proposals": shown, "next": None if found is None else shown[-1]["proposal"]}


def _entry(state: StateReader, proposal: bytes) -> ProposalEntry:
    entry = load_proposal(state, proposal)
    assert entry is not None, "a chain leads to what stands"
    return entry


def _status(entry: ProposalEntry, time_ms: int) -> str:
    if entry.ending is not None:
        return entry.ending
    return "expired" if entry.until_ms < time_ms else "open"
