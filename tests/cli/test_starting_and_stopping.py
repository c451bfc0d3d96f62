import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import answer_of, caretrace

NAMES = ("east", "north", "south", "west")


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four homes and their genesis file, which no test changes."""
    folder = tmp_path_factory.mktemp("founded")
    found(folder, "--no-passphrase")
    return folder


def found(folder: Path, *protection: str) -> None:
    secret = protection if "--passphrase-file" in protection else ()
    for name in NAMES:
        caretrace("init", "--name", name, "--home", name, *protection, folder=folder)
    caretrace("found", *(f"{name}/card.json" for name in NAMES), folder=folder)
    for name in NAMES:
        caretrace("found", "sign", "--key", f"{name}-organisation.key", *secret, folder=folder)
    assert (folder / "genesis.json").exists()


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Path:
    """A copy of north's home."""
    return Path(shutil.copytree(founded / "north", tmp_path / "north"))


def refusal(folder: Path, *arguments: str, exit_code: int) -> dict[str, str]:
    error: dict[str, str] = answer_of(caretrace(*arguments, "--json", folder=folder), exit_code)["error"]
    return error


@pytest.mark.parametrize(
    ("name", "content", "code", "exit_code"),
    [
        ("config.toml", None, "config.not_found", 5),
        ("config.toml", b"name = ", "config.damaged", 1),
        ("config.toml", b'name = "north"\nlisten = ["/ip4/127.0.0.1/tcp/1"]\ncolour = 1', "config.invalid", 1),
        ("keys/node.key", None, "keyfile.not_found", 5),
        ("keys/node.key", b"{", "keyfile.damaged", 1),
        ("genesis.json", b"{}", "genesis.invalid", 6),
        ("genesis.json", None, "genesis.not_found", 5),
    ],
)
def test_a_home_that_lacks_something_does_not_start_and_says_what(
    founded: Path, home: Path, name: str, content: bytes | None, code: str, exit_code: int
) -> None:
    (home / "genesis.json").write_bytes((founded / "genesis.json").read_bytes())
    if content is None:
        (home / name).unlink()
    else:
        (home / name).write_bytes(content)

    assert refusal(home.parent, "start", "--home", "north", exit_code=exit_code)["code"] == code


def test_a_member_that_founded_nothing_does_not_start(founded: Path, home: Path) -> None:
    config = (home / "config.toml").read_text().replace('"north"', '"nobody"')
    (home / "config.toml").write_text(config)

    arguments = ("start", "--home", "north", "--genesis", str(founded / "genesis.json"))
    assert refusal(home.parent, *arguments, exit_code=5)["code"] == "member.unknown"


def test_keys_that_genesis_does_not_state_do_not_start_a_node(founded: Path, home: Path) -> None:
    shutil.copy(founded / "south" / "keys" / "node.key", home / "keys" / "node.key")

    arguments = ("start", "--home", "north", "--genesis", str(founded / "genesis.json"))
    assert refusal(home.parent, *arguments, exit_code=1)["code"] == "member.keys_differ"


def test_a_home_keeps_its_first_genesis(founded: Path, home: Path) -> None:
    other = home.parent / "other"
    other.mkdir()
    found(other, "--no-passphrase")
    (home / "genesis.json").write_bytes((founded / "genesis.json").read_bytes())

    arguments = ("start", "--home", "north", "--genesis", "other/genesis.json")
    assert refusal(home.parent, *arguments, exit_code=1)["code"] == "genesis.exists"
    assert (home / "genesis.json").read_bytes() == (founded / "genesis.json").read_bytes()


def test_a_wrong_passphrase_does_not_start_a_node(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("right")
    found(tmp_path, "--passphrase-file", "pass")
    (tmp_path / "pass").write_text("wrong")

    arguments = ("start", "--home", "north", "--genesis", "genesis.json", "--passphrase-file", "pass")
    assert refusal(tmp_path, *arguments, exit_code=1)["code"] == "passphrase.wrong"


def test_a_home_where_nothing_runs_has_nothing_to_stop(home: Path) -> None:
    assert refusal(home.parent, "stop", "--home", "north", exit_code=3)["code"] == "node.not_running"


def test_a_pid_that_a_crash_left_behind_stops_no_other_program(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run" / "node.pid").write_text(f"{os.getpid()}\n")

    assert refusal(home.parent, "stop", "--home", "north", exit_code=3)["code"] == "node.not_running"


def test_the_process_that_holds_the_home_is_stopped_and_waited_for(home: Path) -> None:
    (home / "run").mkdir()
    program = (
        "import fcntl, os, sys, time\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(os.getpid(), file=file, flush=True)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(home / "run" / "node.pid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        answer = answer_of(caretrace("stop", "--home", "north", "--json", folder=home.parent))

        assert answer["pid"] == process.pid
        assert process.wait(5) != 0
    with (home / "run" / "node.pid").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_process_that_does_not_end_is_named(home: Path) -> None:
    (home / "run").mkdir()
    program = (
        "import fcntl, os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(os.getpid(), file=file, flush=True)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(home / "run" / "node.pid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        error = refusal(home.parent, "stop", "--home", "north", "--timeout", "0.3", exit_code=1)
        process.kill()

    assert error["code"] == "node.still_running"
    assert str(process.pid) in error["message"]


@pytest.mark.parametrize("command", ["status", "health", "peers"])
def test_a_node_that_does_not_run_is_not_reachable(home: Path, command: str) -> None:
    assert refusal(home.parent, command, "--home", "north", exit_code=3)["code"] == "node.not_reachable"


def test_a_home_that_does_not_exist_is_not_reachable_and_a_damaged_one_is_named(home: Path) -> None:
    (home / "config.toml").write_text("name =")

    assert refusal(home.parent, "status", "--home", "nowhere", exit_code=3)["code"] == "node.not_reachable"
    assert refusal(home.parent, "status", "--home", "north", exit_code=1)["code"] == "config.damaged"


def test_an_address_is_answered_with_what_does_work(home: Path) -> None:
    error = refusal(home.parent, "status", "--node", "https://north.example", exit_code=2)

    assert "Unix socket" in error["message"]
