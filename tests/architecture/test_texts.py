import re
import sys

import pytest

from tests.support.source_tree import ROOT, files, python_files, shown, text_files

# Whoever installs has an index and folders of their own.
REGISTRY = re.compile(r"pythonhosted\.org|pypi\.org/simple|registry\.npmjs\.org|file:///(?:opt|root|home)")
ABSOLUTE_HOME = re.compile(r"(?<![\w.*}-])/(?:work|root|home/[a-z]\w*)/")
UNNUMBERED_WORK = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b(?!\s*\(?#\d+)")
WITHOUT_ASSERTS = re.compile(r"python[\d.]*[\"']?\s+-OO?\b|PYTHONOPTIMIZE=")

THIS_FILE = "tests/architecture/test_texts.py"


@pytest.mark.parametrize(
    ("pattern", "suffixes_left_out"),
    [
        pytest.param(REGISTRY, (), id="no registry address"),
        pytest.param(ABSOLUTE_HOME, (), id="no folder of somebody's machine"),
        pytest.param(UNNUMBERED_WORK, (".md",), id="no open work without the number of its issue"),
        pytest.param(WITHOUT_ASSERTS, (".md",), id="no Python without its asserts"),
    ],
)
def test_no_file_names_what_it_must_not(pattern: re.Pattern[str], suffixes_left_out: tuple[str, ...]) -> None:
    found = []
    for path, text in text_files():
        if shown(path) == THIS_FILE or path.suffix in suffixes_left_out:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{shown(path, number)}: {line.strip()}")

    assert found == []


def test_the_tests_run_with_asserts_on() -> None:
    assert sys.flags.optimize == 0


def test_every_script_can_be_executed() -> None:
    scripts = [path for path, text in text_files() if text.startswith("#!")]

    assert ROOT / "scripts" / "test" in scripts
    assert [shown(path) for path in scripts if not path.stat().st_mode & 0o111] == []


def test_every_test_that_a_page_of_the_specification_names_is_there() -> None:
    named = {
        name for path in files(ROOT / "docs" / "spec") for name in re.findall(r"`(test_\w+)`", path.read_text("utf-8"))
    }
    present = {path.stem for path in python_files("tests")}
    for path in python_files("tests"):
        present |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))

    assert named
    assert named - present == set()
