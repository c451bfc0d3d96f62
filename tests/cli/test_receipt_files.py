import re
from pathlib import Path

import pytest

from tests.support.program import answer_of, caretrace, shell
from tests.support.vectors import vector_bytes, vectors

VERIFY = ("receipt", "verify", "x.receipt", "--genesis", "genesis.json", "--json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A receipt and its genesis file, by the independent writer of the vectors, and nothing else."""
    (tmp_path / "x.receipt").write_bytes(vector_bytes("receipt.bin"))
    (tmp_path / "genesis.json").write_bytes(vector_bytes("genesis.json"))
    return tmp_path


def test_a_receipt_says_what_it_proves_without_any_node(folder: Path) -> None:
    answer = answer_of(shell(*VERIFY, folder=folder))

    assert answer["schema"] == "caretrace.receipt.verify/1"
    assert answer["valid"] is True
    assert answer["status"] == "ok"
    assert answer["quorum"] == 3
    assert set(answer["signers"]) <= {member["name"] for member in vectors("genesis")["readable"]["members"]}
    assert answer["time"].endswith("Z")


def test_the_receipt_of_a_refusal_verifies_too(folder: Path) -> None:
    (folder / "x.receipt").write_bytes(vector_bytes("receipt-refused.bin"))

    answer = answer_of(caretrace(*VERIFY, folder=folder))

    assert answer["valid"] is True
    assert answer["status"] != "ok"


def test_the_receipt_of_evidence_says_who_signed_what_twice(folder: Path) -> None:
    (folder / "x.receipt").write_bytes(vector_bytes("receipt-evidence.bin"))

    answer = answer_of(caretrace(*VERIFY, folder=folder))

    members = {member["name"]: member for member in vectors("genesis")["readable"]["members"]}
    assert answer["equivocator"] == "south"
    assert answer["node_key"] == members["south"]["node_key"]
    assert re.fullmatch(r"PROPOSAL of block [0-9a-f]{64} in view 4 at height 2", answer["first"])
    assert re.fullmatch(r"PREPARE of block [0-9a-f]{64} in view 4 at height 2", answer["second"])


@pytest.mark.parametrize(
    ("name", "code", "step"), [("x.receipt", "receipt.invalid", 11), ("genesis.json", "genesis.invalid", 97)]
)
def test_a_changed_byte_is_exit_code_6(folder: Path, name: str, code: str, step: int) -> None:
    good = (folder / name).read_bytes()

    for position in (*range(0, len(good), step), len(good) - 1):
        changed = bytearray(good)
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        answer = answer_of(caretrace(*VERIFY, folder=folder), exit_code=6)

        assert answer["valid"] is False
        assert answer["error"]["code"] == code, position


def test_a_file_of_epochs_is_proven_before_it_is_used(folder: Path) -> None:
    good = vector_bytes("epochs.bin")
    with_epochs = (*VERIFY, "--epochs", "epochs.bin")
    (folder / "epochs.bin").write_bytes(good)
    assert answer_of(caretrace(*with_epochs, folder=folder))["valid"] is True

    for position in range(0, len(good), 97):
        (folder / "epochs.bin").write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        answer = answer_of(caretrace(*with_epochs, folder=folder), exit_code=6)

        assert (answer["valid"], answer["error"]["code"]) == (False, "epochs.invalid"), position


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 200_000, b"\x9a" * 5000])
def test_what_is_no_receipt_is_exit_code_6(folder: Path, content: bytes) -> None:
    (folder / "x.receipt").write_bytes(content)

    assert answer_of(caretrace(*VERIFY, folder=folder), exit_code=6)["error"]["code"] == "receipt.invalid"


def test_files_that_are_not_there_are_usage_errors(folder: Path) -> None:
    missing = [
        caretrace("receipt", "verify", "y.receipt", "--genesis", "genesis.json", folder=folder),
        caretrace(*VERIFY, "--epochs", "none.bin", folder=folder),
    ]

    assert [done.returncode for done in missing] == [2, 2]
