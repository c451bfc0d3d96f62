import ast
import json
import subprocess
import sys

from tests.support.source_tree import ROOT, python_files, shown, syntax_of

HEAVY = {"fastapi", "hypercorn", "libp2p", "plyvel", "prometheus_client", "starlette", "trio"}
BY_NAME = {"import_module", "__import__"}  # The import contracts cannot see what these load.


def test_every_command_together_loads_nothing_heavy() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in python_files("cli")]
    program = f"import importlib, json, sys\nfor name in {modules}: importlib.import_module(name)\n"

    done = subprocess.run(
        [sys.executable, "-c", program + "print(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert {"cli", "click"} <= loaded
    assert loaded & HEAVY == set()


def test_the_only_thing_imported_by_name_beside_commands_is_the_runtime() -> None:
    others = []
    for path in python_files("cli"):
        for node in ast.walk(syntax_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
                name = ast.unparse(node.args[0])
                if shown(path) != "cli/main.py" and not name.startswith("'node.runtime."):
                    others.append(f"{shown(path, node.lineno)} {name}")

    assert others == []
