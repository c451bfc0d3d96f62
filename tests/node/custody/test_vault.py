import stat
from pathlib import Path

import pytest

from node.custody.vault import READ_BYTES_MAX, BlobNotFoundError, Folder, Vault, VaultFullError
from tests.support.full_disk import files_no_larger_than


def stored(vault: Vault, *parts: bytes) -> bytes:
    blob, file = vault.begin()
    with file:
        for part in parts:
            file.write(part)
        file.commit()
    return blob


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_blob_is_read_back_in_pieces_of_at_most_a_mebibyte(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    content = bytes(range(256)) * 4096 + b"the end"

    blob = stored(vault, content[:1000], content[1000:])

    assert vault.size_bytes(blob) == len(content)
    assert vault.read(blob, 0) == content[:READ_BYTES_MAX]
    assert vault.read(blob, READ_BYTES_MAX) == b"the end"
    assert vault.read(blob, len(content)) == b""
    assert vault.read(blob, len(content) + 5) == b""


def test_a_blob_that_was_not_committed_leaves_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")

    blob, file = vault.begin()
    with file:
        file.write(b"half")

    assert list((tmp_path / "vault").iterdir()) == []
    with pytest.raises(BlobNotFoundError):
        vault.read(blob, 0)


def test_a_blob_half_written_at_a_crash_is_gone_after_the_next_start(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    kept = stored(vault, b"whole")
    _, file = vault.begin()
    file.write(b"half")

    again = Vault(tmp_path / "vault")

    assert again.read(kept, 0) == b"whole"
    assert [path.name for path in (tmp_path / "vault").iterdir()] == [kept.hex()]
    file.abandon()


def test_files_and_folder_are_their_owners_only(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir(mode=0o755)

    vault = Vault(tmp_path / "vault")
    blob = stored(vault, b"content")

    assert mode(tmp_path / "vault") == 0o700
    assert mode(tmp_path / "vault" / blob.hex()) == 0o600


def test_a_disk_that_is_full_while_writing_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")

    with files_no_larger_than(100_000), pytest.raises(VaultFullError):
        stored(vault, *[bytes(65_536)] * 4)

    assert list((tmp_path / "vault").iterdir()) == []


def test_a_disk_that_is_full_at_the_last_flush_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "keys")
    folder.write("key", b"old")

    with files_no_larger_than(100), pytest.raises(VaultFullError):
        folder.write("key", bytes(200))

    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["key"]
    assert folder.read("key", 0, 10) == b"old"


def test_a_removed_blob_is_gone_and_removing_it_again_is_no_error(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    blob = stored(vault, b"content")

    vault.remove(blob)
    vault.remove(blob)

    with pytest.raises(BlobNotFoundError):
        vault.size_bytes(blob)


def test_no_two_blobs_share_an_id(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")

    blobs = {stored(vault, b"same") for _ in range(20)}

    assert len(blobs) == 20
