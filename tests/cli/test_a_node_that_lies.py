import json
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from storage.schema.codec import encode
from storage.schema.receipt import RECEIPT, Receipt
from tests.support.lying_node import Lie, flipped, lying_node, where
from tests.support.operated_nodes import Operated
from tests.support.program import PROGRAM, environment


def told_by(network: Operated, lie: Lie, *arguments: str, exit_code: int, honest: str = "north") -> dict[str, Any]:
    """The refusal of a command whose node lies."""
    home = network.folder / "liar"
    with lying_node(home, network.folder / honest / "run" / "node.sock", lie):
        wallet = str(network.folder / "wallet")
        return network.refusal(*arguments, "--node", str(home), "--wallet", wallet, exit_code=exit_code)


def changed(**fields: object) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps(json.loads(body) | fields).encode()


def heights(network: Operated) -> int:
    height: int = network.ask("ledger", "status", "--node", "north")["height"]
    return height


GRANT = ("consent", "grant", "--patient", "pia", "--to", "ben", "--purpose", "TREAT")


@pytest.mark.parametrize("position", [0, 40, 200, -1, -100], ids=lambda position: f"byte {position}")
def test_a_write_is_not_believed_by_a_receipt_that_was_changed(network: Operated, position: int) -> None:
    refused = told_by(network, where("/receipt", flipped(position)), *GRANT, exit_code=6)

    assert refused["code"] == "receipt.invalid"


def test_a_write_is_not_believed_by_the_receipt_of_another(network: Operated) -> None:
    first = network.ask("audit", "patient", "pia", "--node", "north")["entries"][0]["transaction"]
    network.ask("receipt", "get", first, "--out", str(network.folder / "other"), "--node", "north")
    other = (network.folder / "other").read_bytes()

    refused = told_by(network, where("/receipt", lambda _: other), *GRANT, exit_code=6)

    assert "another transaction" in refused["message"]


def test_an_outcome_without_its_certificate_is_not_believed(network: Operated) -> None:
    def uncertified(body: bytes) -> bytes:
        receipt = RECEIPT.decode(body)
        signatures = (bytes(64), *receipt.certificate.signatures[1:])
        return rewritten(receipt, signatures)

    refused = told_by(network, where("/receipt", uncertified), *GRANT, exit_code=6)

    assert refused["code"] == "receipt.invalid"


def rewritten(receipt: Receipt, signatures: tuple[bytes, ...]) -> bytes:
    certificate = msgspec.structs.replace(receipt.certificate, signatures=signatures)
    return encode(msgspec.structs.replace(receipt, certificate=certificate))


def test_a_node_of_another_network_gets_nothing(network: Operated) -> None:
    before = heights(network)

    refused = told_by(network, where("/v1/status", changed(chain_id="ab" * 32)), *GRANT, exit_code=6)

    assert refused["code"] == "network.other"
    assert heights(network) == before


@pytest.mark.parametrize(
    "arguments",
    [("record", "list", "--patient", "pia"), ("audit", "patient", "pia"), ("record", "show", "r-mfrgg")],
)
def test_a_node_of_another_network_is_not_believed_that_there_is_nothing(
    network: Operated, arguments: tuple[str, ...]
) -> None:
    refused = told_by(
        network, where("/v1/status", changed(chain_id="ab" * 32)), *arguments, "--node", "north", exit_code=6
    )

    assert refused["code"] == "network.other"


def test_a_forged_genesis_is_not_pinned(network: Operated) -> None:
    (network.folder / "wallet" / "network.json").unlink()
    forged = network.genesis_file.read_bytes().replace(b'"permit_s": 600', b'"permit_s": 601')

    refused = told_by(network, where("/v1/genesis", lambda _: forged), *GRANT, exit_code=6)

    assert refused["code"] == "genesis.invalid"
    assert not (network.folder / "wallet" / "network.json").exists()


def test_a_wallet_that_no_longer_says_which_network_is_its_own_is_not_used(network: Operated) -> None:
    pinned = (network.folder / "wallet" / "network.json").read_bytes()
    assert json.loads(pinned)["chain_id"] == network.chain.genesis.chain_id.hex()
    (network.folder / "wallet" / "network.json").write_bytes(pinned.replace(b'"schema"', b'"scheme"'))

    refused = network.refusal(*GRANT, "--node", "north", exit_code=1)

    assert refused["code"] == "wallet.damaged"


def test_a_node_that_swallows_a_transaction_is_found_out(network: Operated) -> None:
    refused = told_by(network, where("/v1/transactions", changed(transactions=["00" * 32])), *GRANT, exit_code=1)

    assert refused["code"] == "node.bad_answer"


def test_a_sponsors_signature_that_is_none_makes_no_patient(network: Operated) -> None:
    network.ask("key", "new", "zoe", "--no-passphrase")
    lie = where("/v1/sponsor", changed(signature="00" * 64))

    refused = told_by(network, lie, "patient", "register", "--as", "zoe", exit_code=1)

    assert refused["code"] == "signature.invalid"


