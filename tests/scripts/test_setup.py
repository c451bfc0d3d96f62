import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setup reads, in a folder with a space in its name, and a PATH that shows an ordinary user with apt-get."""
    top = tmp_path / "a clone"
    for name in ("scripts/setup", "requirements/build.txt", "requirements/dev.txt", "pyproject.toml"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, top / name)
    commands = {"id": "echo 1000", "apt-get": "echo apt-get was called; exit 1", "apt-cache": "exit 1"}
    for name, line in commands.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\n{line}\n")
        command.chmod(0o755)
    return top


def setup(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{clone.parent / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        ["bash", clone / "scripts" / "setup"],
        env={"PATH": path, "HOME": str(clone.parent), **environment},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_who_lacks_a_compiler_is_told_the_one_line_that_installs_it(clone: Path) -> None:
    done = setup(clone, CC="/nowhere/cc")

    last_line = done.stderr.splitlines()[-1].strip()
    assert done.returncode == 1
    assert last_line.startswith("sudo apt-get install -y")
    assert "libgmp-dev" in last_line
    assert "apt-get was called" not in done.stderr
    assert not (clone / ".venv").exists()


def test_an_interpreter_that_does_not_run_is_refused_by_its_name(clone: Path) -> None:
    done = setup(clone, CARETRACE_PYTHON="/nowhere/python3.12")

    assert done.returncode == 1
    assert "/nowhere/python3.12" in done.stderr
    assert not (clone / ".venv").exists()


def test_an_environment_that_fits_is_left_as_it_is(clone: Path) -> None:
    environment = clone / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    stamp = environment / "caretrace-setup"
    stamp.write_text(wanted_stamp(clone))

    done = setup(clone, CC="/nowhere/cc")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_environment_of_another_lock_is_not_used(clone: Path) -> None:
    environment = clone / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / "caretrace-setup").write_text(wanted_stamp(clone))
    with (clone / "requirements" / "dev.txt").open("a") as lock:
        lock.write("# another lock\n")

    done = setup(clone, CC="/nowhere/cc")

    assert done.returncode == 1
    assert "lacks" in done.stderr


def wanted_stamp(clone: Path) -> str:
    """The stamp as setup's own function computes it."""
    text = (clone / "scripts" / "setup").read_text()
    start = text.index("wanted() {")
    function = text[start : text.index("\n}\n", start) + 2]
    script = f'root="$1"\n{function}\nwanted "$2"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(clone.resolve()), sys.executable], capture_output=True, text=True, check=True
    )
    return done.stdout
