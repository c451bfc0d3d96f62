from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from node.contracts.governance import genesis_state
from node.execution.transition import Execution, execute_block, trail_of
from storage.database import AREAS, Database
from storage.integrity import Report, verify_folder
from storage.ledger import Ledger
from storage.places import replace_ledger
from storage.schema.block import Header
from storage.schema.transaction import Transaction, decode_transaction
from tests.support.arrivals import arrive, held, kept, on, opened, take_one_below
from tests.support.small_ledger import Actor
from tests.support.story import Story


@pytest.fixture
def partial(story: Story, target: Path) -> Path:
    """A ledger that began with a snapshot, has ten blocks of its own above it, and three from below."""
    arrive(story, target, held(story))
    replace_ledger(target)
    source = kept(story)
    with closing(opened(story, target)) as ledger:
        for number in range(10):
            story.register(Actor(f"later patient {number}"))
            block = source.block(source.head.height)
            on(story, ledger).append(
                [decode_transaction(envelope) for envelope in block.envelopes], block.header.time_ms
            )
        for _ in range(3):
            take_one_below(story, ledger)
    return target


def verified(story: Story, target: Path) -> Report:
    def execute(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Execution:
        return execute_block(header, transactions, ledger, story.genesis)

    state = genesis_state(story.genesis)
    return verify_folder(target, story.genesis, state, execute, lambda *_: None, trail_of=trail_of)


def test_a_ledger_without_all_of_its_history_is_verified_from_where_it_begins(story: Story, partial: Path) -> None:
    report = verified(story, partial)

    head = kept(story).head.height
    assert report == Report(head - 12, head, 13, None)


def removed(database: Database, area: bytes) -> None:
    key = list(database.scan(area))[-1][0]
    batch = database.batch()
    batch.delete(key)
    database.write(batch)


def added(database: Database, area: bytes) -> None:
    key, value = max(database.scan(area), key=lambda entry: len(entry[1]))
    batch = database.batch()
    batch.put(key[:1] + bytes(32) + key[33:] if area in (b"t", b"a", b"s") else key[:-1] + b"\xee", value)
    database.write(batch)


def altered(database: Database, area: bytes) -> None:
    key, value = list(database.scan(area))[-1]
    batch = database.batch()
    batch.put(key, value + b"\x00")
    database.write(batch)


@pytest.mark.parametrize("change", [removed, added, altered])
@pytest.mark.parametrize("area", sorted(set(AREAS) - {b"m"}), ids=lambda area: AREAS[area])
def test_whatever_is_changed_in_a_ledger_without_all_of_its_history_is_found(
    story: Story, partial: Path, area: bytes, change: Callable[[Database, bytes], None]
) -> None:
    with closing(Database.open(partial)) as database:
        change(database, area)

    report = verified(story, partial)

    assert not report.ok
