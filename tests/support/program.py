"""The program ``caretrace``, in a process of its own as a shell starts it, or, much sooner, in this one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cli.main import caretrace as root
from tests.support.source_tree import ROOT

PROGRAM = (sys.executable, "-m", "cli.main")
Done = subprocess.CompletedProcess[str]


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command is started with: nothing of ours from outside, and a home that is a test's."""
    inherited = {name: value for name, value in os.environ.items() if not is_ours(name)}
    return inherited | {"HOME": str(folder), "PYTHONPATH": str(ROOT)} | dict(more or {})


def is_ours(variable: str) -> bool:
    return variable.startswith(("CARETRACE_", "_CARETRACE"))


def shell(*arguments: str, folder: Path, more: Mapping[str, str] | None = None, timeout_s: float = 30) -> Done:
    """Run a command in a process of its own, in a folder, without a terminal."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=environment(folder, more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def caretrace(*arguments: str, folder: Path, more: Mapping[str, str] | None = None) -> Done:
    """Run a command in this process, in a folder, without a terminal; an error that it does not know is raised."""
    variables: dict[str, str | None] = {name: None for name in os.environ if is_ours(name)}
    variables |= {"HOME": str(folder), **(more or {})}
    with chdir(folder):
        result = CliRunner(env=variables).invoke(root, list(arguments), catch_exceptions=False)
    return Done(list(arguments), result.exit_code, result.stdout, result.stderr)


def answer_of(done: Done, exit_code: int = 0) -> dict[str, Any]:
    """The JSON that a command printed, once it ended as expected."""
    assert done.returncode == exit_code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
