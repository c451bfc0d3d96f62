import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.contracts import entries, evidence, proposals
from node.contracts.registry import RULES
from storage.schema import codes, seen
from storage.schema.block import Outcome
from storage.schema.calls import METHODS
from storage.schema.events import Event
from storage.schema.refusals import BEFORE_THE_LEDGER, ON_THE_LEDGER, REFUSALS
from tests.support.contract_tables import SIGNERS, SPEC, VALUES, with_tables
from tests.support.source_tree import python_files, syntax_of

CODE = re.compile(r"[a-z]+\.[a-z_]+")


def literals(*folders: str) -> set[str]:
    """Every text in the code of these folders that has the form of a code."""
    nodes = [node for path in python_files(*folders) for node in ast.walk(syntax_of(path))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text for text in texts if CODE.fullmatch(text)}


def kinds_of_events() -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in Event.__args__}


def test_the_specification_states_what_the_code_does() -> None:
    text = SPEC.read_text(encoding="utf-8")

    assert with_tables(text) == text, "run: python -m tests.support.contract_tables"


def test_every_code_that_the_rules_refuse_with_has_words_and_is_specified() -> None:
    fields = ("provision.", "change.")
    used = {code for code in literals("node/contracts") - set(METHODS) if not code.startswith(fields)}
    prose = SPEC.read_text(encoding="utf-8").partition("## Refused outcomes")[0]

    assert used == set(ON_THE_LEDGER)
    assert [code for code in ON_THE_LEDGER if f"`{code}`" not in prose] == []


def test_every_code_that_execution_refuses_with_has_words() -> None:
    used = literals("node/execution") - set(METHODS) - kinds_of_events() - {"block.invalid", "identity.valid"}

    assert used <= set(REFUSALS)
    assert {code for code in BEFORE_THE_LEDGER if code.startswith("block.")} <= used


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_has_words_and_a_hint_and_a_code_that_an_outcome_may_carry(code: str) -> None:
    refusal = REFUSALS[code]

    Outcome("transaction", bytes(32), code, ())
    assert re.fullmatch(r"[a-z_.]{1,64}", code)
    assert len(refusal.words) > 8
    assert refusal.hint
    assert not (refusal.words + refusal.hint).endswith(".")


def test_every_method_has_a_rule_and_a_line_about_its_signers() -> None:
    assert set(RULES) == set(METHODS) == set(SIGNERS)


def test_every_key_of_the_state_is_specified() -> None:
    defined = {**vars(entries), **vars(proposals), **vars(evidence), **vars(seen)}
    builders = {value for name, value in defined.items() if name.endswith("_key") and callable(value)}

    assert builders - {entries.load_key} == set(VALUES)


names = st.from_regex(r"\A[a-z][a-z0-9-]{0,31}\Z")
raw = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**63 - 1)
named = {bytes: raw, str: names, int: numbers}
built = st.sampled_from(sorted(VALUES, key=lambda build: build.__name__)).flatmap(
    lambda build: st.tuples(
        st.just(build),
        st.tuples(*(named[part] for name, part in build.__annotations__.items() if name != "return")),
    )
)


@given(built, built)
def test_no_two_things_share_a_key(one: tuple, other: tuple) -> None:
    assert (one[0](*one[1]) == other[0](*other[1])) is (one == other)


def test_no_beginning_of_a_key_is_that_of_another_kind() -> None:
    words = [build(*([b"k" * 32] * 2)[: build.__code__.co_argcount]) for build in VALUES if has_bytes_only(build)]

    assert len({word.partition(b"/")[0] for word in words}) == len(words)


def has_bytes_only(build: object) -> bool:
    return all(part is bytes for name, part in build.__annotations__.items() if name != "return")


def test_codes_are_such_as_calls_may_carry() -> None:
    pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
    tables = (codes.CATEGORIES, codes.SENSITIVITIES, codes.PURPOSES, codes.ROLES, codes.ACTIONS)

    assert all(pattern.fullmatch(code) for table in tables for code in table)


def test_a_category_is_found_by_name_by_coding_and_by_resource_type_and_no_two_share_one() -> None:
    for category in codes.CATEGORIES.values():
        for code in (category.name, category.code, *category.resource_types):
            assert codes.category_of(code) == category.name
    assert codes.category_of("gossip") is None
