"""The stage of the demo: runs real commands in their own processes, shows them, and stops at the first surprise."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cli.errors import CliError, Exit

# Only a Bundle of thousands of resources takes minutes to be sealed.
COMMAND_TIMEOUT_S = 900


class Stage:
    """Where the story plays: one folder with a test network in it."""

    def __init__(self, folder: Path) -> None:
        """Play in ``folder``; commands find network and wallet there."""
        self.folder = folder
        self._started = time.monotonic()
        self._scene = 0

    @property
    def elapsed_s(self) -> float:
        """How long the story has taken so far."""
        return time.monotonic() - self._started

    def scene(self, title: str) -> None:
        """Open a scene."""
        self._scene += 1
        click.echo("", err=True)
        click.secho(f"{self._scene:2d}. {title}  [{self.elapsed_s:.0f} s]", bold=True, err=True)

    def say(self, words: str) -> None:
        """Tell something."""
        click.echo(f"    {words}", err=True)

    def run(self, *arguments: str, expect: int = Exit.OK, show: bool = True, cwd: Path | None = None) -> dict[str, Any]:
        """Run one command with ``--json`` and return its answer.

        Raises:
            CliError: it ended otherwise than the story expects.
        """
        if show:
            click.secho(f"    $ caretrace {shlex.join(arguments)}", dim=True, err=True)
        done = self._process(arguments, json_too=True, cwd=cwd)
        if done.returncode != expect:
            raise _surprise(arguments, f"exit {done.returncode}, not {expect}: {done.stderr.strip()}")
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise _surprise(arguments, f"no JSON: {done.stdout[:200]}") from None
        return answer

    def show(self, *arguments: str) -> None:
        """Run one command and show what it prints for people."""
        click.secho(f"    $ caretrace {shlex.join(arguments)}", dim=True, err=True)
        done = self._process(arguments, json_too=False, cwd=None)
        if done.returncode != Exit.OK:
            raise _surprise(arguments, done.stderr.strip())
        for line in done.stdout.splitlines():
            click.echo(f"    {line}", err=True)

    def refused(self, *arguments: str, exit_code: Exit, code: str, cwd: Path | None = None) -> None:
        """Run a command that must be refused with this exit code and stable code, and show how it says so.

        Raises:
            CliError: it was not refused, or for another reason.
        """
        error = self.run(*arguments, expect=exit_code, cwd=cwd).get("error", {})
        if error.get("code") != code:
            raise _surprise(arguments, f"refused with {error.get('code')}, not {code}")
        self.say(f"refused: {code}: {error['message']} (exit {int(exit_code)})")

    def _process(
        self, arguments: Sequence[str], *, json_too: bool, cwd: Path | None
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARETRACE_")}
        environment["CARETRACE_TESTNET"] = str(self.folder)
        command = [sys.executable, "-P", "-m", "cli.main", *arguments, *(["--json"] if json_too else [])]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            cwd=cwd or self.folder,
            env=environment,
            check=False,
        )


def _surprise(arguments: Sequence[str], what: str) -> CliError:
    return CliError("demo.surprise", f"caretrace {' '.join(arguments)}: {what}")


def expect(is_so: bool, words: str) -> None:
    """Stop the story if something is not as it should be.

    Raises:
        CliError: says what.
    """
    if not is_so:
        raise CliError("demo.surprise", words)
