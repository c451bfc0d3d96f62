import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from storage.blocks import height_key
from storage.database import (
    AREAS,
    BODY,
    CERTIFICATE,
    HEADER,
    HISTORY,
    META,
    OUTCOMES,
    RESULT,
    SEEN,
    STATE,
    TRAIL,
    TX_INDEX,
    Database,
    DatabaseLostError,
)
from storage.integrity import Finding, Report, verify, verify_folder
from storage.ledger import Ledger
from storage.schema.block import Header, transactions_root
from storage.schema.transaction import Transaction, envelope_leaf
from tests.support.chain import (
    GENESIS_STATE,
    START_MS,
    Executed,
    certify,
    execute,
    extend,
    make_commit,
    make_genesis,
    make_transaction,
    trail_of,
)

GENESIS = make_genesis()
HEIGHT = 12


def execute_here(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Executed:
    return execute(GENESIS, header, transactions, ledger.state, ledger)


def silent(_height: int, _of: int) -> None:
    """Nobody watches."""


def verified(folder: Path) -> Report:
    return verify_folder(folder, GENESIS, GENESIS_STATE, execute_here, silent, trail_of=trail_of)


def found(folder: Path) -> Finding:
    report = verified(folder)
    assert not report.ok
    assert report.first_bad is not None
    return report.first_bad


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose first half stands in a table, and whose second half in the log."""
    folder = tmp_path_factory.mktemp("built") / "ledger"
    for _ in range(2):
        ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)
        extend(GENESIS, ledger, block_count=HEIGHT // 2, tx_count=4)
        ledger.note_vote_log(bytes(32))
        ledger.close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "ledger")
    return tmp_path / "ledger"


def change(folder: Path, entries: dict[bytes, bytes | None]) -> None:
    database = Database.open(folder)
    batch = database.batch()
    for key, value in entries.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    database.write(batch)
    database.close()


def entries_of(folder: Path, area: bytes) -> list[tuple[bytes, bytes]]:
    database = Database.open(folder)
    entries = list(database.scan(area))
    database.close()
    return entries


def flip(data: bytes, at: int, by: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


def test_an_undamaged_ledger_holds_and_nothing_is_left_behind(folder: Path) -> None:
    told: list[tuple[int, int]] = []

    report = verify_folder(
        folder, GENESIS, GENESIS_STATE, execute_here, lambda *heights: told.append(heights), trail_of=trail_of
    )

    assert report == Report(0, HEIGHT, HEIGHT, None)
    assert report.ok
    assert told == [(height, HEIGHT) for height in range(1, HEIGHT + 1)]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_ledger_without_blocks_holds(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "ledger", GENESIS, GENESIS_STATE).close()

    assert verified(tmp_path / "ledger") == Report(0, 0, 0, None)


def test_a_ledger_in_use_is_verified_at_one_moment_of_it(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger", GENESIS, GENESIS_STATE)
    extend(GENESIS, ledger, block_count=3)

    def go_on(_height: int, _of: int) -> None:
        extend(GENESIS, ledger, block_count=1)

    report = verify(ledger.database, GENESIS, GENESIS_STATE, execute_here, go_on, trail_of=trail_of)

    assert report == Report(0, 3, 3, None)
    assert ledger.head.height == 6
    ledger.close()


def test_a_folder_without_a_ledger_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(DatabaseLostError):
        verified(tmp_path / "nothing")


def test_another_genesis_is_named(folder: Path) -> None:
    other = make_genesis("othernet")

    report = verify_folder(folder, other, GENESIS_STATE, execute_here, silent, trail_of=trail_of)

    assert report.first_bad is not None
    assert report.first_bad.area == "meta"
    assert "othernet" in report.first_bad.why


@pytest.mark.seeds(1)
@pytest.mark.parametrize("area", sorted(set(AREAS) - {META, TRAIL}), ids=lambda area: AREAS[area])
def test_a_byte_changed_in_a_value_is_found_and_its_area_and_block_are_named(
    folder: Path, area: bytes, seed: int
) -> None:
    pick = random.Random(f"{seed} {AREAS[area]}")
    entries = [entry for entry in entries_of(folder, area) if entry[1]]
    for key, value in pick.sample(entries, min(4, len(entries))):
        for at in {0, len(value) - 1, pick.randrange(len(value))}:
            change(folder, {key: flip(value, at, pick.randrange(1, 256))})

            finding = found(folder)

            assert finding.area == AREAS[area]
            if area in (HEADER, CERTIFICATE, RESULT, BODY, OUTCOMES):
                assert key == area + height_key(finding.height or 0)
            change(folder, {key: value})
    assert verified(folder).ok


@pytest.mark.parametrize("name", [b"format", b"network", b"head"])
def test_a_byte_changed_in_the_meta_entries_is_found(folder: Path, name: bytes) -> None:
    stored = dict(entries_of(folder, META))[META + name]
    for at in range(0, len(stored), 5):
        change(folder, {META + name: flip(stored, at)})

        assert found(folder).area == "meta"


@pytest.mark.parametrize("area", sorted(set(AREAS) - {META}), ids=lambda area: AREAS[area])
def test_an_entry_that_is_missing_is_found(folder: Path, area: bytes) -> None:
    entries = entries_of(folder, area)
    for key, value in (entries[len(entries) // 3], entries[-1]):
        change(folder, {key: None})

        finding = found(folder)

        # Without its header the last block is not the last any more: then what says so is at fault.
        is_head = (area, key) == (HEADER, HEADER + height_key(HEIGHT))
        assert finding.area == ("meta" if is_head else AREAS[area])
        change(folder, {key: value})


@pytest.mark.parametrize(
    ("key", "area", "height"),
    [
        (TX_INDEX + bytes(32), "transaction index", 7),
        (TRAIL + b"\xff" * 32 + height_key(7) + bytes(4), "trail", 7),
        (TRAIL + bytes(50), "trail", 0),
        (SEEN + height_key(1) + height_key(7), "seen ids", 7),
        (STATE + bytes(32), "state", HEIGHT),
        (CERTIFICATE + height_key(0), "certificate", 0),
        (BODY + height_key(HEIGHT + 1), "body", HEIGHT),
        (HEADER + height_key(HEIGHT + 1), "meta", None),
        (HISTORY + b"\x00", "history", HEIGHT),
        (META + b"more", "meta", HEIGHT),
        (b"z", "database files", None),
    ],
)
def test_an_entry_that_does_not_follow_from_the_blocks_is_found(
    folder: Path, key: bytes, area: str, height: int | None
) -> None:
    change(folder, {key: height_key(7) + bytes(4)})

    finding = found(folder)

    assert (finding.area, finding.height) == (area, height)


def test_a_certified_block_with_a_forged_signature_of_a_transaction_is_found(tmp_path: Path) -> None:
    # All four validators together can certify it; whoever verifies from genesis still sees that nobody signed it.
    def spoil(envelope: bytes) -> bytes:
        return envelope[:-1] + bytes([envelope[-1] ^ 1])

    finding = found(ledger_with(tmp_path, envelopes=spoil))

    assert finding == Finding(1, "body", "a transaction is not valid: the signature does not verify under its key")


def test_a_certified_result_that_executing_again_does_not_give_is_found(folder: Path) -> None:
    def execute_otherwise(header: Header, transactions: Sequence[Transaction], ledger: Ledger) -> Executed:
        executed = execute_here(header, transactions, ledger)
        return replace(executed, prepared=ledger.state.prepare({b"other": b"rule"})) if header.height == 5 else executed

    report = verify_folder(folder, GENESIS, GENESIS_STATE, execute_otherwise, silent, trail_of=trail_of)

    assert report == Report(0, HEIGHT, 4, Finding(5, "state", "executing the block again gives another"))


def ledger_with(folder: Path, *, envelopes: Callable[[bytes], bytes]) -> Path:
    """A ledger of one block whose envelopes were changed before everybody certified it."""
    ledger = Ledger.open(folder / "ledger", GENESIS, GENESIS_STATE)
    commit = make_commit(GENESIS, ledger, [make_transaction(GENESIS, 1)], START_MS)
    changed = tuple(map(envelopes, commit.block.envelopes))
    root = transactions_root(list(map(envelope_leaf, changed)))
    header = msgspec.structs.replace(commit.block.header, tx_root=root)
    certificate = certify(GENESIS, header, commit.block.result, signers=(0, 1, 2, 3))
    block = replace(commit.block, header=header, envelopes=changed, certificate=certificate)
    ledger.commit(replace(commit, block=block))
    ledger.close()
    return folder / "ledger"


@pytest.mark.seeds(1)
def test_a_byte_changed_anywhere_in_the_files_is_found(built: Path, tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    places = [(path, at) for path in sorted(built.iterdir()) for at in range(path.stat().st_size)]
    data = [place for place in places if place[0].suffix in {".ldb", ".log"}]
    pointers = [place for place in places if place[0].name.startswith(("MANIFEST", "CURRENT"))]
    assert {path.suffix for path, _ in data} == {".ldb", ".log"}

    areas = []
    for number, (path, at) in enumerate([*pick.sample(data, 100), *pick.sample(pointers, 30)]):
        copy = tmp_path / str(number)
        shutil.copytree(built, copy)
        (copy / path.name).write_bytes(flip(path.read_bytes(), at, pick.randrange(1, 256)))

        areas.append(found(copy).area)
        shutil.rmtree(copy)

    assert set(areas) <= {*AREAS.values(), "database files"}
    assert len(set(areas)) > 3
