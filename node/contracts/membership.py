"""Members: what a vote may change of them, what it changes in state, and how a member replaces its own keys."""

from collections.abc import Iterable
from typing import get_args

import msgspec

from node.contracts.contract import Call, Changes, ContractError, StateReader
from node.contracts.entries import (
    KeyEntry,
    KeyKind,
    MemberEntry,
    key_key,
    load_key,
    load_member,
    load_members,
    load_person,
    load_validators,
    member_key,
    members_key,
    validators_key,
)
from node.contracts.people import acting_organisation
from storage.schema.calls import Admit, Change, ReplaceKeys, SetRole
from storage.schema.codec import encode
from storage.schema.events import Event, KeysReplaced, MemberChanged, ValidatorsChanged
from storage.schema.signatures import is_sound_sealing_key, is_sound_signing_key
from storage.schema.validators import VALIDATORS_MAX, VALIDATORS_MIN, Validator, ValidatorSet

REKEY_PAUSE_MS = 24 * 3600 * 1000
Writes = dict[bytes, bytes | None]


def check_change(change: Change, state: StateReader) -> None:
    """Check that a change can be carried out on the members as they are.

    Raises:
        ContractError: it cannot; also by which a proposal ends whose ground has gone.
    """
    if isinstance(change, Admit):
        _check_newcomer(change, state)
        return
    member = present_member(change.name, state)
    if isinstance(change, SetRole) and (change.role == "validator") is ("validator" in member.roles):
        raise ContractError("member.role_same", "change.role", "the member has this role already")
    if "validator" in member.roles:
        _check_fewer(load_validators(state))


def present_member(name: str, state: StateReader) -> MemberEntry:
    """Return a member that a change names.

    Raises:
        ContractError: there is none, or it has been removed.
    """
    member = load_member(state, name)
    if member is None:
        raise ContractError("member.unknown", "change.name", "the network has no such member")
    if not member.roles:
        raise ContractError("member.removed", "change.name", "it has been removed, and does not come back")
    return member


def _check_newcomer(card: Admit, state: StateReader) -> None:
    if load_member(state, card.name) is not None:
        raise ContractError("member.name_used", "change.name", "a name is never given twice")
    if len(load_members(state)) >= VALIDATORS_MAX:
        raise ContractError("member.too_many", "change", f"a network has at most {VALIDATORS_MAX} members")
    _check_unused(_keys_of(card), state, "change.")


def check_sound(named: Admit | ReplaceKeys, where: str = "") -> None:
    """Check that no key of these would let anyone sign, or open, in the member's name.

    Raises:
        ContractError: names the key.
    """
    for kind, key in _keys_of(named).items():
        is_sound = is_sound_sealing_key(key) if kind == "encryption" else is_sound_signing_key(key)
        if not is_sound:
            raise ContractError("member.key_unsound", f"{where}{kind}_key", "no sound key of its kind")


def _keys_of(named: Admit | ReplaceKeys | MemberEntry) -> dict[KeyKind, bytes]:
    found = {kind: getattr(named, f"{kind}_key", None) for kind in get_args(KeyKind)}
    return {kind: key for kind, key in found.items() if key is not None}


def _check_unused(keys: dict[KeyKind, bytes], state: StateReader, where: str = "") -> None:
    for kind, key in keys.items():
        is_shared = list(keys.values()).count(key) > 1
        if is_shared or load_key(state, key) is not None or load_person(state, key) is not None:
            raise ContractError("member.key_used", f"{where}{kind}_key", "a key serves one purpose of one member, once")


def _check_fewer(validators: ValidatorSet) -> None:
    # A network that was founded with fewer keeps what it has: to refuse every change would not make it safer.
    count = len(validators.validators)
    least = min(count, VALIDATORS_MIN) if validators.engine == "pbft" else 1
    if count - 1 < least:
        raise ContractError("network.too_few_validators", "change", f"at least {least} must stay, of {count}")


