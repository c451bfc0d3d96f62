"""``caretrace evidence``: what is proved against members whose nodes signed two things where one is allowed."""

import click

from cli.client import Json, part_of
from cli.command import Noun
from cli.options import reading
from cli.output import Answer, facts, table
from cli.session import Session


@click.group(cls=Noun)
def evidence() -> None:
    """Evidence against members that contradicted themselves."""


@evidence.command("list", example="caretrace evidence list --node north")
@reading
def list_evidence(session: Session) -> Answer:
    """List whose nodes signed two votes that contradict each other, the newest first."""
    fields = session.node.get("/v1/evidence", Json)
    rows = [
        [each.get("evidence"), each.get("member"), each.get("view"), each.get("height"), each.get("reporter")]
        for each in part_of(fields, "evidence", list[Json])
    ]
    return Answer(fields, table(["EVIDENCE", "MEMBER", "VIEW", "HEIGHT", "REPORTED BY"], rows, "nobody is convicted"))


@evidence.command("show", example="caretrace evidence show e-5f3a --node north")
@click.argument("which", metavar="EVIDENCE")
@reading
def show(session: Session, which: str) -> Answer:
    """Show what is proved against one member.

    The receipt of its transaction proves it to anyone.
    """
    fields = session.node.get(f"/v1/evidence/{session.resolve('e', which)}", Json)
    return Answer(fields, facts(fields.items()))
