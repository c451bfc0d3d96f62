"""The whole story, told once on Bundles that carry security labels, as anyone's might; nothing of it is left."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_network import RunningNetwork

pytestmark = pytest.mark.cluster


def observation(number: int, *labels: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "meta": {"security": [{"code": label} for label in labels]},
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"text": f"Potassium {number}"},
        "effectiveDateTime": "2024-05-01T10:00:00Z",
    }


def write_bundle(folder: Path, name: str, given: str, *resources: dict[str, Any]) -> None:
    people = [
        {"resourceType": "Patient", "name": [{"given": [given]}]},
        {"resourceType": "Practitioner", "name": [{"given": ["Ben"]}]},
    ]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in (*people, *resources)]}
    (folder / name).write_text(json.dumps(bundle))


def test_the_demo_tells_its_story_on_labelled_bundles_and_what_it_keeps_is_removed_as_it_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # The first Bundle holds people only, two patients have one name, and the physician has that of the invented one.
    place, bundles = tmp_path_factory.mktemp("d d"), tmp_path_factory.mktemp("bundles")
    condition = {"resourceType": "Condition", "code": {"text": "Asthma"}, "meta": {"security": [{"code": "R"}]}}
    write_bundle(bundles, "1.json", "Bex")
    write_bundle(bundles, "2.json", "Ives", observation(1, "HIV", "HTEST"), condition, observation(2, "N"))
    write_bundle(bundles, "3.json", "Ives", observation(3))
    (bundles / "4.json").write_text('{"resourceType": "Patient"}')

    network = RunningNetwork(place / "net")
    process = network.begin("demo", "--input", str(bundles), "--keep", more={"TMPDIR": str(place)})
    out, told = process.communicate(timeout=300)
    printed = "\n".join(line for line in out.splitlines() if line.startswith("  "))
    followed = subprocess.run(
        ["bash", "-c", printed], env=network.environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert process.returncode == 0, told
    assert (followed.returncode, followed.stderr) == (0, "")
    assert f"removed {place}" in followed.stdout
    for words in (
        "ives: 3 records sealed",
        "--category laboratory --except HIV --until 7d",
        "read, byte for byte: Potassium 2",
        "refused: consent.denied",
        "west refuses it: signature.invalid",
        "acknowledged transactions stand on all 4 nodes",
        "found: database files",
        "valid: height",
        "refused: receipt.invalid",
        "west: ok",
    ):
        assert words in told, told
    assert "Traceback" not in told
    assert list(place.iterdir()) == []
    assert [path for path in Path("/proc").glob("[0-9]*/cwd") if str(place) in link(path)] == []


def link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # It has ended, or is another user's.
        return ""


def test_a_folder_without_bundles_is_refused_before_anything_is_started(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place, bundles = tmp_path_factory.mktemp("d"), tmp_path_factory.mktemp("bundles")
    (bundles / "note.json").write_text('{"resourceType": "Observation"}')
    network = RunningNetwork(place / "net")

    for folder in (bundles, bundles / "nowhere", place):
        error = network.refusal("demo", "--input", str(folder), exit_code=1)
        assert error["code"] == "input.no_bundle"
        assert str(folder) in error["message"]
    write_bundle(bundles, "people.json", "Pia")

    assert network.refusal("demo", "--input", str(bundles), exit_code=1)["code"] == "input.no_bundle"
    assert list(place.iterdir()) == []
