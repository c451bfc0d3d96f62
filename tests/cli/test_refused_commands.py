import pytest

from tests.support.operated_nodes import Operated


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("patient", "register", "--as", "pia", "--node", "north"), 1, "identity.already_registered"),
        (("patient", "register", "--as", "nobody", "--node", "north"), 5, "keyfile.not_found"),
        (("patient", "show", "zoe", "--node", "north"), 5, "name.not_found"),
        (("record", "show", "r-aaaaa", "--node", "north"), 5, "record.not_found"),
        (("record", "show", "c-aaaaa", "--node", "north"), 2, "usage"),
        (("receipt", "get", "0000", "--node", "north"), 5, "transaction.not_found"),
        (("receipt", "get", "xyz", "--node", "north"), 2, "usage"),
        (("ledger", "tx", "f" * 64, "--node", "north"), 5, "tx.not_found"),
        (("ledger", "block", "1000", "--node", "north"), 5, "block.not_found"),
        (("ledger", "block", "-1", "--node", "north"), 2, "usage"),
        (("consent", "revoke", "c-aaaaa", "--node", "north"), 5, "consent.not_found"),
        (("practitioner", "revoke", "pia", "--node", "north"), 4, "identity.not_practitioner"),
        (("practitioner", "revoke", "ben", "--node", "north"), 4, "identity.other_member"),
        (("status", "--node", "nowhere"), 2, "usage"),
        (("audit", "patient", "did:key:zzz", "--node", "north"), 2, "did.malformed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_done_is_refused_by_a_stable_code(
    shared: Operated, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    assert shared.refusal(*arguments, exit_code=exit_code)["code"] == code


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (("--to", "ben", "--purpose", "FUN"), "purpose.unknown"),
        (("--to", "ben", "--purpose", "TREAT", "--category", "gossip"), "category.unknown"),
        (("--to", "ben", "--purpose", "TREAT", "--except", "SECRET"), "sensitivity.unknown"),
        (("--to", "ben", "--purpose", "TREAT", "--from", "2d", "--until", "1d"), "usage"),
        (("--to", "ben", "--purpose", "TREAT", "--as", "ben"), "usage"),
        (("--to", "south/wizard", "--purpose", "TREAT"), "usage"),
        (("--to", "ben"), "usage"),
        (("--purpose", "TREAT"), "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_grant_that_cannot_be_meant_is_refused_before_anything_is_sent(
    shared: Operated, limits: tuple[str, ...], code: str
) -> None:
    height = shared.ask("ledger", "status", "--node", "north")["height"]

    refused = shared.refusal("consent", "grant", "--patient", "pia", *limits, "--node", "north", exit_code=2)

    assert refused["code"] == code
    assert shared.ask("ledger", "status", "--node", "north")["height"] == height
