import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS
from tests.support.program import PROGRAM, answer_of, environment, shell
from tests.support.source_tree import ROOT


def test_help_lists_every_command_and_none_that_is_missing(tmp_path: Path) -> None:
    done = shell("--help", folder=tmp_path)

    listed = re.findall(r"^  ([a-z]+) ", done.stdout.partition("Commands:")[2], flags=re.MULTILINE)
    assert done.returncode == 0
    assert listed == list(COMMANDS)


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    answer = answer_of(shell("version", "--json", folder=tmp_path))

    assert answer["schema"] == "caretrace.version/1"
    assert f"caretrace {answer['version']}\n" == shell("--version", folder=tmp_path).stdout


def test_an_unknown_command_is_a_usage_error_that_names_a_likely_one(tmp_path: Path) -> None:
    done = shell("statsu", folder=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "status" in done.stderr


def test_a_usage_error_is_json_too_where_that_is_wanted(tmp_path: Path) -> None:
    done = shell("consent", "grant", "--json", "--uses", "none", folder=tmp_path)

    answer = answer_of(done, exit_code=2)
    assert answer["schema"] == "caretrace.consent.grant/1"
    assert answer["error"]["code"] == "usage"
    assert "--uses" in done.stderr


def test_no_color_and_no_terminal_mean_no_colour(tmp_path: Path) -> None:
    shell("key", "new", "pia", "--no-passphrase", folder=tmp_path)

    plain = shell("key", "list", folder=tmp_path)
    asked = shell("key", "list", folder=tmp_path, more={"NO_COLOR": "1"})

    assert "pia" in plain.stdout
    assert "\x1b" not in plain.stdout + asked.stdout


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_is_given_for_three_shells(tmp_path: Path, name: str) -> None:
    done = shell("completion", name, folder=tmp_path)

    assert done.returncode == 0
    assert "_CARETRACE_COMPLETE" in done.stdout


def test_completion_completes_commands_and_their_verbs(tmp_path: Path) -> None:
    asked = {"_CARETRACE_COMPLETE": "bash_complete", "COMP_WORDS": "caretrace consent gr", "COMP_CWORD": "2"}

    done = shell(folder=tmp_path, more=asked)

    assert done.stdout.split() == ["plain,grant"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--timeout", "nan"),
        ("consent", "grant", "--patient", "pia", "--uses", "9" * 20),
        ("record", "show", b"r-\xff"),
    ],
)
def test_numbers_and_bytes_that_mean_nothing_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = shell(*arguments, "--json", folder=tmp_path)

    assert answer_of(done, exit_code=2)["error"]["code"] == "usage"
    assert "Traceback" not in done.stderr


def test_a_passphrase_may_be_any_bytes(tmp_path: Path) -> None:
    given = {**os.environb, b"CARETRACE_PASSPHRASE": b"\xff\xfe", b"HOME": str(tmp_path).encode()}
    new = [*PROGRAM, "key", "new", "una", "--wallet", str(tmp_path / "w")]

    done = subprocess.run(new, env=given, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interruption_while_the_program_still_loads_is_as_quiet_as_a_later_one(tmp_path: Path) -> None:
    # What it loads first waits for the signal here, as a slow disk would have it.
    (tmp_path / "click.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.entry import main; main()"],
        env=environment(tmp_path, {"PYTHONPATH": f"{tmp_path}:{ROOT}"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"

    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=30)

    assert (process.returncode, words) == (130, "caretrace: interrupted\n")


def test_a_bug_of_ours_is_one_line_and_its_trace_is_kept_for_whoever_mends_it(tmp_path: Path) -> None:
    program = "import cli.main as m; m.COMMANDS['status'] = 'cli.no_such_module:x'; m.main()"

    done = subprocess.run(
        [sys.executable, "-c", program, "status"],
        env=environment(tmp_path, {"TMPDIR": str(tmp_path)}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    (kept,) = tmp_path.glob("caretrace-bug-*.txt")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(kept) in done.stderr
    assert "Traceback" not in done.stderr
    assert "cli.no_such_module" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_without_asserts_nothing_runs(tmp_path: Path) -> None:
    done = shell("version", folder=tmp_path, more={"PYTHONOPTIMIZE": "1"})

    assert done.returncode == 1
    assert "asserts" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("key", "list"), ("version", "--json")], ids=" ".join)
def test_whoever_stops_reading_hears_no_complaint(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [*PROGRAM, *arguments], env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None

    words = process.stderr.read()
    process.wait(10)
    process.stderr.close()

    assert words == b""


def test_a_command_that_is_interrupted_says_so_and_ends_with_130(tmp_path: Path) -> None:
    pipe = tmp_path / "passphrase"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    command = [*PROGRAM, "key", "new", "pia", "--json", "--passphrase-file", str(pipe)]
    process = subprocess.Popen(
        command, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    with pipe.open("wb"):
        # It has opened the pipe and waits for what will not come.
        process.send_signal(signal.SIGINT)
        out, words = process.communicate(timeout=10)

    assert process.returncode == 130
    assert "interrupted" in words
    assert "Traceback" not in words
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert not (tmp_path / ".caretrace-wallet").exists()


def test_the_reference_is_what_the_commands_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs"), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
