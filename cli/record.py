"""``caretrace record``: clinical documents, sealed at their custodian, registered on the ledger, read under consent."""

import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote

import click
import msgspec

from cli.client import Hex, Json, part_of
from cli.command import Noun
from cli.errors import CliError, Exit, usage_error
from cli.options import FILE, reading, signing, writing
from cli.output import Answer, facts, table
from cli.provisions import category, purpose, sensitivity
from cli.record_reading import Wanted, read_record
from cli.session import Session
from cli.writing import Committed, answer, await_commit
from storage.schema.codec import typed_id
from storage.schema.codes import SENSITIVITIES
from storage.schema.events import RecordRegistered


class _Deposited(msgspec.Struct):
    transaction: Hex
    record: str


@click.group(cls=Noun)
def record() -> None:
    """Records: added by their custodian, read under consent."""


@record.command(
    "add", example="caretrace record add result.json --patient pia --category laboratory --date 2026-11-03 --node north"
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--patient", "who", metavar="PATIENT", required=True, help="Name or DID.")
@click.option("--category", "code", metavar="CODE", required=True, help="A name, or a FHIR or LOINC code.")
@click.option("--sensitivity", "sensitivities", metavar="CODE", multiple=True, help="An HL7 sensitivity, such as PSY.")
@click.option("--date", "day", metavar="YYYY-MM-DD", type=click.DateTime(["%Y-%m-%d"]), help="The clinical day.")
@writing
def add(
    session: Session,
    path: Path,
    who: str,
    code: str,
    sensitivities: tuple[str, ...],
    day: datetime | None,
) -> Answer:
    """Seal a file in the vault of the node's member, and register it.

    The ledger gets its category, its year, a commitment, and where its custodian keeps it, sealed; never its content.
    """
    started = time.monotonic()
    name, labels, date = category(code), tuple(map(sensitivity, sensitivities)), day.date().isoformat() if day else None
    with path.open("rb") as file:
        deposited = _deposit(session, file, session.did(who), name, labels, date)
    return answer(session, deposited.transaction, started, lambda committed: _registered(committed, deposited))


def _deposit(
    session: Session, file: IO[bytes], patient: str, name: str, labels: Sequence[str], date: str | None
) -> _Deposited:
    session.require_same_network()
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    query = {"patient": patient, "category": name, "sensitivity": tuple(labels), "date": date}
    return session.node.upload("/v1/records", file, size_bytes, _Deposited, **query)


def _registered(committed: Committed, deposited: _Deposited) -> dict[str, str]:
    made = typed_id("r", committed.event(RecordRegistered).record)
    if made != deposited.record:
        raise CliError("node.bad_answer", f"the node spoke of {deposited.record}", exit_code=Exit.UNVERIFIED)
    return {"record": made}


@record.command("import", example="caretrace record import bundle.json --patient pia --node north")
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--patient", "who", metavar="PATIENT", required=True, help="Name or DID.")
@writing
def import_bundle(session: Session, path: Path, who: str) -> Answer:
    """Add each clinical resource of a FHIR R4 Bundle as a record."""
    from io import BytesIO

    from cli.fhir_bundle import read_file

    patient = session.did(who)
    rows, left_out = [], set()
    for resource in read_file(path).resources:
        labels = [label for label in resource.labels if label in SENSITIVITIES]
        left_out |= set(resource.labels) - set(labels)
        content = BytesIO(resource.content)
        deposited = _deposit(session, content, patient, resource.category, labels, resource.date)
        rows.append({"record": deposited.record, "transaction": deposited.transaction, "category": resource.category})
    for row in rows if session.waits else ():
        await_commit(session, row["transaction"], time.monotonic())
    fields = {"patient": patient, "records": rows, "labels_left_out": sorted(left_out)}
    note = f"security labels that are no sensitivities were left out: {', '.join(sorted(left_out))}" if left_out else ""
    text = table(["RECORD", "CATEGORY"], [[row["record"], row["category"]] for row in rows], "no clinical resources")
    return Answer(fields, text, note)


@record.command("list", example="caretrace record list --patient pia --node north")
@click.option("--patient", "who", metavar="PATIENT", required=True, help="Name or DID.")
@reading
def list_records(session: Session, who: str) -> Answer:
    """List a patient's records, the newest first."""
    fields = session.node.get("/v1/records", Json, patient=session.did(who))
    rows = [
        [each.get("record"), each.get("category"), each.get("year"), each.get("custodian"), each.get("time")]
        for each in part_of(fields, "records", list[Json])
    ]
    return Answer(fields, table(["RECORD", "CATEGORY", "YEAR", "CUSTODIAN", "REGISTERED"], rows, "no records"))


@record.command("show", example="caretrace record show r-mfrgg --node north")
@click.argument("record_id", metavar="RECORD")
@reading
def show(session: Session, record_id: str) -> Answer:
    """Show what the ledger says of a record; never its content."""
    fields = session.node.get(f"/v1/records/{quote(session.resolve('r', record_id))}", Json)
    return Answer(fields, facts(fields.items()))


@record.command("get", example="caretrace record get r-mfrgg --as ben --purpose TREAT --out result.json --node south")
@click.argument("record_id", metavar="RECORD")
@click.option("--purpose", "code", metavar="CODE", help="What for, such as TREAT.")
@click.option("--access", metavar="ACCESS", help="Read again what was permitted before, while the permit lives.")
@click.option("--as", "who", metavar="NAME", help="Who reads.  [the only key in the wallet]")
@click.option("--out", metavar="FILE", type=FILE, help="Where to write it.  [standard output]")
@signing
@click.pass_context
def get(
    ctx: click.Context,
    session: Session,
    record_id: str,
    code: str | None,
    access: str | None,
    who: str | None,
    out: Path | None,
) -> Answer:
    """Read a record under the patient's consent, and leave the trace.

    A request is ordered and decided; the custodian has it ordered that it serves; only then it hands over the key.
    Every step is checked by its receipt, and the content by the commitment that the ledger holds. If it fails on the
    way, --access asks for the same again: it uses no further permit.
    """
    if out is None and ctx.meta["as_json"]:
        raise usage_error("with --json the content needs a place of its own", "--out FILE")
    if (code is None) == (access is None):
        raise usage_error("say what for, or which access is meant", "--purpose CODE, or --access ACCESS")
    key, record = session.only_key(who), session.resolve("r", record_id)
    wanted = Wanted(record, purpose(code) if code else None, session.resolve("a", access) if access else None, out)
    return read_record(session, key, wanted)
