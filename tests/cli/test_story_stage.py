"""The demo's stage: real commands in their own processes, and an end at the first surprise."""

import json
from pathlib import Path

import pytest

from cli.errors import CliError, Exit
from cli.story_stage import Stage, expect


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage with the file of a network in it, none of whose nodes runs."""
    nodes = [{"name": "north", "home": "north", "http": "off", "p2p": "-"}]
    content = {"schema": "caretrace.testnet/1", "network": "testnet", "nodes": nodes}
    (tmp_path / "testnet.json").write_text(json.dumps(content))
    return Stage(tmp_path)


def test_a_command_is_run_and_shown_and_its_answer_returned(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    answer = stage.run("key", "new", "pia", "--no-passphrase", "--wallet", "a wallet")

    assert answer["name"] == "pia"
    assert (stage.folder / "a wallet" / "pia.key").exists()
    assert capsys.readouterr().err == "    $ caretrace key new pia --no-passphrase --wallet 'a wallet'\n"


def test_what_the_story_does_not_expect_ends_it(stage: Stage) -> None:
    with pytest.raises(CliError, match="exit 1, not 0"):
        stage.run("testnet", "kill", "north")
    with pytest.raises(CliError, match="exit 0, not 4"):
        stage.refused("version", exit_code=Exit.REFUSED, code="consent.denied")
    with pytest.raises(CliError, match="testnet kill north"):
        stage.show("testnet", "kill", "north")
    with pytest.raises(CliError, match="nothing came of it") as surprise:
        expect(False, "nothing came of it")

    assert surprise.value.code == "demo.surprise"


def test_a_refusal_counts_only_for_its_own_reason(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.refused("testnet", "kill", "north", exit_code=Exit.ERROR, code="testnet.failed")
    with pytest.raises(CliError, match=r"refused with testnet\.failed, not consent\.denied"):
        stage.refused("testnet", "kill", "north", exit_code=Exit.ERROR, code="consent.denied")

    assert "refused: testnet.failed: north does not run (exit 1)" in capsys.readouterr().err


def test_nothing_of_the_users_own_reaches_the_story(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARETRACE_WALLET", str(stage.folder / "mine"))
    monkeypatch.setenv("CARETRACE_PASSPHRASE", "mine")

    stage.run("key", "new", "pia", "--no-passphrase")

    assert not (stage.folder / "mine").exists()


def test_scenes_are_numbered(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.scene("First")
    stage.say("said")
    stage.scene("Then")

    lines = capsys.readouterr().err.split("\n")
    assert lines[1].startswith(" 1. First")
    assert lines[2] == "    said"
    assert lines[4].startswith(" 2. Then")
