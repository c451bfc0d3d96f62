import os
from pathlib import Path

import pytest

from cli.start import running_pid
from node.config import Home
from node.runtime.home_lock import HomeInUseError, locked


def test_while_a_home_is_locked_its_process_is_named_and_another_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)

    with locked(home):
        assert running_pid(home) == os.getpid()
        assert home.pid_file.read_text() == f"{os.getpid()}\n"
        with pytest.raises(HomeInUseError) as refused, locked(home):
            raise AssertionError("two nodes in one home")
        assert running_pid(home) == os.getpid()

    assert str(tmp_path) in str(refused.value)


def test_a_pid_that_a_crash_left_behind_means_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run_folder.mkdir()
    home.pid_file.write_text("1234567890123\n")

    assert running_pid(home) is None
    with locked(home):
        assert home.pid_file.read_text() == f"{os.getpid()}\n"

    assert running_pid(home) is None


def test_the_lock_is_given_back_when_its_holder_fails(tmp_path: Path) -> None:
    home = Home(tmp_path)

    with pytest.raises(RuntimeError), locked(home):
        raise RuntimeError("the node ends")

    with locked(home):
        assert running_pid(home) == os.getpid()
    assert home.run_folder.stat().st_mode & 0o777 == 0o700
    assert home.pid_file.stat().st_mode & 0o777 == 0o600
