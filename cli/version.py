"""``caretrace version``: what runs here."""

import platform
from importlib.metadata import version as version_of

import click

from cli.command import Verb
from cli.output import Answer, facts


@click.command(cls=Verb, example="caretrace version --json")
def version() -> Answer:
    """Show the version of CareTrace and of what it stands on."""
    fields = {"version": version_of("caretrace"), "python": platform.python_version(), "pynacl": version_of("pynacl")}
    return Answer(fields, facts(fields.items()))
