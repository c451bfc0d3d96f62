"""What a node does about a primary that orders and leaves one thing out: it says it again, and then complains."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.mempool import Mempool
from node.metrics import Metrics
from node.replication.chain import Chain
from node.replication.neglect import BLOCKS_MIN, PATIENCE_MS, URGE_EVERY_MS, URGENT_PATIENCE_MS, Neglect
from storage.schema.calls import Exclude, RegisterPatient
from storage.schema.genesis import Parameters
from storage.schema.transaction import Transaction
from tests.support.kept_ledger import KeptLedger
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story


class Watched:
    """A backup that sees the blocks of ``primary``, a second after each other, and what it says of them."""

    def __init__(self, folder: Path) -> None:
        self.story = Story(Parameters(block_tx_max=3), path=folder / "ledger")
        assert isinstance(self.story.ledger, KeptLedger)
        self.ledger = self.story.ledger.ledger
        self.mempool = Mempool()
        self.primary = "east"
        self.now_ms = 0
        self.urged: list[tuple[int, bytes]] = []
        self.complaints: list[tuple[int, str]] = []
        chain = Chain(self.ledger, self.story.genesis, Metrics())
        self.neglect = Neglect(chain, self.mempool, lambda: self.primary, self._urge, self._complain)
        self._number = 0

    def _urge(self, transactions: list[Transaction]) -> None:
        self.urged += [(self.now_ms, transaction.id) for transaction in transactions]

    def _complain(self, primary: str) -> None:
        self.complaints.append((self.now_ms, primary))

    def newcomer(self) -> Transaction:
        self._number += 1
        patient = Actor(f"newcomer {self._number}")
        call, signers = RegisterPatient(patient.sealing_key), [patient, service("north")]
        return self.story.sign("identity.register_patient", call, signers)

    def wait(self, *, urgent: bool = False) -> Transaction:
        """Let a good transaction come in and wait."""
        transaction = self.newcomer()
        if urgent:
            exclude = Exclude(provision(effect="deny"), False)
            transaction = self.story.sign("consent.exclude", exclude, [self.story.pia], "north")
        self.mempool.add(transaction)
        return transaction

    def block(self, *transactions: Transaction, every_ms: int = 1000) -> None:
        """Agree on a block; without transactions, on one of others than those that wait here."""
        chosen = transactions or (self.newcomer(),)
        self.now_ms += every_ms
        self.story.order(*chosen)
        self.mempool.remove(transaction.id for transaction in chosen)
        self.neglect.on_block(self.ledger.head.header, chosen, self.now_ms)

    def blocks(self, count: int, every_ms: int = 1000) -> None:
        for _ in range(count):
            self.block(every_ms=every_ms)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.ledger.close()


def test_what_the_next_block_takes_is_neither_urged_nor_complained_of(watched: Watched) -> None:
    for _ in range(5):
        waiting = watched.wait()
        watched.block()
        watched.block(waiting)

    assert (watched.urged, watched.complaints) == ([], [])


def test_what_a_block_passes_over_is_said_to_everybody_again_every_two_seconds(watched: Watched) -> None:
    waiting = watched.wait()

    watched.blocks(7)

    # The first block may have been drafted before it came.
    assert watched.urged == [(at_ms, waiting.id) for at_ms in (2_000, 4_000, 6_000)]
    assert URGE_EVERY_MS == 2_000


@pytest.mark.parametrize(("urgent", "patience_ms"), [(True, URGENT_PATIENCE_MS), (False, PATIENCE_MS)])
def test_a_primary_is_complained_of_when_patience_ends_and_as_long_as_it_goes_on(
    watched: Watched, urgent: bool, patience_ms: int
) -> None:
    waiting = watched.wait(urgent=urgent)

    watched.blocks(15)
    count_before = len(watched.complaints)
    watched.block(waiting)

    assert watched.complaints[0] == (2_000 + patience_ms, "east")
    assert count_before == 15_000 // 1000 - watched.complaints[0][0] // 1000 + 1
    assert len(watched.complaints) == count_before


def test_few_slow_blocks_are_no_neglect(watched: Watched) -> None:
    watched.wait()

    watched.blocks(BLOCKS_MIN, every_ms=2 * PATIENCE_MS)
    before = list(watched.complaints)
    watched.blocks(1, every_ms=2 * PATIENCE_MS)

    assert before == []
    assert len(watched.complaints) == 1


def test_full_blocks_without_it_are_no_neglect_and_do_not_excuse_the_others(watched: Watched) -> None:
    waiting = watched.wait()

    for _ in range(20):
        watched.block(watched.newcomer(), watched.newcomer(), watched.newcomer())
    during = list(watched.complaints)
    watched.blocks(11)

    assert during == []
    assert {urged for _, urged in watched.urged} == {waiting.id}
    assert len(watched.complaints) == 1


def test_another_primary_gets_its_own_time(watched: Watched) -> None:
    watched.wait()
    watched.blocks(11)

    watched.primary = "north"
    watched.blocks(11)

    assert watched.complaints == []
    watched.blocks(1)
    assert [primary for _, primary in watched.complaints] == ["north"]


def test_what_is_watched_is_bounded(watched: Watched) -> None:
    for _ in range(500):
        watched.wait()

    watched.blocks(3)

    assert len(watched.neglect._waiting) == 200
    assert len({urged for _, urged in watched.urged}) == 200
