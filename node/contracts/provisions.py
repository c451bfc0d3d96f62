"""What a provision may say: limits, periods in order, and codes, members and records that exist."""

from collections.abc import Container, Sequence

from node.contracts.contract import Call, ContractError, StateReader
from node.contracts.entries import load_member, load_record
from storage.schema.calls import PROVISIONS_MAX, Provision
from storage.schema.codes import ACTIONS, CATEGORIES, PURPOSES, ROLES


def check_provisions(root: Provision, call: Call, state: StateReader) -> None:
    """Check a consent's tree of provisions as its patient states it in a call.

    Raises:
        ContractError: names the place and the rule.
    """
    if root.period.end is not None and root.period.end < call.time_s:
        raise ContractError("consent.period_over", "provision.period.end", "it is over already")
    if count_provisions(root) > PROVISIONS_MAX:
        raise ContractError("consent.too_many_provisions", "provision", f"at most {PROVISIONS_MAX} in all")
    _check(root, "provision", call.signers[0], state)


def permits_anything(provision: Provision) -> bool:
    """Tell whether a provision, or one below it, is a permit."""
    return provision.effect == "permit" or any(map(permits_anything, provision.provisions))


def count_provisions(provision: Provision) -> int:
    """Return how many provisions there are, itself and below."""
    return 1 + sum(map(count_provisions, provision.provisions))


def _check(provision: Provision, where: str, patient: bytes, state: StateReader) -> None:
    for name, period in (("period", provision.period), ("years", provision.years)):
        if period.start is not None and period.end is not None and period.start > period.end:
            raise ContractError("consent.period_reversed", f"{where}.{name}.end", "it ends before it starts")
    _known(provision.purposes, PURPOSES, "purpose.unknown", f"{where}.purposes")
    _known(provision.categories, CATEGORIES, "category.unknown", f"{where}.categories")
    _known(provision.actions, ACTIONS, "action.unknown", f"{where}.actions")
    if provision.members or provision.roles:
        _check_members(provision, where, state)
    for place, record in enumerate(provision.records):
        entry = load_record(state, record)
        if entry is None or entry.patient != patient:
            raise ContractError("record.not_found", f"{where}.records[{place}]", "no record of this patient")
    for place, child in enumerate(provision.provisions):
        _check(child, f"{where}.provisions[{place}]", patient, state)


def _check_members(provision: Provision, where: str, state: StateReader) -> None:
    roles = [role.partition("/") for role in provision.roles]
    _known([role for _, _, role in roles], ROLES, "role.unknown", f"{where}.roles")
    for field, names in (("members", provision.members), ("roles", [member for member, _, _ in roles])):
        for place, name in enumerate(names):
            if load_member(state, name) is None:
                raise ContractError("member.unknown", f"{where}.{field}[{place}]", "the network has no such member")


def _known(values: Sequence[str], table: Container[str], code: str, field: str) -> None:
    for place, value in enumerate(values):
        if value not in table:
            raise ContractError(code, f"{field}[{place}]", "no such code is known here")
