import ast
from collections.abc import Iterator

from tests.support.source_tree import PACKAGES, python_files, shown, syntax_of

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def test_every_public_module_class_and_function_says_what_it_is_for() -> None:
    silent = []
    for path in python_files(*PACKAGES):
        tree = syntax_of(path)
        if not ast.get_docstring(tree):
            silent.append(shown(path))
        silent += [
            f"{shown(path, node.lineno)} {node.name}"
            for node in public_definitions(tree)
            if not ast.get_docstring(node)
        ]

    assert silent == []


def public_definitions(scope: ast.Module | ast.ClassDef) -> Iterator[Documented]:
    """Classes and functions of a module, and the methods of its public classes; not what functions hide."""
    for node in scope.body:
        if isinstance(node, Documented) and not node.name.startswith("_") and not is_exempt(node):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def is_exempt(node: Documented) -> bool:
    """An override keeps its parent's docstring; an overload or a setter says no more than its main form."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"overload", "override", "setter"})
