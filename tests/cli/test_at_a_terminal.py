import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.keys.keyfile import load_key_file
from tests.support.program import PROGRAM, environment

# Only a program that owns its terminal is sent SIGINT when somebody types Ctrl-C there.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command with a terminal of its own, and somebody who types."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *PROGRAM, *arguments],
            cwd=folder,
            env=environment(folder),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 20
        while words not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._read()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self.process.poll() is None:
            self._read()
        while self._read():
            pass
        return self.process.wait(10)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 0.1)
        if not ready:
            return False
        try:
            piece = os.read(self.master, 4096)
        except OSError:
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)


@contextmanager
def terminal(*arguments: str, folder: Path) -> Iterator[Terminal]:
    opened = Terminal(*arguments, folder=folder)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait()
        os.close(opened.master)


def test_a_new_passphrase_is_asked_for_twice_and_never_shown(tmp_path: Path) -> None:
    with terminal("key", "new", "pia", folder=tmp_path) as screen:
        screen.wait_for("New passphrase of pia")
        screen.type("hunter2\n")
        screen.wait_for("The same again")
        screen.type("hunter2\n")
        code = screen.end()

    file = load_key_file(tmp_path / ".caretrace-wallet" / "pia.key")
    assert code == 0
    assert "hunter2" not in screen.seen
    assert set(file.open_secrets(b"hunter2")) == {"signing", "sealing"}


def test_two_passphrases_that_differ_make_no_key(tmp_path: Path) -> None:
    with terminal("key", "new", "pia", folder=tmp_path) as screen:
        screen.wait_for("New passphrase")
        screen.type("hunter2\n")
        screen.wait_for("The same again")
        screen.type("hunter3\n")
        code = screen.end()

    assert code == 1
    assert "passphrase.differs" in screen.seen
    assert not list(tmp_path.rglob("*.key"))


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("prompt", ["New passphrase", "The same again"])
def test_whoever_leaves_at_a_prompt_leaves_nothing_behind(tmp_path: Path, how: str, prompt: str) -> None:
    with terminal("init", "--name", "north", "--home", "north", folder=tmp_path) as screen:
        screen.wait_for("New passphrase")
        if prompt == "The same again":
            screen.type("hunter2\n")
            screen.wait_for(prompt)
        screen.type("\x03" if how == "Ctrl-C" else "\x04")
        code = screen.end()

    assert code == 130
    assert "interrupted" in screen.seen
    assert "Traceback" not in screen.seen
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_has_colours(tmp_path: Path) -> None:
    subprocess.run(
        [*PROGRAM, "key", "new", "pia", "--no-passphrase"], cwd=tmp_path, env=environment(tmp_path), check=True
    )

    with terminal("key", "list", folder=tmp_path) as coloured:
        coloured.end()

    assert "\x1b[1m" in coloured.seen
