import json
import stat
from pathlib import Path

import pytest

from cli.errors import CliError
from cli.wallet import Wallet
from node.keys.did import encode_did
from node.keys.keyfile import create_key_file, load_key_file, new_secrets
from tests.support.program import answer_of, caretrace

STRANGER = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


def make(folder: Path, name: str, *more: str) -> dict[str, object]:
    return answer_of(caretrace("key", "new", name, "--no-passphrase", "--json", *more, folder=folder))


def test_a_new_key_lies_alone_and_private_in_the_wallet(tmp_path: Path) -> None:
    answer = make(tmp_path, "pia")

    path = tmp_path / ".caretrace-wallet" / "pia.key"
    assert answer["schema"] == "caretrace.key.new/1"
    assert answer["did"] == encode_did(load_key_file(path).public["signing"])
    assert answer["protection"] is None
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["pia.key"]


@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_key_is_sealed_with_the_passphrase_that_was_given(tmp_path: Path, by: str) -> None:
    (tmp_path / "pass").write_text("hunter2\n")
    more = ("--passphrase-file", "pass") if by == "file" else ()
    variables = {"CARETRACE_PASSPHRASE": "hunter2"} if by == "environment" else {}

    answer = answer_of(caretrace("key", "new", "pia", *more, "--json", folder=tmp_path, more=variables))

    file = load_key_file(tmp_path / ".caretrace-wallet" / "pia.key")
    assert answer["protection"] == "passphrase"
    assert set(file.open_secrets(b"hunter2")) == {"signing", "sealing"}


def test_no_passphrase_and_no_terminal_is_a_usage_error_that_says_what_to_give(tmp_path: Path) -> None:
    done = caretrace("key", "new", "pia", "--json", folder=tmp_path)

    error = answer_of(done, exit_code=2)["error"]
    assert error["code"] == "passphrase.needed"
    assert "--passphrase-file" in error["hint"]
    assert not (tmp_path / ".caretrace-wallet").exists()


def test_an_empty_passphrase_file_seals_nothing(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("\n")

    done = caretrace("key", "new", "pia", "--passphrase-file", "pass", "--json", folder=tmp_path)

    assert answer_of(done, exit_code=1)["error"]["code"] == "passphrase.unusable"


def test_a_passphrase_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = caretrace("key", "new", "pia", "--passphrase-file", "nowhere", "--json", folder=tmp_path)

    error = answer_of(done, exit_code=1)["error"]
    assert error["code"] == "system.error"
    assert "nowhere" in error["message"]


def test_a_test_key_has_no_passphrase_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("hunter2")

    done = caretrace("key", "new", "pia", "--no-passphrase", "--passphrase-file", "pass", folder=tmp_path)

    assert done.returncode == 2


@pytest.mark.parametrize("how", ["new", "import"])
def test_a_taken_name_is_not_given_again(tmp_path: Path, how: str) -> None:
    make(tmp_path, "pia")
    before = (tmp_path / ".caretrace-wallet" / "pia.key").read_bytes()
    create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), None)

    arguments = ("new", "pia", "--no-passphrase") if how == "new" else ("import", "pia.key")
    done = caretrace("key", *arguments, "--json", folder=tmp_path)

    assert answer_of(done, exit_code=1)["error"]["code"] == "name.taken"
    assert (tmp_path / ".caretrace-wallet" / "pia.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", ".", "..", "../pia", "a/b", ".hidden", "pia@North", "x" * 80, "pia\n", "pia@@n"])
def test_a_name_that_is_no_name_makes_no_file(tmp_path: Path, name: str) -> None:
    done = caretrace("key", "new", "--no-passphrase", "--", name, folder=tmp_path)

    assert done.returncode == 2
    assert not list(tmp_path.rglob("*.key"))


