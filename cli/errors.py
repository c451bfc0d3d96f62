"""How a command ends when it does not succeed: exit codes, and the one form in which every refusal is shown."""

import json
from enum import IntEnum
from typing import Any

import click


class Exit(IntEnum):
    """The exit codes that scripts may rely on."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5
    UNVERIFIED = 6
    NOT_COMMITTED = 7
    UNHEALTHY = 8
    INTERRUPTED = 130


_EXITS = {
    "certificate.invalid": Exit.UNVERIFIED,
    "custodian.unreachable": Exit.UNREACHABLE,
    "did.malformed": Exit.USAGE,
    "epochs.invalid": Exit.UNVERIFIED,
    "genesis.invalid": Exit.UNVERIFIED,
    "id.malformed": Exit.USAGE,
    "identity.unknown": Exit.NOT_FOUND,
    "member.unknown": Exit.NOT_FOUND,
    "invite.invalid": Exit.UNVERIFIED,
    "receipt.invalid": Exit.UNVERIFIED,
    "record.not_held": Exit.NOT_FOUND,
    "seal.cannot_open": Exit.UNVERIFIED,
    "tx.not_committed": Exit.NOT_COMMITTED,
}
# Whoever asks may not: by the patient's will, or by what the ledger says they are.
_REFUSED = {
    "access.not_custodian",
    "access.not_served",
    "access.other_member",
    "access.permit_ended",
    "consent.denied",
    "consent.not_yours",
    "identity.expired",
    "identity.key_replaced",
    "identity.not_patient",
    "identity.not_practitioner",
    "identity.not_yet_valid",
    "identity.other_member",
    "identity.revoked",
    "member.keys_too_soon",
    "member.removed",
    "network.not_validator",
    "network.too_few_validators",
    "record.not_permitted",
    "signers.not_organisation_key",
    "signers.not_service_key",
}


def exit_for(code: str) -> Exit:
    """Return the exit code of a stable refusal code."""
    if code in _REFUSED:
        return Exit.REFUSED
    return _EXITS.get(code, Exit.NOT_FOUND if code.endswith(".not_found") else Exit.ERROR)


class CliError(Exception):
    """What was refused or went wrong: a stable code, the reason in words, and what to try.

    Attributes:
        schema: of the command that failed, and ``as_json`` whether its answer is for a machine; set on the way out.
    """

    schema = "caretrace/1"
    as_json = False

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit_code: Exit | None = None,
        field: str | None = None,
        hint: str | None = None,
        transaction: str | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Keep what is known; without ``exit_code`` it follows from the code; ``facts`` stand beside the error."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.exit_code = exit_for(code) if exit_code is None else exit_code
        self.field = field
        self.hint = hint
        self.transaction = transaction
        self.facts = facts or {}

    def show(self) -> None:
        """Say it on standard error, and with ``--json`` as one object on standard output too."""
        lines = [f"caretrace: {self.code}: {self.message}"]
        if self.field:
            lines.append(f"  at: {self.field}")
        if self.hint:
            lines.append(f"  try: {self.hint}")
        if self.transaction:
            lines.append(f"  transaction: {self.transaction}")
        click.echo(printable("\n".join(lines)), err=True)
        if self.as_json:
            click.echo(json.dumps(self.fields()))

    def fields(self) -> dict[str, Any]:
        """Return the error as a machine reads it."""
        error = {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "hint": self.hint,
            "transaction": self.transaction,
        }
        known = {name: value for name, value in error.items() if value is not None}
        return {"schema": self.schema, **self.facts, "error": known}


def usage_error(message: str, hint: str | None = None) -> CliError:
    """Return the error of a command that cannot be meant this way."""
    return CliError("usage", message, exit_code=Exit.USAGE, hint=hint)


def printable(text: str) -> str:
    """Make a text harmless on a terminal: what came from outside must not move the cursor or change its title."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
