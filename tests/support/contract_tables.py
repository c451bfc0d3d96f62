"""The tables of docs/spec/contracts.md, made from the code that they describe.

``python -m tests.support.contract_tables`` writes them anew; a test compares them.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from node.contracts import entries, evidence, proposals
from storage.schema import calls, codes, refusals, seen
from tests.support.source_tree import ROOT

SPEC = ROOT / "docs" / "spec" / "contracts.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

SIGNERS = {
    "identity.register_patient": "the patient's new key, then the sponsor's service key",
    "identity.enrol_practitioner": "the practitioner's key, then the member's service key",
    "identity.revoke_practitioner": "the enrolling member's service key",
    "record.register": "the custodian's service key",
    "consent.grant": "the patient",
    "consent.revoke": "the patient",
    "consent.exclude": "the patient",
    "consent.end_exclusion": "the patient",
    "access.request": "the reader",
    "access.served": "the custodian's service key",
    "network.propose": "the organisation key of a member that validates",
    "network.vote": "the organisation key of a member that validates",
    "network.replace_keys": "the member's organisation key",
    "network.evidence": "the reporting member's service key",
}
VALUES: dict[Callable[..., bytes], str] = {
    entries.members_key: "list of text",
    entries.validators_key: "the validator set, as in `block.md`",
    entries.member_key: "MemberEntry",
    entries.key_key: "KeyEntry",
    entries.person_key: "Patient or Practitioner",
    entries.practitioners_key: "bytes: the DID of the newest",
    entries.record_key: "RecordEntry",
    entries.consent_key: "ConsentEntry",
    entries.practitioner_index_key: "list of Standing",
    entries.member_index_key: "list of Standing",
    entries.everyone_index_key: "list of Standing",
    entries.uses_key: "integer",
    entries.access_key: "AccessEntry",
    evidence.evidence_key: "EvidenceEntry",
    evidence.newest_evidence_key: "bytes: the newest evidence's id",
    seen.seen_key: "SHA-256 over the sorted ids, 32 raw bytes",
    seen.seen_count_key: "integer",
    proposals.proposals_key: "Proposals",
    proposals.proposal_key: "ProposalEntry",
}
FORMS = (
    entries.MemberEntry,
    entries.KeyEntry,
    entries.Patient,
    entries.Practitioner,
    entries.RecordEntry,
    entries.ConsentEntry,
    entries.Standing,
    entries.AccessEntry,
    proposals.Proposals,
    proposals.ProposalEntry,
    proposals.Ballot,
    evidence.EvidenceEntry,
)
CHANGES = (calls.Admit, calls.SetRole, calls.Remove)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(list(head)), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def form(kind: Any) -> str:
    """Say in words what values a type has."""
    match kind:
        case msgspec.inspect.StructType():
            return f"{kind.cls.__name__}"
        case msgspec.inspect.UnionType():
            return " or ".join(form(option) for option in kind.types)
        case msgspec.inspect.VarTupleType():
            return f"list of {form(kind.item_type)}" + (f", at most {kind.max_length}" if kind.max_length else "")
        case msgspec.inspect.BytesType():
            return "bytes" + sized(kind.min_length, kind.max_length)
        case msgspec.inspect.StrType():
            return "text" + (f" `{kind.pattern}`" if kind.pattern else sized(kind.min_length, kind.max_length))
        case msgspec.inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in kind.values)
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.NoneType():
            return "nil"
    raise AssertionError(kind)


def sized(least: int | None, most: int | None) -> str:
    if least is not None and least == most:
        return f", {least}"
    return "" if most is None else f", {least or 0} to {most}"


def fields(kind: type) -> str:
    described = msgspec.inspect.type_info(kind)
    tag = f'`"{described.tag}"`, ' if described.tag else ""
    return tag + "; ".join(f"{field.name}: {form(field.type)}" for field in described.fields)


def methods() -> str:
    return table(
        ("method", "urgent", "signers, in order", "arguments, in order"),
        (
            (f"`{name}`", "yes" if method.urgent else "", SIGNERS[name], fields(method.arguments))
            for name, method in calls.METHODS.items()
        ),
    )


def provisions() -> str:
    return table(
        ("form", "fields, in order"),
        ((kind.__name__, fields(kind)) for kind in (calls.Provision, calls.Period, calls.SignedVote)),
    )


def changes() -> str:
    return table(
        ("form", "what it is", "fields, in order"), ((kind.__name__, words(kind), fields(kind)) for kind in CHANGES)
    )


def keys() -> str:
    return table(
        ("key", "value", "what stands there"),
        ((f"`{pattern(build)}`", value, words(build)) for build, value in VALUES.items()),
    )


def pattern(build: Callable[..., bytes]) -> str:
    """Call a builder with values that can be recognised in its key, and put the names of its parts in their place."""
    parts = inspect.signature(build).parameters
    given: dict[str, Any] = {}
    shown: dict[bytes, str] = {}
    for number, (name, part) in enumerate(parts.items(), start=1):
        given[name] = {bytes: bytes([number]) * 32, str: f"name{number}", int: number}[part.annotation]
        raw = {bytes: given[name], str: f"name{number}".encode(), int: number.to_bytes(8, "big")}[part.annotation]
        shown[raw] = f"<{name}{' 8' if part.annotation is int else '' if part.annotation is str else ' 32'}>"
    text = build(**given)
    for raw, name in shown.items():
        assert text.count(raw) == 1
        text = text.replace(raw, name.encode())
    return text.decode()


def words(described: Any) -> str:
    return str(inspect.getdoc(described)).splitlines()[0].replace("``", "`")


def values() -> str:
    return table(
        ("form", "what it is", "fields, in order"), ((kind.__name__, words(kind), fields(kind)) for kind in FORMS)
    )


def refused() -> str:
    return table(
        ("code", "why", "what to try"),
        ((f"`{code}`", refusal.words, refusal.hint) for code, refusal in refusals.ON_THE_LEDGER.items()),
    )


def not_admitted() -> str:
    return table(
        ("code", "why", "what to try"),
        ((f"`{code}`", refusal.words, refusal.hint) for code, refusal in refusals.BEFORE_THE_LEDGER.items()),
    )


def categories() -> str:
    return table(
        ("category", "what", "coding", "FHIR R4 resources"),
        (
            (
                f"`{category.name}`",
                category.display,
                f"{category.system} {category.code}",
                ", ".join(category.resource_types),
            )
            for category in codes.CATEGORIES.values()
        ),
    )


def other_codes() -> str:
    return table(
        ("what", "codes"),
        (
            ("purpose of use (HL7 v3 ActReason)", ", ".join(f"`{code}`" for code in codes.PURPOSES)),
            ("role", ", ".join(f"`{code}`" for code in codes.ROLES)),
            (
                "action (FHIR R4 consent action)",
                ", ".join(f"`{code}` ({fhir})" for code, fhir in codes.ACTIONS.items()),
            ),
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (methods, provisions, changes, keys, values, refused, not_admitted, categories, other_codes)
}


def with_tables(text: str) -> str:
    """Return a text with the content of every marked table made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    SPEC.write_text(with_tables(SPEC.read_text(encoding="utf-8")), encoding="utf-8")
