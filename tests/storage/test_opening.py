import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from storage.blocks import height_key
from storage.database import (
    CERTIFICATE,
    EPOCH,
    HEADER,
    HISTORY,
    META,
    RESULT,
    STATE,
    Database,
    DatabaseCorruptError,
    DatabaseLostError,
)
from storage.ledger import Ledger
from storage.opening import CHAIN_CHECKED_BLOCKS, LedgerFormatError, OtherNetworkError
from storage.schema.block import CERTIFICATE as CERTIFICATE_FORM
from storage.schema.block import HEADER as HEADER_FORM
from storage.schema.block import RESULT as RESULT_FORM
from storage.schema.codec import encode
from tests.support.chain import GENESIS_STATE, certify, extend, make_genesis

GENESIS = make_genesis()
HEIGHT = CHAIN_CHECKED_BLOCKS + 6


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "ledger"
    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)
    extend(GENESIS, ledger, block_count=HEIGHT, tx_count=2)
    ledger.close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built.parent, tmp_path / "data")
    return tmp_path / "data" / "ledger"


def change(folder: Path, key: bytes, change: Callable[[bytes], bytes | None]) -> None:
    database = Database.open(folder)
    stored = database.get(key)
    assert stored is not None
    changed, batch = change(stored), database.batch()
    if changed is None:
        batch.delete(key)
    else:
        assert changed != stored
        batch.put(key, changed)
    database.write(batch)
    database.close()


def damage_found(folder: Path) -> tuple[str, int | None]:
    with pytest.raises(DatabaseCorruptError) as caught:
        Ledger.open(folder, GENESIS, GENESIS_STATE)
    return caught.value.area, caught.value.height


def flip(stored: bytes) -> bytes:
    return stored[:-1] + bytes([stored[-1] ^ 1])


def flip_at(at: int) -> Callable[[bytes], bytes]:
    return lambda stored: stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]


def put(value: bytes) -> Callable[[bytes], bytes]:
    return lambda _: value


def test_an_undamaged_copy_opens(folder: Path) -> None:
    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)

    assert ledger.head.height == HEIGHT
    ledger.close()


def test_the_ledger_of_another_network_is_refused_by_its_name(folder: Path) -> None:
    with pytest.raises(OtherNetworkError, match=f"chainnet .{GENESIS.chain_id.hex()}"):
        Ledger.open(folder, make_genesis("othernet"), GENESIS_STATE)


def test_a_ledger_in_another_format_is_refused(folder: Path) -> None:
    change(folder, META + b"format", lambda _: b"1")

    with pytest.raises(LedgerFormatError):
        Ledger.open(folder, GENESIS, GENESIS_STATE)


def test_a_ledger_that_is_gone_is_not_begun_anew(folder: Path) -> None:
    shutil.rmtree(folder)

    for _ in range(2):
        with pytest.raises(DatabaseLostError):
            Ledger.open(folder, GENESIS, GENESIS_STATE)


def test_a_ledger_whose_beginning_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    Database.open(folder, create=True).close()  # As far as a node came that stopped before its first batch.

    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)

    assert ledger.head.height == 0
    ledger.close()


def test_a_ledger_without_its_mark_is_opened_and_marked(folder: Path) -> None:
    mark = folder.with_name("ledger.created")
    mark.unlink()

    ledger = Ledger.open(folder, GENESIS, GENESIS_STATE)

    assert ledger.head.height == HEIGHT
    assert mark.read_text() == GENESIS.chain_id.hex() + "\n"
    ledger.close()


def test_a_ledger_without_mark_and_format_is_damaged_and_not_begun_anew(folder: Path) -> None:
    folder.with_name("ledger.created").unlink()
    change(folder, META + b"format", lambda _: None)

    assert damage_found(folder) == ("meta", None)


@pytest.mark.parametrize("name", [b"format", b"network", b"head"])
def test_missing_meta_is_damage(folder: Path, name: bytes) -> None:
    change(folder, META + name, lambda _: None)

    assert damage_found(folder) == ("meta", None)


@pytest.mark.parametrize("height", [HEIGHT - 1, HEIGHT + 1, 0, 2**64 - 1])
def test_a_head_that_is_not_the_last_block_is_damage(folder: Path, height: int) -> None:
    change(folder, META + b"head", lambda _: height_key(height))

    assert damage_found(folder) == ("meta", None)


@pytest.mark.parametrize(("area", "name"), [(HEADER, "header"), (CERTIFICATE, "certificate"), (RESULT, "result")])
def test_a_changed_byte_anywhere_in_the_head_is_named(folder: Path, area: bytes, name: str) -> None:
    database = Database.open(folder)
    length = len(database.get(area + height_key(HEIGHT)) or b"")
    database.close()
    for at in range(0, length, 7):
        change(folder, area + height_key(HEIGHT), flip_at(at))

        assert damage_found(folder) == (name, HEIGHT)

        change(folder, area + height_key(HEIGHT), flip_at(at))


