"""The decision once more, as plainly as it can be said, for comparison: all chains of provisions, listed and sorted."""

from collections.abc import Collection, Iterable

from node.contracts.entries import ConsentEntry
from node.contracts.policy import Request
from storage.schema.calls import Provision


def model_permits(consents: Iterable[tuple[bytes, ConsentEntry]], request: Request, spent: Collection[bytes]) -> bool:
    standing = [(name, entry) for name, entry in consents if entry.ended_ms is None]
    excluded = any(verdict(entry.provision, request) == "deny" for _, entry in standing if entry.is_exclusion)
    granted = any(
        verdict(entry.provision, request) == "permit"
        for name, entry in standing
        if not entry.is_exclusion and name not in spent
    )
    return granted and not excluded


def verdict(root: Provision, request: Request) -> str:
    """The effect of the longest chains that match in every link, or nothing."""
    matching = [chain for chain in chains(root) if all(matches(link, request) for link in chain)]
    longest = max(map(len, matching), default=0)
    effects = {chain[-1].effect for chain in matching if len(chain) == longest}
    if not effects:
        return ""
    return "deny" if "deny" in effects else "permit"


def chains(root: Provision) -> list[list[Provision]]:
    return [[root]] + [[root, *chain] for child in root.provisions for chain in chains(child)]


def matches(link: Provision, request: Request) -> bool:
    named = {*link.practitioners, *link.members, *link.roles}
    asking = {request.practitioner, request.member, request.role}
    listed = [
        (named, asking),
        (set(link.actions), {request.action}),
        (set(link.purposes), {request.purpose}),
        (set(link.categories), {request.category}),
        (set(link.records), {request.record}),
        (set(link.tags), set(request.tags)),
    ]
    if any(wanted and not wanted & given for wanted, given in listed):
        return False
    if not inside(request.time_s, link.period.start, link.period.end):
        return False
    if link.years.start is None and link.years.end is None:
        return True
    if request.year == 0:
        return link.effect == "permit"
    return inside(request.year, link.years.start, link.years.end)


def inside(value: int, start: int | None, end: int | None) -> bool:
    return value >= (value if start is None else start) and value <= (value if end is None else end)