@pytest.mark.parametrize(
    ("part", "change", "code"),
    [
        pytest.param("/content", flipped(0), "record.format_unknown", id="another format"),
        pytest.param("/content", flipped(-1), "record.changed", id="changed ciphertext"),
        pytest.param("/content", lambda body: body[:-1], "record.changed", id="shortened ciphertext"),
        pytest.param("/content", lambda _: b"", "record.truncated", id="no ciphertext"),
        pytest.param("/key", changed(sealed_key="00" * 80), "seal.cannot_open", id="another sealed key"),
    ],
)
def test_content_that_is_not_the_registered_one_is_never_written(
    network: Operated, part: str, change: Callable[[bytes], bytes], code: str
) -> None:
    (network.folder / "doc").write_bytes(b"the only truth")
    about = ("--patient", "pia", "--category", "note", "--node", "north")
    record = network.ask("record", "add", str(network.folder / "doc"), *about)["record"]
    network.ask(*GRANT, "--node", "north")
    out = network.folder / "out"
    out.write_bytes(b"what was there before")

    arguments = ("record", "get", record, "--as", "ben", "--purpose", "TREAT", "--out", str(out))
    refused = told_by(network, where(part, change), *arguments, exit_code=6, honest="south")

    assert refused["code"] == code
    assert out.read_bytes() == b"what was there before"
    assert not list(network.folder.glob(".out*"))


def test_a_served_that_is_another_transaction_opens_nothing(network: Operated) -> None:
    (network.folder / "doc").write_bytes(b"the only truth")
    about = ("--patient", "pia", "--category", "note", "--node", "north")
    added = network.ask("record", "add", str(network.folder / "doc"), *about)
    network.ask(*GRANT, "--node", "north")
    out = ("--out", str(network.folder / "out"))
    lie = where("/key", changed(served=added["transaction"]))

    arguments = ("record", "get", added["record"], "--as", "ben", "--purpose", "TREAT", *out)
    refused = told_by(network, lie, *arguments, exit_code=6, honest="south")

    assert refused["code"] == "receipt.unexpected"


def test_a_registration_that_is_not_the_records_is_not_believed(network: Operated) -> None:
    (network.folder / "doc").write_bytes(b"the only truth")
    about = ("--patient", "pia", "--category", "note", "--node", "north")
    first = network.ask("record", "add", str(network.folder / "doc"), *about)
    second = network.ask("record", "add", str(network.folder / "doc"), *about)
    network.ask(*GRANT, "--node", "north")
    out = ("--out", str(network.folder / "out"))
    entries = [{"transaction": second["transaction"], "action": "add-record"}]

    arguments = ("record", "get", first["record"], "--as", "ben", "--purpose", "TREAT", *out)
    refused = told_by(network, where("/v1/audit/", changed(entries=entries)), *arguments, exit_code=6, honest="south")

    assert "another registration" in refused["message"]


def test_what_is_not_committed_in_time_is_named_and_may_still_land(network: Operated) -> None:
    network.chain.is_holding = True

    refused = network.refusal(*GRANT, "--node", "north", "--timeout", "0.3", exit_code=7)
    sent = network.ask(*GRANT, "--node", "north", "--no-wait")
    network.chain.is_holding = False
    network.ask(*GRANT, "--node", "north")

    assert refused["code"] == "tx.not_committed"
    assert sent["status"] == "sent"
    for transaction in (refused["transaction"], sent["transaction"]):
        assert network.ask("ledger", "tx", transaction, "--node", "north")["status"] == "ok"


def test_a_node_that_goes_away_while_one_waits_leaves_the_transactions_id(network: Operated) -> None:
    refused = told_by(network, where("/receipt", lambda _: b"", status=99), *GRANT, exit_code=1)

    assert len(refused["transaction"]) == 64


def test_an_interrupted_write_leaves_the_transactions_id_and_may_still_land(network: Operated) -> None:
    network.chain.is_holding = True
    command = [*PROGRAM, *GRANT, "--node", "north", "--json"]
    process = subprocess.Popen(
        command,
        env=environment(network.folder, {"CARETRACE_TESTNET": str(network.folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(network.chain.held) == 1)

    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=10)
    network.chain.is_holding = False
    network.ask(*GRANT, "--node", "north")

    refused = json.loads(out)["error"]
    assert process.returncode == 130
    assert refused["code"] == "interrupted"
    assert "Traceback" not in words
    assert network.ask("ledger", "tx", refused["transaction"], "--node", "north")["status"] == "ok"


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_id_that_begins_several_is_not_guessed(network: Operated) -> None:
    matches = [f"{digit * 64}" for digit in "12"]
    lie = where("/v1/resolve/", lambda _: json.dumps({"matches": ["ab" + match[2:] for match in matches]}).encode())

    refused = told_by(network, lie, "ledger", "tx", "ab", exit_code=2)

    assert "2 ids begin with ab" in refused["message"]