def test_certificates_below_a_quorum_or_about_another_block_are_damage(folder: Path) -> None:
    database = Database.open(folder)
    header = HEADER_FORM.decode(database.get(HEADER + height_key(HEIGHT)) or b"")
    result = RESULT_FORM.decode(database.get(RESULT + height_key(HEIGHT)) or b"")
    below = CERTIFICATE_FORM.decode(database.get(CERTIFICATE + height_key(HEIGHT - 1)) or b"")
    database.close()
    two = certify(GENESIS, header, result, signers=(0, 1))
    twice = msgspec.structs.replace(two, signers=(0, 1, 1), signatures=(*two.signatures, two.signatures[1]))
    of_other_result = certify(GENESIS, header, msgspec.structs.replace(result, outcome_count=99))
    of_other_header = certify(GENESIS, msgspec.structs.replace(header, time_ms=1), result)
    for certificate, area in (
        (two, "certificate"),
        (twice, "certificate"),
        (below, "certificate"),
        (of_other_header, "header"),
        (of_other_result, "result"),
    ):
        change(folder, CERTIFICATE + height_key(HEIGHT), put(encode(certificate)))

        assert damage_found(folder) == (area, HEIGHT)


@pytest.mark.parametrize(("area", "name"), [(HEADER, "header"), (RESULT, "result")])
@pytest.mark.parametrize("depth", [1, 2, CHAIN_CHECKED_BLOCKS])
def test_the_chain_of_the_last_blocks_is_checked(folder: Path, area: bytes, name: str, depth: int) -> None:
    change(folder, area + height_key(HEIGHT - depth), flip)

    assert damage_found(folder) == (name, HEIGHT - depth)


def test_deeper_blocks_are_left_to_the_full_verification(folder: Path) -> None:
    change(folder, RESULT + height_key(HEIGHT - CHAIN_CHECKED_BLOCKS - 1), flip)

    Ledger.open(folder, GENESIS, GENESIS_STATE).close()


@pytest.mark.parametrize(("area", "name"), [(HEADER, "header"), (RESULT, "result")])
def test_a_changed_beginning_is_damage(folder: Path, area: bytes, name: str) -> None:
    change(folder, area + height_key(0), flip)

    assert damage_found(folder) == (name, 0)


def test_a_ledger_begun_by_other_rules_is_refused(folder: Path) -> None:
    with pytest.raises(DatabaseCorruptError, match="result of block 0: not the one that follows from genesis"):
        Ledger.open(folder, GENESIS, GENESIS_STATE | {b"another": b"rule"})


@pytest.mark.parametrize("damage", [flip, lambda stored: stored[:-32], lambda _: None])
def test_a_changed_history_is_damage(folder: Path, damage: Callable[[bytes], bytes | None]) -> None:
    change(folder, HISTORY, damage)

    assert damage_found(folder) == ("history", None)


@pytest.mark.parametrize("damage", [flip, lambda _: None])
def test_a_changed_state_entry_is_damage(folder: Path, damage: Callable[[bytes], bytes | None]) -> None:
    database = Database.open(folder)
    keys = [key for key, _ in database.scan(STATE)]
    database.close()
    change(folder, keys[len(keys) // 2], damage)

    assert damage_found(folder) == ("state", None)


def test_an_added_state_entry_is_damage(folder: Path) -> None:
    database = Database.open(folder)
    batch = database.batch()
    batch.put(STATE + bytes(32), b"added")
    database.write(batch)
    database.close()

    assert damage_found(folder) == ("state", None)


@pytest.mark.parametrize("damage", [flip, lambda _: None])
def test_a_changed_chain_of_epochs_is_damage(folder: Path, damage: Callable[[bytes], bytes | None]) -> None:
    change(folder, EPOCH + height_key(1), damage)

    # Without the link nobody knows who was to sign the head.
    assert damage_found(folder)[0] in ("epochs", "certificate")


def test_a_link_that_is_kept_for_another_epoch_is_damage(folder: Path) -> None:
    database = Database.open(folder)
    batch = database.batch()
    batch.put(EPOCH + height_key(2), database.get(EPOCH + height_key(1)))
    database.write(batch)
    database.close()

    assert damage_found(folder) == ("epochs", None)


def test_after_a_refused_opening_the_folder_is_free(folder: Path) -> None:
    change(folder, HISTORY, flip)
    for _ in range(2):
        assert damage_found(folder) == ("history", None)
