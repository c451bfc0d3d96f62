"""The chain judges, executes and commits blocks in one way, whoever hands them in."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from node.execution.includable import BlockInvalidError
from node.metrics import Metrics
from node.replication.chain import Chain, Committed
from storage.schema.block import Header
from storage.schema.calls import RegisterPatient
from storage.schema.transaction import Transaction
from tests.support.chain import certify
from tests.support.kept_ledger import KeptLedger
from tests.support.small_ledger import Actor, service
from tests.support.story import Story


class Standing:
    """A chain on a real ledger with a story, and a block that may come next."""

    def __init__(self, folder: Path) -> None:
        self.story = Story(path=folder / "ledger")
        assert isinstance(self.story.ledger, KeptLedger)
        self.ledger = self.story.ledger.ledger
        self.metrics = Metrics()
        self.chain = Chain(self.ledger, self.story.genesis, self.metrics)
        self.transactions = [self.registration("zoe"), self.registration("ros")]
        self.header = self.chain.next_header("east", 0, self.story.time_ms + 1000, self.transactions)

    def registration(self, name: str) -> Transaction:
        patient = Actor(name)
        signers = [patient, service("north")]
        return self.story.sign("identity.register_patient", RegisterPatient(patient.sealing_key), signers)

    def commit(self) -> None:
        execution = self.chain.execute(self.header, self.transactions)
        certificate = certify(self.story.genesis, self.header, execution.result)
        self.chain.commit(self.header, self.transactions, execution, certificate)


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[Standing]:
    made = Standing(tmp_path)
    yield made
    made.ledger.close()


def test_a_header_that_it_writes_passes_its_own_judgement(standing: Standing) -> None:
    standing.chain.check(standing.header, standing.transactions)

    assert standing.header.height == standing.chain.head.header.height + 1
    assert standing.header.tx_count == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 99),
        ("parent", bytes(32)),
        ("parent_result", bytes(32)),
        ("time_ms", 1),
        ("tx_root", bytes(32)),
        ("tx_count", 1),
        ("tx_bytes", 1),
        ("epoch", 1),
        ("validators_hash", bytes(32)),
        ("history_root", bytes(32)),
        ("chain_id", bytes(32)),
    ],
)
def test_no_field_of_a_header_may_say_anything_else(standing: Standing, field: str, value: object) -> None:
    wrong: Header = msgspec.structs.replace(standing.header, **{field: value})

    with pytest.raises(BlockInvalidError):
        standing.chain.check(wrong, standing.transactions)


def test_executing_changes_nothing_and_committing_does(standing: Standing) -> None:
    before = standing.chain.head.digest
    execution = standing.chain.execute(standing.header, standing.transactions)
    assert standing.chain.head.digest == before

    standing.commit()

    assert standing.chain.head.digest == standing.header.digest()
    assert standing.chain.head.result_digest == execution.result.digest()
    assert all(standing.ledger.contains(transaction.id) for transaction in standing.transactions)


def test_listeners_hear_of_a_commit_in_their_order_when_it_stands(standing: Standing) -> None:
    heard: list[tuple[str, int, Committed]] = []
    standing.chain.listen(lambda committed: heard.append(("first", standing.chain.head.height, committed)))
    standing.chain.listen(lambda committed: heard.append(("second", standing.chain.head.height, committed)))

    standing.commit()

    assert [(who, height) for who, height, _ in heard] == [
        ("first", standing.header.height),
        ("second", standing.header.height),
    ]
    committed = heard[0][2]
    assert (committed.header, list(committed.transactions)) == (standing.header, standing.transactions)
    assert len(committed.outcomes) == 2


def test_what_is_committed_is_counted_refusals_apart(standing: Standing) -> None:
    # The same patient again: includable, and refused by the contract.
    standing.transactions.append(standing.registration("zoe"))
    standing.header = standing.chain.next_header("east", 0, standing.story.time_ms + 1000, standing.transactions)

    standing.commit()

    text = standing.metrics.render().decode()
    assert "caretrace_transactions_committed_total 3.0" in text
    assert "caretrace_transactions_refused_total 1.0" in text
    assert "caretrace_blocks_committed_total 1.0" in text
    assert "caretrace_synced_batches_total 1.0" in text


def test_what_a_quorum_did_not_certify_is_never_committed(standing: Standing) -> None:
    execution = standing.chain.execute(standing.header, standing.transactions)
    other = standing.chain.execute(standing.header, [])
    certificate = certify(standing.story.genesis, standing.header, other.result)

    with pytest.raises(AssertionError):
        standing.chain.commit(standing.header, standing.transactions, execution, certificate)

    assert not standing.ledger.contains(standing.transactions[0].id)
