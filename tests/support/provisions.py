"""Short ways to write provisions, and hypothesis strategies that make them over few codes, so that they often match."""

from typing import Any

from hypothesis import strategies as st

from storage.schema.calls import Period, Provision

OPEN = Period(None, None)
PRACTITIONERS = tuple(bytes([number]) * 32 for number in (1, 2))
RECORDS = tuple(bytes([number]) * 32 for number in (7, 8))
TAGS = tuple(bytes([number]) * 16 for number in (4, 5))
MEMBERS = ("north", "south")
ROLES = ("north/nurse", "north/physician", "south/physician")
ACTIONS = ("correct", "read")
PURPOSES = ("HRESCH", "TREAT")
CATEGORIES = ("laboratory", "note")


def provision(effect: str = "permit", **criteria: Any) -> Provision:
    """A provision of which only what is given restricts."""
    fields: dict[str, Any] = {
        "period": OPEN,
        "practitioners": (),
        "members": (),
        "roles": (),
        "actions": (),
        "purposes": (),
        "categories": (),
        "tags": (),
        "records": (),
        "years": OPEN,
        "provisions": (),
    }
    return Provision(effect=effect, **(fields | criteria))


def some(values: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Mostly no restriction, so that what lies deep is reached; else one or two of the values."""
    restriction = st.lists(st.sampled_from(values), min_size=1, max_size=2).map(tuple)
    return st.integers(0, 7).flatmap(lambda roll: restriction if roll == 7 else st.just(()))


def periods(low: int, high: int) -> st.SearchStrategy[Period]:
    end = st.integers(0, 5).flatmap(lambda roll: st.integers(low, high) if roll == 5 else st.none())
    return st.builds(Period, end, end)


def provisions(levels: int = 3) -> st.SearchStrategy[Provision]:
    """Trees of at most so many levels."""
    children = st.lists(provisions(levels - 1), max_size=2).map(tuple) if levels > 1 else st.just(())
    return st.builds(
        Provision,
        effect=st.sampled_from(("permit", "deny")),
        period=periods(90, 110),
        practitioners=some(PRACTITIONERS),
        members=some(MEMBERS),
        roles=some(ROLES),
        actions=some(ACTIONS),
        purposes=some(PURPOSES),
        categories=some(CATEGORIES),
        tags=some(TAGS),
        records=some(RECORDS),
        years=periods(2018, 2022),
        provisions=children,
    )
