"""What the README tells a newcomer to type, typed in its order."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.cluster import load_cluster
from cli.fhir_bundle import read_file
from tests.support.running_network import RunningNetwork, installed_program, remove
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.cluster

Answers = dict[str, dict[str, Any]]


def commands_by_hand() -> list[list[str]]:
    """The commands of the section "By hand", in their order; the first line makes them known to the shell."""
    section = (ROOT / "README.md").read_text().partition("\n## By hand\n")[2].partition("\n## ")[0]
    first, *lines = re.findall(r"^    (.+)$", section, flags=re.MULTILINE)
    assert first == "source .venv/bin/activate"
    return [command.split() for line in lines for command in line.split(" && ")]


def filled_in(words: list[str], answers: Answers) -> list[str]:
    """Put what earlier commands answered in the place of what the README leaves open."""
    if "r-…" in words:
        records = answers["record list"]["records"]
        found = next(record["record"] for record in records if record["category"] == "laboratory")
        return [found if word == "r-…" else word for word in words]
    return [answers["record get"]["served"] if word == "…" else word for word in words]


def test_the_commands_of_the_readme_do_in_their_order_what_it_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    # A short name for the folder: the path of a Unix socket has 107 bytes.
    folder = tmp_path_factory.mktemp("r")
    (folder / "cli").symlink_to(ROOT / "cli")
    network = RunningNetwork(folder / "caretrace-testnet")
    try:
        answers = type_in(folder)
    finally:
        remove(network)

    result = (folder / "result.json").read_bytes()
    bundle = read_file(ROOT / "cli" / "patients" / "type2_diabetes-7-0000.json")
    assert result in [resource.content for resource in bundle.resources if resource.category == "laboratory"]
    assert len(answers["record import"]["records"]) == len(bundle.resources)
    assert [entry["served"] for entry in answers["audit patient"]["entries"] if entry["action"] == "read"] == [True]
    assert answers["receipt verify"]["valid"]
    assert answers["receipt verify"]["method"] == "access.served"
    assert answers["ledger verify"]["ok"]
    assert answers["ledger verify"]["to"] >= answers["receipt verify"]["height"]
    assert not (folder / "caretrace-testnet").exists()


def type_in(folder: Path) -> Answers:
    """Run every command in a folder as a shell would; returns what each answered, by its name."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CARETRACE_")}
    inherited.pop("PYTHONPATH", None)
    environment = inherited | {"HOME": str(folder), "PATH": f"{installed_program().parent}:{os.environ['PATH']}"}
    answers: Answers = {}
    pids: list[int | None] = []
    for words in commands_by_hand():
        if words == ["caretrace", "testnet", "clean"]:
            pids = [place.pid for place in load_cluster(folder / "caretrace-testnet").places]
        command = filled_in(words, answers)
        done = subprocess.run(
            [*command, "--json"], cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr}"
        answers[" ".join(command[1:3])] = json.loads(done.stdout)
    assert len(pids) == 4
    assert not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids)
    return answers
