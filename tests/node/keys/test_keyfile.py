import json
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.keys.keyfile import (
    KeyFileDamagedError,
    KeyFileError,
    KeyFileExistsError,
    KeyFileMissingError,
    KeyFileNotPrivateError,
    PassphraseNeededError,
    WrongPassphraseError,
    copy_key_file,
    create_key_file,
    load_key_file,
    new_secrets,
    public_key,
)
from storage.schema.signatures import is_sound_sealing_key, is_sound_signing_key, sign, verify_signature

PASSPHRASE = b"correct horse battery staple"


def test_a_sealed_file_gives_its_secrets_to_the_passphrase_only(tmp_path: Path) -> None:
    secrets = new_secrets("patient")
    create_key_file(tmp_path / "pia.key", "patient", secrets, PASSPHRASE)

    file = load_key_file(tmp_path / "pia.key")

    assert file.is_sealed
    assert file.kind == "patient"
    assert file.open_secrets(PASSPHRASE) == secrets
    with pytest.raises(WrongPassphraseError):
        file.open_secrets(PASSPHRASE + b" ")
    with pytest.raises(PassphraseNeededError):
        file.open_secrets(None)


def test_public_keys_are_read_without_a_passphrase_and_belong_to_the_secrets(tmp_path: Path) -> None:
    secrets = new_secrets("node")

    public = create_key_file(tmp_path / "node.key", "node", secrets, PASSPHRASE).public

    verify_signature(public["node"], b"message", sign(secrets["node"], b"message"))
    verify_signature(public["service"], b"message", sign(secrets["service"], b"message"))
    assert is_sound_signing_key(public["node"])
    assert is_sound_sealing_key(public["encryption"])


def test_neither_file_nor_error_shows_a_sealed_secret(tmp_path: Path) -> None:
    secrets = new_secrets("patient")
    file = create_key_file(tmp_path / "pia.key", "patient", secrets, PASSPHRASE)

    text = (tmp_path / "pia.key").read_text()
    with pytest.raises(WrongPassphraseError) as caught:
        file.open_secrets(b"hunter2")

    for secret in secrets.values():
        assert secret.hex() not in text
    assert "hunter2" not in str(caught.value)


def test_two_files_of_the_same_secrets_and_passphrase_differ(tmp_path: Path) -> None:
    secrets = new_secrets("patient")

    first = create_key_file(tmp_path / "a.key", "patient", secrets, PASSPHRASE).path.read_text()
    second = create_key_file(tmp_path / "b.key", "patient", secrets, PASSPHRASE).path.read_text()

    assert json.loads(first)["sealed"]["salt"] != json.loads(second)["sealed"]["salt"]
    assert json.loads(first)["sealed"]["box"] != json.loads(second)["sealed"]["box"]


def test_a_test_key_says_so_and_opens_with_any_passphrase_or_none(tmp_path: Path) -> None:
    secrets = new_secrets("patient")

    file = create_key_file(tmp_path / "ben.key", "practitioner", secrets, None)

    assert not file.is_sealed
    assert "TEST KEY" in file.path.read_text()
    assert file.open_secrets(None) == file.open_secrets(b"whatever") == secrets


def test_signing_and_sealing_keys_are_made_separately() -> None:
    secrets = new_secrets("patient")

    assert secrets["signing"] != secrets["sealing"]
    assert public_key("signing", secrets["signing"]) != public_key("sealing", secrets["signing"])


def test_the_file_is_private_and_stands_alone_in_its_folder(tmp_path: Path) -> None:
    create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), None)

    assert [path.name for path in tmp_path.iterdir()] == ["pia.key"]
    assert stat.S_IMODE((tmp_path / "pia.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660, 0o666])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), None).path
    path.chmod(mode)

    with pytest.raises(KeyFileNotPrivateError):
        load_key_file(path)


def test_a_taken_name_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pia.key"
    create_key_file(path, "patient", new_secrets("patient"), None)
    before = path.read_bytes()

    with pytest.raises(KeyFileExistsError):
        create_key_file(path, "patient", new_secrets("patient"), None)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissingError, match=r"nobody\.key"):
        load_key_file(tmp_path / "nobody.key")


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None])
def test_every_changed_byte_is_told_from_a_wrong_passphrase(tmp_path: Path, passphrase: bytes | None) -> None:
    path = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), passphrase).path
    good = path.read_bytes()

    for position in range(len(good)):
        # The lowest bit turns a digit into another digit, so that the file stays well-formed JSON.
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])

        with pytest.raises(KeyFileDamagedError):
            load_key_file(path)


@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=50).map(lambda text: f'{{"schema": "{text}"}}'.encode())
    )
)
def test_bytes_that_are_no_key_file_are_refused_by_name(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "odd.key"
        path.touch(mode=0o600)
        path.write_bytes(content)

        with pytest.raises(KeyFileDamagedError):
            load_key_file(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[" * 5000, b'{"schema": "caretrace.keyfile/2"}', b" " * 20_000, b"\xff\xfe"],
    ids=["empty", "no fields", "nested", "another version", "too large", "no text"],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.key"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(KeyFileDamagedError):
        load_key_file(path)


def with_checksum_made_anew(path: Path, **changes: object) -> None:
    """What somebody with an editor and this source can do; no checksum stops that."""
    from node.keys.keyfile import _checksum

    content = json.loads(path.read_text()) | changes
    del content["checksum"]
    path.write_text(json.dumps(content | {"checksum": _checksum(content)}))


def test_secrets_of_other_public_keys_are_refused(tmp_path: Path) -> None:
    path = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), PASSPHRASE).path
    other = create_key_file(tmp_path / "ben.key", "patient", new_secrets("patient"), None)
    with_checksum_made_anew(path, public={name: key.hex() for name, key in other.public.items()})

    with pytest.raises(KeyFileDamagedError, match="not those of its public keys"):
        load_key_file(path).open_secrets(PASSPHRASE)


def test_a_file_without_one_of_its_keys_is_refused(tmp_path: Path) -> None:
    path = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), None).path
    with_checksum_made_anew(path, public={"sealing": json.loads(path.read_text())["public"]["sealing"]})

    with pytest.raises(KeyFileDamagedError, match="does not hold the keys of a patient"):
        load_key_file(path)


@pytest.mark.parametrize(("cost", "value"), [("operations", 10**6), ("memory_bytes", 2**40), ("operations", 0)])
def test_a_file_cannot_ask_for_endless_work(tmp_path: Path, cost: str, value: int) -> None:
    path = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), PASSPHRASE).path
    sealed = json.loads(path.read_text())["sealed"] | {cost: value}
    with_checksum_made_anew(path, sealed=sealed)

    with pytest.raises(KeyFileDamagedError):
        load_key_file(path)


def test_a_key_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyFileError):
        public_key("master", bytes(32))


def test_a_copy_is_sealed_as_the_file_it_was_made_of(tmp_path: Path) -> None:
    secrets = new_secrets("patient")
    original = create_key_file(tmp_path / "pia.key", "patient", secrets, PASSPHRASE)

    copy = copy_key_file(original, tmp_path / "copy.key")

    assert copy.open_secrets(PASSPHRASE) == secrets
    with pytest.raises(KeyFileExistsError):
        copy_key_file(original, tmp_path / "copy.key")
