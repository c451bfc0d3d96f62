import ast
import re
from dataclasses import fields
from functools import cache
from itertools import takewhile
from typing import Any, get_args

import pytest
from msgspec.structs import fields as struct_fields

from storage.merkle.log import PATH_HASHES_MAX
from storage.schema import block, calls, epochs, genesis, invite, receipt, transaction
from storage.schema.calls import METHODS, Provision
from storage.schema.events import Event
from storage.schema.genesis import PARAMETER_BOUNDS, Parameters
from storage.schema.validators import VALIDATORS_MAX, faults_tolerated, quorum
from tests.support.source_tree import PACKAGES, ROOT, python_files, syntax_of
from tests.support.vectors import FOLDER

PAGES = ("encoding", "transaction", "block", "state", "pbft", "genesis", "receipt", "epochs")
DECIMALS_OF_L = "27742317777372353535851937790883648493"
TAG = re.compile(r"CARETRACE/[a-z-]+/\d+")


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / "spec" / f"{name}.md").read_text(encoding="utf-8")


def rows(name: str, first_cell: str) -> list[list[str]]:
    """The tables' rows of a page whose first cell matches."""
    lines = [line for line in page(name).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch(first_cell, row[0])]


@cache
def all_vectors() -> str:
    texts = [path.read_text(encoding="ascii") for path in FOLDER.glob("*.json")]
    return "\n".join([*texts, *(path.read_bytes().hex() for path in FOLDER.glob("*.bin"))])


@pytest.mark.parametrize("name", PAGES)
def test_every_example_of_the_specification_stands_in_the_vectors(name: str) -> None:
    examples = set(re.findall(r"\b[0-9a-f]{20,}\b", page(name))) - {DECIMALS_OF_L}

    assert examples
    assert sorted(example for example in examples if example not in all_vectors()) == []


def test_the_worked_body_of_a_transaction_is_that_of_the_vectors() -> None:
    shown = page("transaction").split("The body, 149 bytes:\n```\n")[1].split("```")[0]
    body = "".join(bytes_shown(line) for line in shown.splitlines())

    assert f'"body": "{body}"' in all_vectors()
    assert len(body) == 2 * 149


def bytes_shown(line: str) -> str:
    """The hexadecimal digits that a line begins with, without the words behind them."""
    return "".join(takewhile(lambda word: re.fullmatch(r"([0-9a-f]{2})+", word), line.split()))


def test_every_tag_in_the_code_stands_in_the_table_of_tags_and_the_other_way_round() -> None:
    in_code = set()
    for path in python_files(*PACKAGES):
        for node in ast.walk(syntax_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                in_code |= set(TAG.findall(node.value.decode("latin-1")))

    assert in_code == {row[0].strip("`") for row in rows("README", r"`CARETRACE/.*`")}


def test_no_tag_is_the_beginning_of_another() -> None:
    tags = [row[0].strip("`") for row in rows("README", r"`CARETRACE/.*`")]

    assert [(one, other) for one in tags for other in tags if one != other and other.startswith(one)] == []


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("arguments of a call", calls.ARGUMENTS_BYTES_MAX),
        ("body of a transaction", transaction.BODY_BYTES_MAX),
        ("envelope of a transaction", transaction.ENVELOPE_BYTES_MAX),
        ("header", block.HEADER_BYTES_MAX),
        ("result", block.RESULT_BYTES_MAX),
        ("outcome", block.OUTCOME_BYTES_MAX),
        ("certificate", block.CERTIFICATE_BYTES_MAX),
        ("receipt", receipt.RECEIPT_BYTES_MAX),
        ("invite", invite.INVITE_BYTES_MAX),
        ("file of epochs", epochs.EPOCHS_BYTES_MAX),
        ("link of epochs", epochs.LINK_BYTES_MAX),
        ("genesis file, and genesis body", genesis.GENESIS_BYTES_MAX),
        ("signers of a transaction", transaction.SIGNERS_MAX),
        ("elements of a list, where no other limit is named", calls.LIST_LENGTH_MAX),
        ("levels of provisions", calls.PROVISION_DEPTH_MAX),
        ("validators", VALIDATORS_MAX),
        ("hashes of a path", PATH_HASHES_MAX),
    ],
)
def test_every_limit_is_the_one_of_the_code(what: str, limit: int) -> None:
    ((_, said),) = rows("encoding", re.escape(what))

    assert int(re.sub(r"^1 to | bytes$|,", "", said)) == limit


def test_the_table_of_methods_lists_the_arguments_of_each() -> None:
    listed = {row[0].strip("`"): row[1:] for row in rows("transaction", r"`[a-z]+\.[a-z_]+`")}

    assert listed.keys() == METHODS.keys()
    for name, (arguments, urgent) in listed.items():
        assert [part.split()[0] for part in arguments.split(";")] == names_of(METHODS[name].arguments), name
        assert (urgent == "yes") is METHODS[name].urgent, name


def names_of(struct: Any) -> list[str]:
    return [field.name for field in struct_fields(struct)]


def test_the_fields_of_records_are_listed_in_their_order() -> None:
    for name, struct in (
        ("transaction", transaction.Body),
        ("transaction", Provision),
        ("block", block.Outcome),
        ("block", block.Result),
        ("block", block.Certificate),
        ("genesis", genesis.GenesisBody),
        ("genesis", genesis.Member),
        ("receipt", receipt.Receipt),
        ("invite", invite.Invite),
    ):
        assert f"`[{', '.join(names_of(struct))}]`" in page(name), struct


def test_the_fields_of_a_header_are_listed_in_their_order() -> None:
    table = page("block").split("## Header\n")[1].split("\n\n")[0]

    assert re.findall(r"^\| ([a-z_]+) \| (?!kind)", table, re.MULTILINE) == names_of(block.Header)


def test_the_table_of_events_lists_the_elements_of_each() -> None:
    listed = {}
    for kinds, elements in rows("block", r"`[a-z]+(\.[a-z_]+)?`(, `[a-z]+\.[a-z_]+`)?"):
        for kind in kinds.split(", "):
            listed[kind.strip("`")] = [element.split()[0] for element in re.sub(":.*", "", elements).split(", ")]

    assert listed == {kind.__struct_config__.tag: names_of(kind) for kind in get_args(Event)}


def test_the_table_of_parameters_has_defaults_and_bounds() -> None:
    listed = [[row[0].strip("`"), *map(int, row[1:4])] for row in rows("genesis", r"`[a-z_]+`") if row[1].isdigit()]

    defaults = {field.name: field.default for field in fields(Parameters)}
    assert listed == [[name, defaults[name], *PARAMETER_BOUNDS[name]] for name in sorted(PARAMETER_BOUNDS)]


def test_the_table_of_quorums_is_that_of_the_code() -> None:
    ((_, *counts),), ((_, *faults),), ((_, *quorums),) = (rows("block", word) for word in ("n", "f", "quorum"))

    assert list(map(int, counts)) == list(range(1, 17))
    assert list(map(int, faults)) == [faults_tolerated(int(count)) for count in counts]
    assert list(map(int, quorums)) == [quorum(int(count)) for count in counts]
