"""``caretrace receipt``: the small file that proves a transaction and its outcome to anyone."""

from pathlib import Path
from typing import Any

import click

from cli.command import Noun
from cli.errors import CliError, Exit
from cli.options import FILE, reading
from cli.output import Answer, facts, rfc3339
from cli.session import Session
from node.keys.private_file import write_private
from storage.schema.block import VoteType
from storage.schema.calls import Evidence
from storage.schema.epochs import EPOCHS_BYTES_MAX, EpochError, load_epochs
from storage.schema.events import EquivocationProven
from storage.schema.evidence import EvidenceError, verify_evidence
from storage.schema.genesis import GENESIS_BYTES_MAX, GenesisError, load_file
from storage.schema.receipt import RECEIPT_BYTES_MAX, Proven, ReceiptError, verify_receipt

_INPUT = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group(cls=Noun)
def receipt() -> None:
    """Receipts: proof of a transaction, for anyone."""


@receipt.command("get", example="caretrace receipt get 5f3a9c --out read.receipt --node north")
@click.argument("transaction", metavar="TXID")
@click.option("--out", metavar="FILE", type=FILE, help="Where to write it.  [TXID.receipt]")
@reading
def get(session: Session, transaction: str, out: Path | None) -> Answer:
    """Fetch a transaction's receipt, verify it, keep it as a file."""
    found = session.resolve_transaction(transaction)
    data = session.node.get_bytes(f"/v1/transactions/{found}/receipt")
    proven = verify_receipt(data, session.genesis, session.epochs)
    if proven.transaction.id.hex() != found:
        raise CliError("receipt.invalid", "the node gave the receipt of another transaction", transaction=found)
    place = out or Path(f"{found[:16]}.receipt")
    write_private(place, data, replace=True)
    fields = {**_proven(proven), "file": str(place), "bytes": len(data)}
    return Answer(fields, facts(fields.items()))


@receipt.command(
    "verify",
    example="caretrace receipt verify read.receipt --genesis genesis.json\n"
    "caretrace receipt verify read.receipt --genesis genesis.json --epochs epochs.bin",
)
@click.argument("path", metavar="FILE", type=_INPUT)
@click.option("--genesis", metavar="FILE", type=_INPUT, required=True, help="The network's genesis file.")
@click.option("--epochs", metavar="FILE", type=_INPUT, help="The chain of epochs, where the validators have changed.")
def verify(path: Path, genesis: Path, epochs: Path | None) -> Answer:
    """Verify a receipt against its network's genesis file.

    It needs no node and no network. A receipt of an epoch above 0 needs the file that caretrace ledger export --epochs
    writes; it is believed no further than it follows from genesis. Of evidence it says who signed what, and both
    signatures are checked again.
    """
    try:
        founded = load_file(_read(genesis, GENESIS_BYTES_MAX))
        known = load_epochs(_read(epochs, EPOCHS_BYTES_MAX), founded) if epochs else None
        proven = verify_receipt(_read(path, RECEIPT_BYTES_MAX), founded, known)
        fields = _proven(proven)
    except (ReceiptError, GenesisError, EpochError, EvidenceError) as error:
        raise CliError(error.code, str(error), exit_code=Exit.UNVERIFIED, facts={"valid": False}) from None
    return Answer(fields, facts(fields.items()))


def _read(path: Path, size_bytes_max: int) -> bytes:
    # A byte more than the limit is enough for the verifier to say so.
    with path.open("rb") as file:
        return file.read(size_bytes_max + 1)


def _proven(proven: Proven) -> dict[str, Any]:
    return {
        "valid": True,
        "transaction": proven.transaction.id.hex(),
        "method": proven.transaction.body.method,
        "height": proven.header.height,
        "time": rfc3339(proven.header.time_ms),
        "status": proven.outcome.code,
        "signers": list(proven.signers),
        "quorum": proven.quorum,
        "epoch": proven.header.epoch,
        **_equivocation(proven),
    }


def _equivocation(proven: Proven) -> dict[str, Any]:
    """Say of evidence that the ledger has taken down who is convicted, and of what."""
    evidence = proven.transaction.arguments
    proved = [event for event in proven.outcome.events if isinstance(event, EquivocationProven)]
    if not proved or not isinstance(evidence, Evidence):
        return {}
    verify_evidence(evidence, proven.header.chain_id)
    place = f"in view {evidence.view} at height {evidence.height}"
    votes = [
        f"{VoteType(vote.kind).name} of block {vote.digest.hex()} {place}" for vote in (evidence.first, evidence.second)
    ]
    return {"equivocator": proved[0].member, "node_key": evidence.node_key.hex(), "first": votes[0], "second": votes[1]}
