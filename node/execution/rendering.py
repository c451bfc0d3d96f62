"""How values of the ledger are shown: DIDs, typed ids and times as text, provisions and events as named fields."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from node.keys.did import encode_did
from storage.schema.calls import Period, Provision
from storage.schema.codec import typed_id
from storage.schema.events import Event

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = 253_402_300_799
_PREFIXES = {
    "record": "r",
    "consent": "c",
    "exclusion": "x",
    "access": "a",
    "proposal": "p",
    "evidence": "e",
}
_PEOPLE = frozenset({"patient", "practitioner", "requester"})


def show_time_ms(time_ms: int) -> str:
    """Write a time in milliseconds since 1970 as RFC 3339 UTC; what lies after the year 9999 as its last moment."""
    moment = _EPOCH + timedelta(milliseconds=min(time_ms, _LAST_S * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show_time_s(time_s: int) -> str:
    """Write a time in seconds since 1970 as RFC 3339 UTC; what lies after the year 9999 as its last moment."""
    moment = _EPOCH + timedelta(seconds=min(time_s, _LAST_S))
    return moment.isoformat().replace("+00:00", "Z")


def show_id(kind: str, raw: bytes | None) -> str | None:
    """Write an identifier for people: a DID for a person, a typed id for what the ledger made."""
    if raw is None:
        return None
    return encode_did(raw) if kind in _PEOPLE else typed_id(_PREFIXES[kind], raw)


def show_period(period: Period) -> dict[str, str | None]:
    """Show a period of block time; an open end is None."""
    return {
        "start": None if period.start is None else show_time_s(period.start),
        "end": None if period.end is None else show_time_s(period.end),
    }


def show_provision(provision: Provision) -> dict[str, Any]:
    """Show a provision and those in it; an empty list does not restrict."""
    return {
        "effect": provision.effect,
        "period": show_period(provision.period),
        "practitioners": [encode_did(practitioner) for practitioner in provision.practitioners],
        "members": list(provision.members),
        "roles": list(provision.roles),
        "actions": list(provision.actions),
        "purposes": list(provision.purposes),
        "categories": list(provision.categories),
        "tags": [tag.hex() for tag in provision.tags],
        "records": [typed_id("r", record) for record in provision.records],
        "years": {"start": provision.years.start, "end": provision.years.end},
        "provisions": [show_provision(child) for child in provision.provisions],
    }


def show_event(event: Event) -> dict[str, Any]:
    """Show an event: its kind, then its fields; times lose the unit in their name."""
    shown: dict[str, Any] = {"kind": str(event.__struct_config__.tag)}
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name in _PEOPLE or field.name in _PREFIXES:
            shown[field.name] = show_id(field.name, value)
        elif field.name.endswith("_ms"):
            shown[field.name.removesuffix("_ms")] = show_time_ms(value)
        elif field.name.endswith("_s"):
            shown[field.name.removesuffix("_s")] = show_time_s(value)
        elif isinstance(value, bytes):
            shown[field.name] = value.hex()
        else:
            shown[field.name] = value
    return shown
