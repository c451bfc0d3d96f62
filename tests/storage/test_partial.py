import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from node.contracts.governance import genesis_state
from node.execution.transition import Execution, execute_block, trail_of
from storage.database import AREAS, EPOCH, META, Database
from storage.integrity import Report, verify_folder
from storage.ledger import Ledger
from storage.places import replace_ledger
from storage.schema.block import Header
from storage.schema.transaction import Transaction, decode_transaction
from tests.support.arrivals import arrive, held, kept, on, opened, take_one_below
from tests.support.small_ledger import Actor
from tests.support.story import Story

COUNTS = [(0, 0), (8, 0), (8, 3)]
Built = tuple[Story, dict[tuple[int, int], Path]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Ledgers that began with a snapshot, by how many blocks stand above it and how many came back from below."""
    folder = tmp_path_factory.mktemp("built")
    story = Story(path=folder / "kept" / "ledger")
    ledgers: dict[tuple[int, int], Path] = {}
    for above, below in COUNTS:
        target = ledgers[above, below] = folder / f"{above}-{below}" / "ledger"
        arrive(story, target, held(story))
        replace_ledger(target)
        with closing(opened(story, target)) as ledger:
            for number in range(above):
                story.register(Actor(f"patient {above}-{below}-{number}"))
                block = kept(story).block(kept(story).head.height)
                transactions = [decode_transaction(envelope) for envelope in block.envelopes]
                on(story, ledger).append(transactions, block.header.time_ms)
            for _ in range(below):
                take_one_below(story, ledger)
    yield story, ledgers
    kept(story).close()


def ledger_of(built: Built, counts: tuple[int, int], tmp_path: Path) -> tuple[Story, Path]:
    story, ledgers = built
    shutil.copytree(ledgers[counts], tmp_path / "ledger")
    return story, tmp_path / "ledger"


def verified(story: Story, target: Path) -> Report:
    def execute(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Execution:
        return execute_block(header, transactions, ledger, story.genesis)

    state = genesis_state(story.genesis)
    return verify_folder(target, story.genesis, state, execute, lambda *_: None, trail_of=trail_of)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_a_ledger_without_all_of_its_history_is_verified_from_where_it_begins(
    built: Built, counts: tuple[int, int], tmp_path: Path
) -> None:
    report = verified(*ledger_of(built, counts, tmp_path))

    assert report.blocks == sum(counts)
    assert report.from_height == report.to_height + 1 - sum(counts)
    assert report.first_bad is None


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


@pytest.mark.parametrize("counts", [(8, 0), (8, 3)], ids=str)
@pytest.mark.parametrize("change", [removed, added, altered])
@pytest.mark.parametrize("area", sorted(set(AREAS) - {META, EPOCH}), ids=lambda area: AREAS[area])
def test_whatever_is_changed_in_a_ledger_without_all_of_its_history_is_found(
    built: Built,
    counts: tuple[int, int],
    tmp_path: Path,
    area: bytes,
    change: Callable[[Database, bytes], None],
) -> None:
    story, folder = ledger_of(built, counts, tmp_path)
    with closing(Database.open(folder)) as database:
        change(database, area)

    report = verified(story, folder)

    assert not report.ok
