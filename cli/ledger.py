"""``caretrace ledger``: the chain itself, and whether it is what its members agreed on."""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import click
import msgspec

from cli.client import Json, decode_answer, part_of
from cli.command import Noun
from cli.errors import CliError, Exit, usage_error
from cli.options import FILE, reading
from cli.output import Answer, facts, table
from cli.session import Session
from node.keys.private_file import write_private
from storage.schema.genesis import GENESIS_BYTES_MAX

_LINE_BYTES_MAX = 1 << 20
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


class _Finding(msgspec.Struct):
    height: int | None
    area: str
    why: str


class _Report(msgspec.Struct, omit_defaults=True, rename={"from_height": "from", "to_height": "to"}):
    """What a verification found, by its names in JSON."""

    ok: bool
    from_height: int
    to_height: int
    blocks: int
    first_bad: _Finding | None = None  # Left out where all is well.


@click.group(cls=Noun)
def ledger() -> None:
    """The ledger: blocks, transactions, and its verification."""


@ledger.command("status", example="caretrace ledger status --node north")
@reading
def status(session: Session) -> Answer:
    """Show where the chain of a node stands."""
    node = session.node.get("/v1/status", Json)
    head = session.node.get("/v1/blocks/head", Json)
    fields = {
        "network": node.get("network"),
        "chain_id": node.get("chain_id"),
        "height": head.get("height"),
        "block_hash": head.get("hash"),
        "state_root": head.get("state_root"),
        "history_root": head.get("history_root"),
        "time": head.get("time"),
    }
    return Answer(fields, facts(fields.items()))


@ledger.command("block", example="caretrace ledger block 7 --node north\ncaretrace ledger block head")
@click.argument("height", metavar="HEIGHT|head", default="head")
@reading
def block(session: Session, height: str) -> Answer:
    """Show a block: its header, its signers, and its outcomes."""
    if height != "head" and not (height.isascii() and height.isdigit() and len(height) < 20):
        raise usage_error(f"{height!r} is no height: a number, or head")
    fields = session.node.get(f"/v1/blocks/{height}", Json)
    pairs = {name: value for name, value in fields.items() if name != "transactions"}
    rows = [[each.get("transaction"), each.get("status")] for each in part_of(fields, "transactions", list[Json])]
    return Answer(fields, f"{facts(pairs.items())}\n\n{table(['TRANSACTION', 'STATUS'], rows, 'no transactions')}")


@ledger.command("tx", example="caretrace ledger tx 5f3a9c --node north")
@click.argument("transaction", metavar="TXID")
@reading
def tx(session: Session, transaction: str) -> Answer:
    """Show where a transaction stands and what came of it, refusals too."""
    fields = session.node.get(f"/v1/transactions/{session.resolve_transaction(transaction)}", Json)
    return Answer(fields, facts(fields.items()))


@ledger.command(
    "verify",
    example="caretrace ledger verify --node north\ncaretrace ledger verify --data copy/data --genesis genesis.json",
)
@click.option("--data", metavar="DIR", type=_FOLDER, help="Data of a node that is stopped, or a copy of it.")
@click.option("--genesis", metavar="FILE", type=_FILE, help="With --data: the network's genesis file.")
@reading
def verify(session: Session, data: Path | None, genesis: Path | None) -> Answer:
    """Check everything again, from genesis to the head.

    Certificates, signatures and trees are checked, every block is executed again to its state root, and the indexes
    are compared with the blocks. A vote log beside the ledger, in --data, tells whether its end was lost. Exit code 6,
    and the first thing that is wrong, if something is.

    While a node fetches the history below a snapshot, it is checked from where its blocks begin: see "from".
    """
    if (data is None) != (genesis is None):
        raise usage_error("--data and --genesis belong together")
    report = _verify_folder(data, genesis) if data and genesis else _verify_node(session)
    fields = msgspec.to_builtins(report)
    return Answer(fields, facts(fields.items()), exit_code=Exit.OK if report.ok else Exit.UNVERIFIED)


@ledger.command("export", example="caretrace ledger export --epochs --out epochs.bin --node north")
@click.option("--epochs", is_flag=True, required=True, help="The chain of epochs, for those who verify offline.")
@click.option("--out", metavar="FILE", type=FILE, default=Path("epochs.bin"), show_default=True, help="Where to write.")
@reading
def export(session: Session, epochs: bool, out: Path) -> Answer:
    """Write what offline verifiers need beside genesis: the proof of every later validator set.

    It is proven here, from the wallet's genesis on, before it is written.
    """
    assert epochs, "there is nothing else to export yet"
    known = session.epochs
    data, newest = known.render(), known.newest
    write_private(out, data, replace=True)
    fields = {
        "file": str(out),
        "bytes": len(data),
        "epoch": newest.epoch,
        "validators": [validator.name for validator in newest.validators],
    }
    return Answer(fields, facts(fields.items()))


def _verify_node(session: Session) -> _Report:
    report: Json | None = None
    for line in _lines(session.node.stream("POST", "/v1/ledger/verify")):
        content = decode_answer(line, Json)
        if "progress" in content:
            told = part_of(content, "progress", dict[str, int])
            _progress(told.get("height", 0), told.get("of", 0))
        else:
            report = content
    _progress(0, 0)
    if report is None:
        raise CliError("node.bad_answer", "the node ended its verification without a report")
    return part_of({"report": report}, "report", _Report)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise CliError("node.bad_answer", "the node's answer has no end of line")
        yield from whole
    if rest:
        yield rest


def _verify_folder(data: Path, genesis: Path) -> _Report:
    with genesis.open("rb") as file:
        content = file.read(GENESIS_BYTES_MAX + 1)
    # By name, late: it loads the contracts and LevelDB, which no other command needs.
    inspect = import_module("node.runtime.inspect")
    try:
        found = inspect.verify_folder(data, content, _progress)
    except inspect.InspectError as error:
        raise CliError(error.code, str(error)) from None
    _progress(0, 0)
    bad = found.first_bad
    finding = None if bad is None else _Finding(bad.height, bad.area, bad.why)
    return _Report(found.ok, found.from_height, found.to_height, found.blocks, finding)


def _progress(height: int, of: int) -> None:
    """Show on a terminal how far a verification has come; with 0 of 0, take the line away."""
    if sys.stderr.isatty():
        click.echo(f"\r{f'verified {height} of {of} blocks' if of else '':<40}", nl=False, err=True)
        if not of:
            click.echo("\r", nl=False, err=True)
