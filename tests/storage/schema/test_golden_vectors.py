import ast
import subprocess
import sys
from pathlib import Path

from tests.support.vectors import FOLDER

# What the second implementation may stand on; siblings beside it are its own.
ALLOWED = {"base64", "collections", "hashlib", "hmac", "json", "msgpack", "nacl", "pathlib", "struct", "sys", "typing"}


def test_every_vector_file_is_what_the_second_implementation_writes() -> None:
    command = [sys.executable, "-B", str(FOLDER / "generate.py"), "--check"]

    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (checked.returncode, checked.stdout) == (0, "every vector is as generated\n"), checked.stderr


def test_the_check_names_a_changed_a_missing_and_a_foreign_file(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        if path.suffix in (".py", ".json", ".bin"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = bytearray((tmp_path / "receipt.bin").read_bytes())
    changed[100] ^= 1
    (tmp_path / "receipt.bin").write_bytes(changed)
    (tmp_path / "trees.json").unlink()
    (tmp_path / "foreign.json").write_text("{}")
    command = [sys.executable, "-B", str(tmp_path / "generate.py"), "--check"]

    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert checked.returncode == 1
    assert [line.split()[0] for line in checked.stdout.splitlines()] == ["foreign.json", "receipt.bin", "trees.json"]


def test_the_second_implementation_imports_nothing_of_ours() -> None:
    siblings = {path.stem for path in FOLDER.glob("*.py")}
    imported = set()
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add((node.module or "").split(".")[0])

    assert imported - ALLOWED - siblings == set()