def test_keys_are_listed_with_the_damaged_ones_among_them(tmp_path: Path) -> None:
    make(tmp_path, "pia")
    make(tmp_path, "ben", "--kind", "practitioner")
    caretrace("key", "import", STRANGER, "--name", "ada", folder=tmp_path)
    (tmp_path / ".caretrace-wallet" / "ben.key").write_text("{}")

    keys = answer_of(caretrace("key", "list", "--json", folder=tmp_path))["keys"]

    assert [(key["name"], key["kind"]) for key in keys] == [("ada", "petname"), ("ben", "unusable"), ("pia", "patient")]
    assert "damaged" in keys[1]["why"]


def test_a_key_travels_by_export_and_import(tmp_path: Path) -> None:
    did = make(tmp_path, "pia")["did"]

    answer_of(caretrace("key", "export", "pia", "--out", "stick.key", "--json", folder=tmp_path))
    other = answer_of(
        caretrace("key", "import", "stick.key", "--name", "pia", "--wallet", "other", "--json", folder=tmp_path)
    )

    assert other["did"] == did
    assert (tmp_path / "other" / "pia.key").read_bytes() == (tmp_path / "stick.key").read_bytes()
    assert caretrace("key", "export", "pia", "--out", "stick.key", folder=tmp_path).returncode == 1


def test_a_nodes_keys_do_not_belong_into_a_wallet(tmp_path: Path) -> None:
    create_key_file(tmp_path / "node.key", "node", new_secrets("node"), None)

    done = caretrace("key", "import", "node.key", "--json", folder=tmp_path)

    assert answer_of(done, exit_code=1)["error"]["code"] == "keyfile.wrong_kind"


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (b"nonsense", 0o600, "keyfile.damaged"),
        (b"nonsense", 0o644, "keyfile.not_private"),
        (None, 0, "keyfile.not_found"),
    ],
)
def test_a_key_file_at_fault_is_refused_by_name(tmp_path: Path, content: bytes | None, mode: int, code: str) -> None:
    path = tmp_path / ".caretrace-wallet" / "pia.key"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)

    done = caretrace("key", "export", "pia", "--json", folder=tmp_path)

    error = answer_of(done, exit_code=5 if code.endswith("not_found") else 1)["error"]
    assert error["code"] == code
    assert error["hint"]


def test_a_did_is_kept_under_a_name_and_found_by_it(tmp_path: Path) -> None:
    answer_of(caretrace("key", "import", STRANGER, "--name", "ada", "--json", folder=tmp_path))

    shown = answer_of(caretrace("key", "show", "ada", "--json", folder=tmp_path))
    nameless = caretrace("key", "import", STRANGER, folder=tmp_path)
    malformed = caretrace("key", "import", STRANGER + "x", "--name", "eve", "--json", folder=tmp_path)

    assert shown["did"] == STRANGER
    assert nameless.returncode == 2
    assert answer_of(malformed, exit_code=2)["error"]["code"] == "did.malformed"


def test_a_name_means_the_keys_for_the_member_that_is_asked(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path)
    everywhere = create_key_file(tmp_path / "pia.key", "patient", new_secrets("patient"), None).public["signing"]
    at_south = create_key_file(tmp_path / "pia@south.key", "patient", new_secrets("patient"), None).public["signing"]

    assert wallet.did("pia") == wallet.did("pia", "north") == everywhere
    assert wallet.did("pia", "south") == wallet.did("pia@south") == wallet.did("pia@south", "north") == at_south
    assert wallet.key(encode_did(at_south)).name == "pia@south"
    assert wallet.shown(encode_did(at_south)) == "pia@south"
    assert wallet.shown(STRANGER) == "did:..mDooWp".replace("mDooWp", STRANGER[-8:])


def test_a_name_that_nobody_has_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CliError) as caught:
        Wallet(tmp_path).did("nobody")

    assert caught.value.code == "name.not_found"


def test_of_two_commands_that_meet_a_network_first_one_decides(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path)

    first = wallet.keep_pin(b"\x01" * 32, b"one", tmp_path / "north")
    second = wallet.keep_pin(b"\x02" * 32, b"two", tmp_path / "south")

    assert first == second == wallet.pin()
    assert json.loads((tmp_path / "network.json").read_text())["genesis"] == "one"
