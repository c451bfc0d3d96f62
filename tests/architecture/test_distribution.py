import importlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.source_tree import PACKAGES, ROOT, files


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_top_level_names(package: str) -> None:
    owners = set(importlib.metadata.packages_distributions()[package])

    assert owners == {"caretrace"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tests_test_this_tree(package: str) -> None:
    module = importlib.import_module(package)

    assert module.__file__ == str(ROOT / package / "__init__.py")


def test_a_wheel_holds_every_file_of_the_four_packages_and_no_other(tmp_path: Path) -> None:
    ours = {str(path.relative_to(ROOT)) for package in PACKAGES for path in files(ROOT / package)}
    source = tmp_path / "source"
    for name in (*ours, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").touch()

    build = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {name for name in ours if not name.endswith(".md")}
