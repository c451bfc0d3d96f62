import json
import logging
from collections.abc import Iterator

import pytest

from node.runtime.logs import set_log_level, set_up_logs

LOG = logging.getLogger("caretrace.test")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Give back the handlers and levels that the test run had."""
    root, ours = logging.getLogger(), logging.getLogger("caretrace")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def test_a_line_says_when_in_utc_how_grave_who_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "text")

    LOG.warning("north is %s", "gone")

    when, level, who, what = capsys.readouterr().err.split(maxsplit=3)
    assert when.endswith("Z")
    assert (level, who, what) == ("WARNING", "caretrace.test:", "north is gone\n")


def test_as_json_each_line_is_one_object_traces_within(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "json")

    try:
        raise ValueError("no such thing")
    except ValueError:
        LOG.exception("it failed\nbadly")

    (line,) = capsys.readouterr().err.splitlines()
    content = json.loads(line)
    assert (content["level"], content["logger"], content["message"]) == ("error", "caretrace.test", "it failed\nbadly")
    assert "ValueError: no such thing" in content["exception"]
    assert content["time"].endswith("Z")


def test_words_of_a_peer_begin_no_line_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "text")

    LOG.info("refused: %s", "no\n2026-01-01T00:00:00.000Z INFO    caretrace.runtime: all is well\x1b[2J")

    (line,) = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert "refused: no?2026" in line


def test_the_level_can_be_changed_while_running_and_libraries_stay_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("warning", "text")
    library = logging.getLogger("somebody.elses")

    LOG.info("before")
    library.info("before")
    set_log_level("debug")
    LOG.debug("after")
    library.info("after")
    library.warning("trouble")

    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2:] for line in lines] == [["caretrace.test:", "after"], ["somebody.elses:", "trouble"]]
