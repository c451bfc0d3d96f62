"""When a primary drafts a block, and what it puts into it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.engine import Draft
from node.mempool import Mempool
from node.metrics import Metrics
from node.replication.bodies import decode_bodies
from node.replication.chain import Chain
from node.replication.proposer import BUSY_MS, HOLD_MS, Proposer
from storage.schema.calls import RegisterPatient, Revoke
from storage.schema.transaction import Transaction
from tests.support.kept_ledger import KeptLedger
from tests.support.provisions import provision
from tests.support.small_ledger import Actor, service
from tests.support.story import Story

IDLE_MS = 300_000


class Primary:
    """North as primary on a ledger with a story, with a wall clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.story = Story(path=folder / "ledger")
        assert isinstance(self.story.ledger, KeptLedger)
        self.ledger = self.story.ledger.ledger
        self.chain = Chain(self.ledger, self.story.genesis, Metrics())
        self.mempool = Mempool()
        self.wall_ms = self.story.time_ms + 1000
        self.proposer = Proposer("north", self.chain, self.mempool, lambda: self.wall_ms)

    @property
    def wanted(self) -> Draft:
        return Draft(view=3, height=self.ledger.head.height + 1)

    def add(self, name: str, *, not_after_s: int | None = None) -> Transaction:
        """Let the registration of a new patient wait."""
        patient = Actor(name)
        call, signers = RegisterPatient(patient.sealing_key), [patient, service("north")]
        transaction = self.story.sign("identity.register_patient", call, signers, not_after_s=not_after_s)
        self.mempool.add(transaction)
        return transaction


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Primary]:
    primary = Primary(tmp_path)
    yield primary
    primary.ledger.close()


def test_nothing_is_drafted_that_the_engine_does_not_want(primary: Primary) -> None:
    primary.add("zoe")

    assert primary.proposer.due_ms(1000) is None
    assert primary.proposer.draft() is None


def test_a_draft_stands_on_the_head_and_passes_the_judgement_of_the_backups(primary: Primary) -> None:
    waiting = [primary.add("zoe"), primary.add("ros")]
    primary.proposer.want(primary.wanted)

    drafted = primary.proposer.draft()

    assert drafted is not None
    assert (drafted.view, drafted.header.first_view, drafted.header.proposer) == (3, 3, "north")
    assert drafted.header.time_ms == primary.wall_ms
    assert drafted.leaves == tuple(transaction.leaf for transaction in waiting)
    assert decode_bodies(drafted.bodies) == tuple(transaction.envelope for transaction in waiting)
    assert list(primary.proposer.drafted) == waiting
    primary.chain.check(drafted.header, waiting)


def test_a_wish_is_answered_once_and_void_when_the_height_has_committed(primary: Primary) -> None:
    primary.add("zoe")
    primary.proposer.want(primary.wanted)

    first, second = primary.proposer.draft(), primary.proposer.draft()
    primary.proposer.want(Draft(view=3, height=primary.wanted.height + 1))
    too_high = primary.proposer.draft()
    primary.proposer.want(primary.wanted)
    primary.proposer.on_commit(1000)

    assert first is not None
    assert second is None
    assert too_high is None
    assert primary.proposer.due_ms(5000) is None


def test_what_waits_is_drafted_at_once_when_nothing_is_in_flight(primary: Primary) -> None:
    primary.add("zoe")
    primary.proposer.want(primary.wanted)

    assert primary.proposer.due_ms(10_000) == 10_000


def test_while_blocks_follow_each_other_a_short_hold_gathers_more(primary: Primary) -> None:
    primary.add("zoe")
    primary.proposer.on_commit(10_000)
    primary.proposer.want(primary.wanted)

    assert primary.proposer.due_ms(10_001) == 10_000 + HOLD_MS
    assert primary.proposer.due_ms(10_000 + BUSY_MS) == 10_000 + BUSY_MS


def test_without_work_an_empty_block_is_due_when_the_head_is_old_enough(primary: Primary) -> None:
    primary.proposer.want(primary.wanted)
    head_ms = primary.ledger.head.header.time_ms

    assert primary.proposer.due_ms(10_000) == 10_000 + head_ms + IDLE_MS - primary.wall_ms
    assert primary.proposer.draft() is None
    primary.wall_ms = head_ms + IDLE_MS
    drafted = primary.proposer.draft()

    assert drafted is not None
    assert drafted.leaves == ()
    primary.chain.check(drafted.header, [])


def test_a_block_is_later_than_its_parent_though_the_clock_went_back(primary: Primary) -> None:
    primary.wall_ms -= 60_000
    waiting = primary.add("zoe")
    primary.proposer.want(primary.wanted)

    drafted = primary.proposer.draft()

    assert drafted is not None
    assert drafted.header.time_ms == primary.ledger.head.header.time_ms + 1
    primary.chain.check(drafted.header, [waiting])


def test_what_can_no_longer_be_included_is_dropped_from_the_pool(primary: Primary) -> None:
    primary.add("zoe", not_after_s=primary.wall_ms // 1000 - 1)
    good = primary.add("ros")
    primary.proposer.want(primary.wanted)

    drafted = primary.proposer.draft()

    assert drafted is not None
    assert drafted.leaves == (good.leaf,)
    assert [transaction.leaf for transaction in primary.mempool.oldest(9)] == [good.leaf]


def test_a_revocation_stands_before_all_that_came_earlier(primary: Primary) -> None:
    consent = primary.story.grant(provision(practitioners=(primary.story.ben.key,), purposes=("TREAT",)))
    earlier = primary.add("zoe")
    revocation = primary.story.sign("consent.revoke", Revoke(consent), [primary.story.pia])
    primary.mempool.add(revocation)
    primary.wall_ms = primary.story.time_ms + 1000
    primary.proposer.want(primary.wanted)

    drafted = primary.proposer.draft()

    assert drafted is not None
    assert drafted.leaves == (revocation.leaf, earlier.leaf)
