"""``caretrace audit``: who saw what, when, why, under which consent, and what was refused."""

import csv
import io
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote

import click

from cli.client import Json, part_of
from cli.command import Noun
from cli.options import reading
from cli.output import Answer, rfc3339, table
from cli.session import Session
from cli.times import END, MOMENT

FIELDS = (
    *("time", "height", "transaction", "actor", "member", "action", "record", "category", "purpose", "consent"),
    *("outcome", "code", "served", "emergency", "reason"),
)
_KINDS = {
    "people": {"register-patient", "enrol-practitioner", "revoke-practitioner"},
    "records": {"add-record"},
    "consents": {"grant", "revoke", "exclude", "end-exclusion"},
    "reads": {"read", "serve"},
}
_FORMS = click.Choice(["table", "json", "csv"])
_ID_SHOWN = 12


class _Kinds(click.ParamType[frozenset[str]]):
    name = "KINDS"

    def convert(
        self, value: str | frozenset[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        if isinstance(value, frozenset):
            return value
        kinds = value.split(",")
        if unknown := set(kinds) - set(_KINDS):
            self.fail(f"{', '.join(sorted(unknown))}: not among {', '.join(_KINDS)}", param, ctx)
        return frozenset().union(*(_KINDS[kind] for kind in kinds))


def _trail_options(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def with_query(*positional: Any, from_s: int | None, until_s: int | None, **values: Any) -> Any:
        moments = {"from": from_s, "to": until_s}
        query = {name: None if moment is None else rfc3339(moment * 1000) for name, moment in moments.items()}
        return function(*positional, query=query, **values)

    command: Callable[..., Any] = with_query
    for option in (
        click.option("--without", type=_Kinds(), default=frozenset(), help=f"Leave out some of {', '.join(_KINDS)}."),
        click.option("--until", "until_s", type=END, help="Up to this block time; a day is meant to its end."),
        click.option("--from", "from_s", type=MOMENT, help="From this block time on."),
        click.option("--format", "form", type=_FORMS, default="table", show_default=True, help="Of the answer."),
    ):
        command = option(command)
    return command


@click.group(cls=Noun)
def audit() -> None:
    """The trail: every line of it has a receipt."""


@audit.command("patient", example="caretrace audit patient pia --node north\ncaretrace audit patient pia --format csv")
@click.argument("who", metavar="PATIENT")
@_trail_options
@reading
@click.pass_context
def patient(
    ctx: click.Context, session: Session, who: str, query: dict[str, object], form: str, without: frozenset[str]
) -> Answer:
    """Show what happened to a patient, oldest first."""
    fields = session.node.get(f"/v1/audit/patients/{quote(session.did(who))}", Json, **query)
    return _answer(ctx, session, fields, form, without)


@audit.command("record", example="caretrace audit record r-mfrgg --from 2026-11-01 --node north")
@click.argument("record_id", metavar="RECORD")
@_trail_options
@reading
@click.pass_context
def record(
    ctx: click.Context, session: Session, record_id: str, query: dict[str, object], form: str, without: frozenset[str]
) -> Answer:
    """Show what happened to one record, oldest first."""
    fields = session.node.get(f"/v1/audit/records/{quote(session.resolve('r', record_id))}", Json, **query)
    return _answer(ctx, session, fields, form, without)


def _answer(ctx: click.Context, session: Session, fields: Json, form: str, without: frozenset[str]) -> Answer:
    entries = [entry for entry in part_of(fields, "entries", list[Json]) if entry.get("action") not in without]
    fields["entries"] = entries
    ctx.meta["as_json"] |= form == "json"
    return Answer(fields, _as_csv(entries) if form == "csv" else _as_table(session, entries))


def _as_csv(entries: list[Json]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in entry.items()} for entry in entries)
    return text.getvalue().rstrip("\n")


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _as_table(session: Session, entries: list[Json]) -> str:
    rows = [
        [
            str(entry.get("time"))[:19].replace("T", " "),
            session.wallet.shown(str(entry.get("actor"))),
            entry.get("member"),
            entry.get("action"),
            _short(entry.get("record")),
            entry.get("category"),
            entry.get("purpose"),
            _short(entry.get("consent")),
            _outcome(entry),
            _short(entry.get("transaction")),
        ]
        for entry in entries
    ]
    columns = ["TIME (UTC)", "ACTOR", "MEMBER", "ACTION", "RECORD", "CATEGORY", "PURPOSE", "CONSENT", "OUTCOME", "TX"]
    return table(columns, rows, "nothing has happened")


def _outcome(entry: Json) -> str:
    if entry.get("outcome") != "ok":
        return f"refused: {entry.get('code')}"
    if entry.get("action") == "read":
        return "read" if entry.get("served") else "permitted, not served"
    return "ok"


def _short(identifier: object) -> str:
    return str(identifier)[:_ID_SHOWN] if identifier else "-"
