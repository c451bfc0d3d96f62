from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from node.custody.data_keys import DataKey, DataKeyDamagedError, DataKeys
from node.custody.vault import BlobNotFoundError, Folder

SECRET = b"e" * 32
PUBLIC = bytes(PrivateKey(SECRET).public_key)
RECORD, OTHER_RECORD, PATIENT = b"r" * 32, b"o" * 32, b"p" * 32
DATA_KEY = DataKey(b"k" * 32, b"b" * 16, 1_700_000_000)


@pytest.fixture
def keys(tmp_path: Path) -> DataKeys:
    return DataKeys(Folder(tmp_path), PUBLIC, (SECRET,))


def test_a_key_is_pending_until_its_record_stands_on_the_ledger(keys: DataKeys) -> None:
    keys.keep_pending(RECORD, DATA_KEY)

    assert (keys.pending(), keys.get(RECORD)) == ([RECORD], DATA_KEY)
    keys.confirm(RECORD)
    assert (keys.pending(), keys.get(RECORD)) == ([], DATA_KEY)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_destroyed_key_is_gone(keys: DataKeys, tmp_path: Path, confirmed: bool) -> None:
    keys.keep_pending(RECORD, DATA_KEY)
    if confirmed:
        keys.confirm(RECORD)

    keys.destroy(RECORD)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BlobNotFoundError):
        keys.get(RECORD)


def test_the_file_shows_no_byte_of_the_key_and_opens_for_its_member_only(keys: DataKeys, tmp_path: Path) -> None:
    keys.keep_pending(RECORD, DATA_KEY)

    (path,) = tmp_path.iterdir()

    assert DATA_KEY.key not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataKeyDamagedError):
        DataKeys(Folder(tmp_path), PUBLIC, (b"x" * 32,)).get(RECORD)


def test_a_key_file_moved_to_another_record_does_not_open(keys: DataKeys, tmp_path: Path) -> None:
    keys.keep_pending(RECORD, DATA_KEY)
    keys.confirm(RECORD)

    (tmp_path / RECORD.hex()).rename(tmp_path / OTHER_RECORD.hex())

    with pytest.raises(DataKeyDamagedError):
        keys.get(OTHER_RECORD)


@pytest.mark.parametrize("position", [0, 31, 32, 60, -1])
def test_a_changed_byte_of_a_key_file_is_found(keys: DataKeys, tmp_path: Path, position: int) -> None:
    keys.keep_pending(RECORD, DATA_KEY)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataKeyDamagedError):
        keys.get(RECORD)


def test_a_patient_has_one_label_key_at_a_member_which_stays(keys: DataKeys) -> None:
    first = keys.label_key(PATIENT, b"1" * 32)

    assert first == b"1" * 32
    assert keys.label_key(PATIENT, b"2" * 32) == first
    assert keys.label_key(OTHER_RECORD, b"3" * 32) == b"3" * 32
    assert keys.pending() == []


def test_a_patients_first_label_key_is_one_however_many_records_come_in_at_once(keys: DataKeys) -> None:
    fresh = [bytes([number]) * 32 for number in range(8)]

    with ThreadPoolExecutor(8) as threads:
        given = set(threads.map(lambda key: keys.label_key(PATIENT, key), fresh))

    assert given == {keys.label_key(PATIENT, bytes(32))}


def test_a_key_is_found_while_it_is_being_confirmed(keys: DataKeys) -> None:
    records = [bytes([number]) * 32 for number in range(60)]
    for record in records:
        keys.keep_pending(record, DATA_KEY)

    with ThreadPoolExecutor(1) as threads:
        confirming = threads.map(keys.confirm, records)
        found = [keys.get(record) for _ in range(20) for record in records]
        list(confirming)

    assert found == [DATA_KEY] * len(found)


def test_what_was_sealed_to_an_encryption_key_before_opens_and_new_keys_are_sealed_to_the_new_one(
    tmp_path: Path,
) -> None:
    new_secret = b"n" * 32
    new_key = bytes(PrivateKey(new_secret).public_key)
    DataKeys(Folder(tmp_path), PUBLIC, (SECRET,)).keep_pending(RECORD, DATA_KEY)
    keys = DataKeys(Folder(tmp_path), new_key, (new_secret, SECRET))

    kept = keys.get(RECORD)
    keys.keep_pending(OTHER_RECORD, DATA_KEY)

    assert kept == DATA_KEY
    assert DataKeys(Folder(tmp_path), new_key, (new_secret,)).get(OTHER_RECORD) == DATA_KEY
