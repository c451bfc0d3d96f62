"""What a validator has promised, over a real vote log, and what it starts from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.replication.promises import Promises
from storage.ledger import Head
from storage.opening import genesis_result, make_head
from storage.schema.transaction import Transaction
from storage.vote_log import VoteLog
from tests.support.chain import make_genesis, make_transaction

GENESIS = make_genesis()
OWNER = bytes(range(32))


@pytest.fixture
def head() -> Head:
    return make_head(GENESIS.header, genesis_result(GENESIS, bytes(32)), None)


@pytest.fixture
def vote_log(tmp_path: Path) -> Iterator[VoteLog]:
    log = opened(tmp_path)
    yield log
    log.close()


def opened(folder: Path) -> VoteLog:
    return VoteLog.open(folder / "votes.log", OWNER, ledger_height=0, must_exist=False)


def some(count: int) -> list[Transaction]:
    return [make_transaction(GENESIS, number) for number in range(count)]


def test_records_and_bodies_come_back_apart_and_in_order(vote_log: VoteLog, head: Head, tmp_path: Path) -> None:
    promises, transactions = Promises(vote_log), some(3)

    promises.keep([b"proposal"], transactions[:2])
    promises.keep([b"prepare", b"commit"], [])
    promises.keep([], transactions[2:])
    again = opened(tmp_path)
    recovered = Promises(again)

    assert recovered.recovered(head).records == (b"proposal", b"prepare", b"commit")
    assert recovered.bodies() == tuple(transaction.envelope for transaction in transactions)
    again.close()


def test_the_engine_starts_from_the_head_and_what_the_log_holds(vote_log: VoteLog, head: Head) -> None:
    recovered = Promises(vote_log).recovered(head)

    assert (recovered.header, recovered.certificate, recovered.result) == (head.header, None, head.result_digest)
    assert recovered.records == ()
    assert recovered.log_whole


def test_without_a_log_nothing_is_known_and_nothing_may_be_promised(head: Head) -> None:
    promises = Promises(None)

    assert not promises.recovered(head).log_whole
    assert promises.bodies() == ()
    promises.truncate([], 1)
    with pytest.raises(AssertionError):
        promises.keep([b"prepare"], [])


def test_what_is_spent_is_let_go_bodies_too(vote_log: VoteLog, head: Head, tmp_path: Path) -> None:
    promises = Promises(vote_log)
    promises.keep([b"prepare of height 1"], some(2))

    promises.truncate([b"view"], 0)
    promises.keep([b"prepare of height 2"], [])
    again = opened(tmp_path)

    assert Promises(again).recovered(head).records == (b"view", b"prepare of height 2")
    assert Promises(again).bodies() == ()
    again.close()