def carry_out(change: Change, call: Call, state: StateReader) -> Changes:
    """Do what was decided; ``check_change`` has found that it can be done."""
    if isinstance(change, Admit):
        return _admit(change, state)
    before = present_member(change.name, state)
    if isinstance(change, SetRole):
        after = msgspec.structs.replace(before, roles=(change.role,))
        writes: Writes = {}
    else:
        after = msgspec.structs.replace(before, roles=())
        names = tuple(name for name in load_members(state) if name != change.name)
        writes = {members_key(): encode(names), **_retire(_keys_of(before), before.name, call)}
    writes[member_key(after.name)] = encode(after)
    seated, told = _seat(after, call, state)
    return Changes(writes | seated, (MemberChanged(after.name, after.organisation_key, after.roles), *told))


def _admit(card: Admit, state: StateReader) -> Changes:
    member = MemberEntry(
        card.name,
        card.organisation_key,
        card.node_key,
        card.service_key,
        card.encryption_key,
        card.addresses,
        ("observer",),
        None,
    )
    writes: Writes = {members_key(): encode(tuple(sorted((*load_members(state), card.name))))}
    writes |= member_state(member)
    return Changes(writes, (MemberChanged(member.name, member.organisation_key, member.roles),))


def member_state(member: MemberEntry) -> dict[bytes, bytes]:
    """Return what stands in state of a new member: itself, and whose each of its keys is."""
    state = {member_key(member.name): encode(member)}
    for kind, key in _keys_of(member).items():
        state[key_key(key)] = encode(KeyEntry(kind, member.name, None))
    return state


def _retire(keys: dict[KeyKind, bytes], member: str, call: Call) -> Writes:
    return {key_key(key): encode(KeyEntry(kind, member, call.time_ms)) for kind, key in keys.items()}


def _seat(member: MemberEntry, call: Call, state: StateReader) -> tuple[Writes, tuple[Event, ...]]:
    """Return what becomes of the validator set when a member is as it is now.

    Whatever else the block decides, the set after it is of the epoch in force plus one, or the set in force itself.
    """
    before = load_validators(state)
    others = [validator for validator in before.validators if validator.name != member.name]
    seats = [Validator(member.name, member.node_key)] if "validator" in member.roles else []
    after = _set_of((*others, *seats), call.validators)
    if after == before:
        return {}, ()
    return {validators_key(): encode(after)}, (ValidatorsChanged(after.epoch),)


def _set_of(validators: Iterable[Validator], in_force: ValidatorSet) -> ValidatorSet:
    ordered = tuple(sorted(validators, key=lambda validator: validator.name))
    if ordered == in_force.validators:
        return in_force
    return ValidatorSet(in_force.epoch + 1, in_force.engine, ordered)


def replace_keys(call: Call, state: StateReader) -> Changes:
    """Appoint other keys of a member, without a vote: its organisation key signs, at most once in 24 hours."""
    arguments: ReplaceKeys = call.arguments
    before = acting_organisation(call, state)
    keys = _keys_of(arguments)
    if not keys:
        raise ContractError("member.keys_none", "", "at least one of node, service and encryption key")
    if before.rekeyed_ms is not None and call.time_ms < before.rekeyed_ms + REKEY_PAUSE_MS:
        raise ContractError("member.keys_too_soon", "", "keys were replaced less than 24 hours ago")
    check_sound(arguments)
    _check_unused(keys, state)
    after = msgspec.structs.replace(
        before, **{f"{kind}_key": key for kind, key in keys.items()}, rekeyed_ms=call.time_ms
    )
    retired = {kind: key for kind, key in _keys_of(before).items() if kind in keys}
    writes = _retire(retired, before.name, call) | dict(member_state(after))
    seated, told = _seat(after, call, state)
    event = KeysReplaced(
        before.name, before.organisation_key, arguments.node_key, arguments.service_key, arguments.encryption_key
    )
    return Changes(writes | seated, (event, *told))
