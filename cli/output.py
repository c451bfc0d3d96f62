"""What a command answers, once as fields for machines and once as text for people."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from cli.errors import Exit, printable


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command: ``fields`` with ``--json``, else ``text``; both go to standard output.

    ``note`` goes to standard error beside the text, where standard output is for something else.
    """

    fields: dict[str, Any]
    text: str = ""
    note: str = ""
    exit_code: Exit = field(default=Exit.OK)


def show(answer: Answer, schema: str, *, as_json: bool) -> None:
    """Print an answer."""
    if as_json:
        click.echo(json.dumps({"schema": schema} | answer.fields))
        return
    if answer.text:
        click.echo(answer.text)
    if answer.note:
        click.echo(printable(answer.note), err=True)


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Write names and values in two columns; what is None is left out."""
    rows = [(name, shown(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> str:
    """Write rows under their column names, as wide as needed; ``empty`` says in words that there are none."""
    body = [[shown(value) for value in row] for row in rows]
    if not body:
        return empty
    widths = [max(map(len, cells)) for cells in zip(columns, *body, strict=True)]
    head = click.style(_line(columns, widths), bold=True)
    return "\n".join([head, *(_line(row, widths) for row in body)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def shown(value: object) -> str:
    """Write one value for people, harmless on a terminal."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(item)}" for name, item in value.items())
    return printable(str(value)).replace("\n", " ")


def rfc3339(time_ms: int) -> str:
    """Write a block time (milliseconds since 1970) as RFC 3339 UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
