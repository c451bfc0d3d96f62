"""The rules of consent and access as a plain model: what code each act of a story should have, from lists and dicts.

It knows two practitioners of south, ben and eve, one patient, pia, and her records; it looks at no state of ours.
"""

from dataclasses import dataclass, field


@dataclass
class Deed:
    """A grant or an exclusion: for whom ("ben", "eve", "south" or "all"), of which category, for which purpose."""

    excludes: bool
    whom: str
    category: str
    purpose: str
    uses: int | None = None
    end_s: int | None = None
    ended: bool = False
    used: dict[str, int] = field(default_factory=dict)

    def covers(self, who: str, category: str, purpose: str, now_s: int) -> bool:
        return (
            not self.ended
            and self.whom in (who, "south", "all")
            and self.category in (category, "any")
            and (self.excludes or self.purpose == purpose)
            and (self.end_s is None or now_s <= self.end_s)
        )


@dataclass
class Permit:
    who: str
    category: str
    purpose: str
    deed: Deed
    until_s: float
    served: bool = False


@dataclass
class Model:
    permit_s: int
    deeds: list[Deed] = field(default_factory=list)
    permits: list[Permit] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)

    def grant(self, deed: Deed, now_s: int) -> str:
        if deed.end_s is not None and deed.end_s < now_s:
            return "consent.period_over"
        self.deeds.append(deed)
        return "ok"

    def end(self, number: int) -> str:
        deed = self.deeds[number]
        if deed.ended:
            return "consent.exclusion_already_ended" if deed.excludes else "consent.already_revoked"
        deed.ended = True
        return "ok"

    def dismiss(self, who: str) -> str:
        if who in self.revoked:
            return "identity.revoked"
        self.revoked.add(who)
        return "ok"

    def request(self, who: str, category: str, purpose: str, now_s: int) -> str:
        if who in self.revoked:
            return "identity.revoked"
        covering = [deed for deed in self.deeds if deed.covers(who, category, purpose, now_s)]
        if any(deed.excludes for deed in covering):
            return "consent.denied"
        usable = [deed for deed in covering if deed.uses is None or deed.used.get(who, 0) < deed.uses]
        if not usable:
            return "consent.denied"
        # Those that name the practitioner come first, then the member's, then everyone's; unlimited before limited.
        order = [who, "south", "all"]
        chosen = min(usable, key=lambda deed: (deed.uses is not None, order.index(deed.whom), self.deeds.index(deed)))
        chosen.used[who] = chosen.used.get(who, 0) + 1
        until_s = now_s + self.permit_s if chosen.end_s is None else min(now_s + self.permit_s, chosen.end_s)
        self.permits.append(Permit(who, category, purpose, chosen, until_s))
        return "ok"

    def serve(self, number: int, now_s: int) -> str:
        permit = self.permits[number]
        if permit.served:
            return "access.already_served"
        if now_s > permit.until_s:
            return "access.permit_ended"
        if permit.who in self.revoked:
            return "identity.revoked"
        excluded = any(
            deed.excludes and deed.covers(permit.who, permit.category, permit.purpose, now_s) for deed in self.deeds
        )
        if permit.deed.ended or excluded:
            return "consent.denied"
        permit.served = True
        return "ok"
