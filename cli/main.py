"""The program ``caretrace``: finds the command, loads its module only, and lets no traceback reach a user."""

import json
import os
import sys
from importlib import import_module
from types import TracebackType
from typing import Any

import click

from cli.errors import CliError, Exit

COMMANDS = {
    "demo": "cli.demo:demo",
    "testnet": "cli.testnet:testnet",
    "init": "cli.init:init",
    "found": "cli.found:found",
    "join": "cli.invite:join",
    "start": "cli.start:start",
    "stop": "cli.start:stop",
    "status": "cli.status:status",
    "health": "cli.status:health",
    "peers": "cli.status:peers",
    "members": "cli.members:members",
    "key": "cli.key:key",
    "patient": "cli.patient:patient",
    "practitioner": "cli.practitioner:practitioner",
    "record": "cli.record:record",
    "consent": "cli.consent:consent",
    "audit": "cli.audit:audit",
    "receipt": "cli.receipt:receipt",
    "evidence": "cli.evidence:evidence",
    "ledger": "cli.ledger:ledger",
    "bench": "cli.bench:bench",
    "completion": "cli.completion:completion",
    "version": "cli.version:version",
}
"""Every command and where it stands: module and name, in the order in which the help lists them."""


class Program(click.Group):
    """The root of all commands; it loads a command's module when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of an unknown one say which are named alike."""
        if args[0] not in COMMANDS and args[0][:1] != "-" and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command and leave the process with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not all(map(_is_text, arguments)):
            _show_usage_error(click.UsageError("an argument is not text in UTF-8"), as_json="--json" in arguments)
            sys.exit(Exit.USAGE)
        extra |= {"standalone_mode": False, "color": False if os.environ.get("NO_COLOR") else None}
        try:
            status = super().main(arguments, prog_name or "caretrace", *rest, **extra)
        except click.UsageError as error:
            _show_usage_error(error, as_json="--json" in arguments)
            status = Exit.USAGE
        except CliError as error:
            error.show()
            status = error.exit_code
        except click.Abort:
            _show_interruption(as_json="--json" in arguments)
            status = Exit.INTERRUPTED
        sys.exit(int(status or 0))


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show_usage_error(error: click.UsageError, *, as_json: bool) -> None:
    error.show()
    if as_json:
        path = error.ctx.command_path.split()[1:] if error.ctx else []
        content = {"code": "usage", "message": error.format_message()}
        click.echo(json.dumps({"schema": ".".join(["caretrace", *path]) + "/1", "error": content}))


def _show_interruption(*, as_json: bool) -> None:
    click.echo("caretrace: interrupted", err=True)
    if as_json:
        click.echo(json.dumps({"schema": "caretrace/1", "error": {"code": "interrupted", "message": "interrupted"}}))


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="caretrace", message="caretrace %(version)s")
def caretrace() -> None:
    """No record is read without a trace that anyone can check: a ledger among hospitals.

    Start here: `caretrace demo` tells the whole story; `caretrace testnet up` gives four hospitals to try it on.
    """


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell of a bug of ours in one line, and keep its trace in a private file for whoever mends it."""
    if issubclass(kind, KeyboardInterrupt):
        print("caretrace: interrupted", file=sys.stderr)
        return
    # Late: together they take as long to load as all else that a command needs.
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="caretrace-bug-", suffix=".txt", delete=False) as file:
        file.writelines(traceback.format_exception(kind, error, trace))
    message = f"{kind.__name__}, a bug of ours. Its trace: {file.name}"
    print(f"caretrace: internal.error: {message}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"schema": "caretrace/1", "error": {"code": "internal.error", "message": message}}))


def main() -> None:
    """Run the program; the entry point of the package."""
    if not __debug__:
        sys.exit("caretrace: it does not run without its asserts; unset PYTHONOPTIMIZE, and start Python without -O")
    sys.excepthook = report_bug
    caretrace()


if __name__ == "__main__":
    main()
