"""Checks a whole ledger again, from genesis: of a running node, or of a copy that no node runs on."""


def verify_snapshot(*_: object) -> None:
    raise AssertionError
