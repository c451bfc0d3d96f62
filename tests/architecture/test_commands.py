import re
from collections.abc import Iterator

import click
import pytest

from cli.main import caretrace
from tests.support.source_tree import ROOT


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command that a person may type, with its whole name; groups too."""
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{context.command_path} lists {name} and does not know it"
            if not child.hidden:
                yield from commands(child, click.Context(child, parent=context, info_name=name))


def shown_help(path: str, command: click.Command) -> str:
    """What ``--help`` prints: the usage, a blank line, and the rest."""
    return command.get_help(click.Context(command, info_name=path, terminal_width=200))


EVERY = list(commands(caretrace, click.Context(caretrace, info_name="caretrace")))
LEAVES = [(path, command) for path, command in EVERY if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[path for path, _ in EVERY])
def test_a_command_says_what_it_is_for(path: str, command: click.Command) -> None:
    assert command.help
    assert command.get_short_help_str()


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_a_command_shows_an_example(path: str, command: click.Command) -> None:
    _, _, words = shown_help(path, command).partition("\n\n")

    assert re.search(rf"^\s*(?:\$ )?{re.escape(path)}(?![\w-])", words, flags=re.MULTILINE), words


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_option_of_a_command_says_what_it_does(path: str, command: click.Command) -> None:
    silent = [
        option.opts[-1]
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]

    assert silent == []


@pytest.mark.parametrize("path", [path for path, _ in LEAVES])
def test_a_command_stands_in_the_reference(path: str) -> None:
    reference = (ROOT / "docs" / "cli.md").read_text()

    assert re.search(rf"{re.escape(path)}(?![\w-])", reference), f"docs/cli.md does not name {path!r}"


def test_the_reference_names_no_command_that_does_not_exist() -> None:
    known = {path for path, _ in EVERY}
    reference = (ROOT / "docs" / "cli.md").read_text()

    headings = re.findall(r"^#+ `?(caretrace(?: [a-z-]+)*)`?", reference, flags=re.MULTILINE)

    assert sorted(set(headings) - known) == []
