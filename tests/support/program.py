"""The program ``caretrace`` in a process of its own, as a shell starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.source_tree import ROOT

PROGRAM = (sys.executable, "-m", "cli.main")


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command is started with: nothing of ours from outside, and a home that is a test's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CARETRACE_", "_CARETRACE"))}
    return inherited | {"HOME": str(folder), "PYTHONPATH": str(ROOT)} | dict(more or {})


def caretrace(
    *arguments: str, folder: Path, more: Mapping[str, str] | None = None, timeout_s: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without a terminal."""
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


def answer_of(done: subprocess.CompletedProcess[str], exit_code: int = 0) -> dict[str, Any]:
    """The JSON that a command printed, once it ended as expected."""
    assert done.returncode == exit_code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
