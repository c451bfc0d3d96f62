import time

import click
import pytest

from cli.errors import CliError, Exit, exit_for, printable
from cli.output import facts, rfc3339, table
from cli.times import END, MOMENT
from storage.schema.refusals import REFUSALS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("consent.denied", Exit.REFUSED),
        ("consent.not_yours", Exit.REFUSED),
        ("access.permit_ended", Exit.REFUSED),
        ("identity.revoked", Exit.REFUSED),
        ("consent.not_found", Exit.NOT_FOUND),
        ("identity.unknown", Exit.NOT_FOUND),
        ("record.not_held", Exit.NOT_FOUND),
        ("consent.period_reversed", Exit.ERROR),
        ("consent.already_revoked", Exit.ERROR),
        ("receipt.invalid", Exit.UNVERIFIED),
        ("tx.not_committed", Exit.NOT_COMMITTED),
        ("custodian.unreachable", Exit.UNREACHABLE),
        ("something.new", Exit.ERROR),
    ],
)
def test_a_refusal_ends_with_the_exit_code_of_its_kind(code: str, expected: Exit) -> None:
    assert exit_for(code) is expected
    assert CliError(code, "words").exit_code is expected


def test_every_code_of_the_ledger_ends_a_command_as_an_error_of_some_kind() -> None:
    exits = {exit_for(code) for code in REFUSALS}

    assert Exit.OK not in exits
    assert {Exit.REFUSED, Exit.NOT_FOUND, Exit.ERROR} <= exits


def test_an_error_keeps_to_its_form() -> None:
    error = CliError("a.b", "words", hint="try", facts={"valid": False})
    error.schema = "caretrace.x.y/1"

    assert error.fields() == {
        "schema": "caretrace.x.y/1",
        "valid": False,
        "error": {"code": "a.b", "message": "words", "hint": "try"},
    }


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "bell\x07", "\u202egnp", "\x9b31m"])
def test_nothing_from_outside_steers_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert facts([("name", text)]).isprintable()
    assert not {"\x07", "\r", "\x9b"} & set(table(["A"], [[text]], ""))


def test_a_table_is_as_wide_as_its_cells_and_says_when_it_is_empty() -> None:
    text = click.unstyle(table(["NAME", "N"], [["pia", 1], ["benjamin", None]], "nobody"))

    assert text.splitlines() == ["NAME      N", "pia       1", "benjamin  -"]
    assert table(["NAME"], [], "nobody") == "nobody"


def test_facts_leave_out_what_is_unknown_and_say_yes_and_no() -> None:
    text = facts([("a", None), ("bee", True), ("c", ["x", "y"]), ("d", {"k": False})])

    assert text.splitlines() == ["bee  yes", "c    x, y", "d    k no"]


def test_block_times_are_rfc3339_in_utc() -> None:
    assert rfc3339(1_800_000_000_123) == "2027-01-15T08:00:00.123Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-03T10:00:00Z", 1_793_700_000),
        ("2026-11-03T11:00:00+01:00", 1_793_700_000),
        ("2026-11-03", 1_793_664_000),
        ("1970-01-01", 0),
    ],
)
def test_a_time_is_read(text: str, seconds: int) -> None:
    assert MOMENT.convert(text, None, None) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("90d", 90 * 86_400), ("48h", 172_800), ("30m", 1800), ("5s", 5)])
def test_a_duration_counts_from_now(text: str, seconds: int) -> None:
    before = int(time.time())

    moment = MOMENT.convert(text, None, None)

    assert before + seconds <= moment <= int(time.time()) + seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "90", "-1d", "1w", "2026-11-03T10:00:00", "2026-13-01", "1969-12-31", "٣d", "9999999d", "1.5h"]
)
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter):
        MOMENT.convert(text, None, None)


def test_a_day_alone_is_meant_to_its_end_where_something_ends() -> None:
    assert END.convert("2026-11-03", None, None) - MOMENT.convert("2026-11-03", None, None) == 24 * 3600 - 1
    assert END.convert("2026-11-03T10:00:00Z", None, None) == MOMENT.convert("2026-11-03T10:00:00Z", None, None)
