import ast
from collections import Counter

from tests.support.source_tree import PACKAGES, ROOT, python_files, shown, syntax_of

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60
BANNED_NAMES = {"common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(*PACKAGES, "tests")}

    too_long = [f"{shown(path)}: {lines}" for path, lines in lengths.items() if lines > FILE_LINES_MAX]

    assert too_long == []


def test_no_function_is_longer_than_60_lines() -> None:
    too_long = []
    for path in python_files(*PACKAGES, "tests"):
        for node in ast.walk(syntax_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    too_long.append(f"{shown(path, node.lineno)} {node.name}: {lines}")

    assert too_long == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = []
    for path in python_files(*PACKAGES, "tests"):
        names = path.relative_to(ROOT).with_suffix("").parts
        if any(name in BANNED_NAMES or name.rpartition("_")[2] in BANNED_NAMES for name in names):
            drawers.append(shown(path))

    assert drawers == []


def test_a_package_file_holds_its_docstring_and_nothing_else() -> None:
    fuller = []
    for path in python_files(*PACKAGES):
        if path.name == "__init__.py":
            tree = syntax_of(path)
            if len(tree.body) != 1 or not ast.get_docstring(tree):
                fuller.append(shown(path))

    assert fuller == []


def test_every_folder_of_python_is_a_package() -> None:
    folders = {path.parent for path in python_files(*PACKAGES)}

    bare = sorted(shown(folder) for folder in folders if not (folder / "__init__.py").exists())

    assert bare == []


def test_tests_are_no_package_and_no_two_files_share_a_name() -> None:
    names = Counter(path.name for path in python_files("tests") if path.name != "conftest.py")

    shared = sorted(name for name, count in names.items() if count > 1 or name == "__init__.py")

    assert shared == []
