"""Where a passphrase comes from: a file, the environment, or the terminal; it is never an argument."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cli.errors import CliError, Exit, usage_error
from node.keys.keyfile import KeyFile

_FILE_BYTES_MAX = 4096


@dataclass(frozen=True)
class Passphrases:
    """The user's choice for one command; a terminal is asked only when nothing else gives a passphrase."""

    file: Path | None = None

    def open(self, key_file: KeyFile, name: str) -> dict[str, bytes]:
        """Return the secrets of a key file; ``name`` is what its user calls it.

        Raises:
            KeyFileError: the passphrase is wrong, or the file is damaged.
            CliError: it needs a passphrase, and there is no way to ask.
        """
        return key_file.open_secrets(self._given() or _ask(f"Passphrase of {name}") if key_file.is_sealed else None)

    def open_together(self, files: Sequence[KeyFile], name: str) -> tuple[list[dict[str, bytes]], bytes | None]:
        """Return the secrets of files that one passphrase seals, and the passphrase; it is asked for once.

        Raises:
            KeyFileError, CliError: as for ``open``.
        """
        is_sealed = any(file.is_sealed for file in files)
        passphrase = (self._given() or _ask(f"Passphrase of {name}")) if is_sealed else None
        return [file.open_secrets(passphrase) for file in files], passphrase

    def choose(self, name: str, *, unprotected: bool = False) -> bytes | None:
        """Return the passphrase of a key that is about to be made; None for a test key.

        Raises:
            CliError: both or neither are wanted, or the two answers differ.
        """
        if unprotected:
            if self.file:
                raise usage_error("--no-passphrase and --passphrase-file exclude each other")
            return None
        given = self._given()
        if given:
            return given
        first = _ask(f"New passphrase of {name}")
        if _ask("The same again") != first:
            raise CliError("passphrase.differs", "the two passphrases differ; no key was made")
        return first

    def _given(self) -> bytes | None:
        if self.file:
            with self.file.open("rb") as file:
                text = file.read(_FILE_BYTES_MAX + 1).removesuffix(b"\n").removesuffix(b"\r")
            if not 0 < len(text) <= _FILE_BYTES_MAX:
                raise CliError("passphrase.unusable", f"{self.file} is empty, or larger than {_FILE_BYTES_MAX} bytes")
            return text
        return os.environb.get(b"CARETRACE_PASSPHRASE") or None


def _ask(prompt: str) -> bytes:
    if not sys.stdin.isatty():
        raise CliError(
            "passphrase.needed",
            f"no terminal to ask for: {prompt.lower()}",
            exit_code=Exit.USAGE,
            hint="--passphrase-file FILE, or CARETRACE_PASSPHRASE; for a new test key --no-passphrase",
        )
    answer: str = click.prompt(prompt, hide_input=True, err=True)
    return answer.encode()
