"""The forms of all commands: each has an example in its help, ``--json``, and one way in which errors leave it."""

import errno
from typing import Any

import click

from cli.errors import CliError
from cli.output import Answer, show

_HINTS = {
    "config.not_found": "caretrace init --name NAME --home DIR",
    "keyfile.exists": "choose another name; a key is never overwritten",
    "keyfile.not_found": "caretrace key list shows the names of this wallet",
    "keyfile.not_private": "chmod 600 FILE, and make the key anew if somebody may have read it",
    "keyfile.damaged": "take the key from its backup: caretrace key import FILE",
    "passphrase.needed": "give --passphrase-file FILE, or set CARETRACE_PASSPHRASE, or use a terminal",
}


class Verb(click.Command):
    """A command that answers: it returns an ``Answer``, and says in its help how it is used."""

    def __init__(self, *args: Any, example: str, schema: str = "", **kwargs: Any) -> None:
        """Take click's arguments, an example of one or more lines, and a schema where the name does not give it."""
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Answer with one JSON object."))
        self.example = example
        self.schema = schema

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example under the options."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, print its answer, and return its exit code."""
        as_json = ctx.meta["as_json"] = ctx.params.pop("as_json")
        schema = schema_of(ctx)
        try:
            answer = super().invoke(ctx)
            assert isinstance(answer, Answer), "a command returns its answer"
            show(answer, schema, as_json=ctx.meta["as_json"])
        except CliError as error:
            raise _addressed(error, schema, as_json=as_json) from None
        except _refusals() as error:
            raise _addressed(_refusal(error), schema, as_json=as_json) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise _addressed(_failure(error), schema, as_json=as_json) from None
        return answer.exit_code


class Noun(click.Group):
    """A group of verbs about one thing."""

    command_class = Verb


def schema_of(ctx: click.Context) -> str:
    """Return the schema of a command's answer: ``caretrace.consent.grant/1``, ``caretrace.status/1``."""
    command: click.Command = ctx.command
    if isinstance(command, Verb) and command.schema:
        return command.schema
    names: list[str] = []
    step: click.Context | None = ctx
    while step is not None and step.parent is not None:
        names.insert(0, step.command.name or "")
        step = step.parent
    return ".".join(["caretrace", *names]) + "/1"


def _refusals() -> tuple[type[Exception], ...]:
    """Return what other rooms refuse by a stable code of their own; imported only when something has been raised."""
    from node.config import ConfigError
    from node.keys.did import DidError
    from node.keys.keyfile import KeyFileError
    from storage.schema.codec import DecodeError
    from storage.schema.epochs import EpochError
    from storage.schema.genesis import GenesisError
    from storage.schema.invite import InviteError
    from storage.schema.receipt import ReceiptError

    return ConfigError, DecodeError, DidError, EpochError, GenesisError, InviteError, KeyFileError, ReceiptError


def _addressed(error: CliError, schema: str, *, as_json: bool) -> CliError:
    error.schema, error.as_json = schema, as_json
    return error


def _refusal(error: Any) -> CliError:
    return CliError(error.code, str(error), field=getattr(error, "field", None), hint=_HINTS.get(error.code))


def _failure(error: OSError) -> CliError:
    place = f": {error.filename}" if error.filename else ""
    return CliError("system.error", f"{error.strerror or type(error).__name__}{place}")
