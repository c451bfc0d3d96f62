"""The heart: may this be done to this record, and which provision says so (docs/spec/contracts.md, Decision).

Inside one consent the deepest provision whose ancestors all match decides, and at equal depth deny. A deny inside a
grant narrows that grant only. Any standing grant permits, unless a standing exclusion matches; nothing matches: deny.
The same function decides on the ledger, at the custodian, and in a check that nobody is bound by.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Literal

import msgspec

from node.contracts.entries import ConsentEntry
from storage.schema.calls import Provision
from storage.schema.codec import typed_id

Reason = Literal["own", "granted", "excluded", "narrowed", "spent", "uncovered"]
NAMED_MAX = 3

_DIFFERENCES = {
    "period": "is not in force at this time",
    "actor": "is for others",
    "action": "is for other actions",
    "purpose": "is for other purposes",
    "category": "is for other categories",
    "tag": "is for other labels",
    "record": "is for other records",
    "year": "is for other years",
}


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is asked: who, for what, of which record, when.

    ``practitioner`` is None, and ``role`` empty, when a member acts by itself; ``role`` is written as in provisions,
    ``north/physician``. ``record`` is None for one that does not exist yet; ``year`` is 0 when it is not known.
    """

    practitioner: bytes | None
    member: str
    role: str
    action: str
    purpose: str
    record: bytes | None
    category: str
    tags: tuple[bytes, ...]
    year: int
    time_s: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The answer, the consent and the way to the provision in it that decided, and the permit's last second.

    ``path`` counts from 1 at each level: () is the consent's root, (2, 1) the first provision in its second.
    """

    is_permitted: bool
    reason: Reason
    consent: bytes | None = None
    path: tuple[int, ...] = ()
    end_s: int | None = None

    @property
    def code(self) -> str:
        """``ok``, or the one code that every refusal by consent has: it does not say which provision decided."""
        return "ok" if self.is_permitted else "consent.denied"


OWN = Decision(True, "own")
BECAUSE_OWN = "patients may always read their own records"
UNCOVERED = Decision(False, "uncovered")


def decide(consents: Iterable[tuple[bytes, ConsentEntry]], request: Request, spent: Container[bytes] = ()) -> Decision:
    """Decide one request by a patient's consents and exclusions, given with their ids.

    ``spent`` are the consents whose uses this practitioner has had. Of several grants that permit, the first without
    a limit of uses answers, so that no use is spent in vain; else the first.
    """
    granted: Decision | None = None
    is_limited = True
    refused = UNCOVERED
    for consent, entry in consents:
        if entry.ended_ms is not None:
            continue
        found = _deciding(entry.provision, request)
        if found is None:
            continue
        _, effect, path, end_s = found
        if entry.is_exclusion:
            if effect == "deny":
                return Decision(False, "excluded", consent, path)
        elif effect == "deny":
            refused = Decision(False, "narrowed", consent, path)
        elif consent in spent:
            refused = Decision(False, "spent", consent, path)
        elif granted is None or (is_limited and entry.uses is None):
            granted = Decision(True, "granted", consent, path, end_s)
            is_limited = entry.uses is not None
    return granted or refused


def _deciding(provision: Provision, request: Request) -> tuple[int, str, tuple[int, ...], int | None] | None:
    # Depth, effect, path and earliest end of the deepest match; at equal depth the first deny, or else the first.
    if difference(provision, request):
        return None
    best: tuple[int, str, tuple[int, ...], int | None] = (0, provision.effect, (), provision.period.end)
    for place, child in enumerate(provision.provisions, start=1):
        below = _deciding(child, request)
        if below is None:
            continue
        depth = below[0] + 1
        if depth > best[0] or (depth == best[0] and below[1] == "deny" and best[1] == "permit"):
            best = (depth, below[1], (place, *below[2]), _earlier(provision.period.end, below[3]))
    return best


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def difference(provision: Provision, request: Request) -> str:
    """Return the first criterion by which a provision, taken alone, does not match a request; empty if it matches.

    Of a record the ledger may not know the year: then a permit matches, because it may, and a denial does not,
    because it need not; the custodian, who knows, asks again with the year.
    """
    period = provision.period
    if (period.end is not None and request.time_s > period.end) or (
        period.start is not None and request.time_s < period.start
    ):
        return "period"
    if not _is_for(provision, request):
        return "actor"
    if provision.purposes and request.purpose not in provision.purposes:
        return "purpose"
    if provision.categories and request.category not in provision.categories:
        return "category"
    if provision.actions and request.action not in provision.actions:
        return "action"
    if provision.records and request.record not in provision.records:
        return "record"
    if provision.tags and not any(tag in provision.tags for tag in request.tags):
        return "tag"
    return "" if _is_of_years(provision, request.year) else "year"


def _is_for(provision: Provision, request: Request) -> bool:
    if request.practitioner in provision.practitioners or request.member in provision.members:
        return True
    if request.role in provision.roles:
        return True
    # IHE Privacy Consent on FHIR: a provision that names no actor speaks of everyone.
    return not (provision.practitioners or provision.members or provision.roles)


def _is_of_years(provision: Provision, year: int) -> bool:
    first, last = provision.years.start, provision.years.end
    if first is None and last is None:
        return True
    if year == 0:
        return provision.effect == "permit"
    return (first is None or year >= first) and (last is None or year <= last)


def explain(decision: Decision, consents: Sequence[tuple[bytes, ConsentEntry]], request: Request) -> str:
    """Say in words what decided. It is for the patient and their delegates only."""
    if decision.reason == "own":
        return BECAUSE_OWN
    if decision.reason == "uncovered":
        return _why_uncovered(consents, request)
    assert decision.consent is not None, "all other reasons name what decided"
    entry = dict(consents)[decision.consent]
    name = typed_id("x" if entry.is_exclusion else "c", decision.consent)
    where = f"{name}, {provision_name(decision.path)}"
    verbs = {
        "granted": "permits it",
        "excluded": "shuts it out, whatever is granted",
        "narrowed": "leaves it out of what that consent grants",
        "spent": "would permit it, but all its uses by this practitioner are spent",
    }
    return f"{where}, {verbs[decision.reason]}: {describe(provision_at(entry.provision, decision.path))}"


def _why_uncovered(consents: Sequence[tuple[bytes, ConsentEntry]], request: Request) -> str:
    reasons = [
        f"{typed_id('c', consent)} {_DIFFERENCES[difference(entry.provision, request)]}"
        for consent, entry in consents
        if not entry.is_exclusion and entry.ended_ms is None
    ]
    if not reasons:
        return "no consent in force speaks of this asker"
    more = f"; and {len(reasons) - NAMED_MAX} more" if len(reasons) > NAMED_MAX else ""
    return "no consent covers it: " + "; ".join(reasons[:NAMED_MAX]) + more


def provision_name(path: tuple[int, ...]) -> str:
    """Name a provision by its place: ``the consent itself``, or such as ``provision 2.1``."""
    return f"provision {'.'.join(map(str, path))}" if path else "the consent itself"


def provision_at(root: Provision, path: tuple[int, ...]) -> Provision:
    """Return the provision at a place."""
    for place in path:
        root = root.provisions[place - 1]
    return root


def describe(provision: Provision) -> str:
    """Say in words what a provision, taken alone, speaks of; people and labels are counted, not named."""
    parts: list[str] = [provision.effect]
    for word, values in (
        ("member", provision.members),
        ("role", provision.roles),
        ("action", provision.actions),
        ("purpose", provision.purposes),
        ("category", provision.categories),
    ):
        if values:
            parts.append(f"{word} {', '.join(values)}")
    for word, count in (
        ("practitioner", len(provision.practitioners)),
        ("label", len(provision.tags)),
        ("record", len(provision.records)),
    ):
        if count:
            parts.append(f"{count} {word}{'s' if count > 1 else ''}")
    if provision.years.start is not None or provision.years.end is not None:
        parts.append(f"years {provision.years.start or ''}-{provision.years.end or ''}")
    return "; ".join(parts)
