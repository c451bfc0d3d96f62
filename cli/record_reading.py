"""Reading a record: request, permit, the custodian's ``served``, the sealed key, the ciphertext, the commitment.

Nothing is taken from the node on trust. What the reader checks content against is the commitment in the record's own
registration, by its receipt; that the reading was permitted and served is seen in receipts too.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import quote

import msgspec

from cli.client import Hex
from cli.errors import CliError, Exit
from cli.output import Answer, facts
from cli.session import Session
from cli.wallet import Key
from cli.writing import Committed, await_commit, commit
from node.keys.private_file import private_writer
from storage.schema.calls import RegisterRecord, RequestAccess
from storage.schema.codec import parse_typed_id, typed_id
from storage.schema.events import AccessPermitted, AccessServed
from storage.schema.transaction import derived_id

_MEMORY_BYTES_MAX = 64 << 20


class _Registered(msgspec.Struct):
    time: str


class _Line(msgspec.Struct):
    transaction: Hex
    action: str


class _Trail(msgspec.Struct):
    entries: list[_Line]


class _Key(msgspec.Struct):
    sealed_key: Hex
    served: Hex


@dataclass(frozen=True)
class _Read:
    """What was written, as the reader's command reports it."""

    size_bytes: int
    digest: str


def read_record(session: Session, key: Key, record: str, purpose: str, out: Path | None) -> Answer:
    """Read a record and write its content to a file, or to standard output.

    Raises:
        CliError: refused, unreachable, or something that was shown does not verify.
    """
    started = time.monotonic()
    raw = parse_typed_id("r", record)
    secrets = session.open(key)
    commitment = _commitment(session, record, raw)
    asked = commit(session, key, secrets, "access.request", RequestAccess(raw, purpose))
    permitted = asked.event(AccessPermitted)
    access = typed_id("a", permitted.access)
    handed = session.node.post(f"/v1/accesses/{quote(access)}/key", {}, _Key)
    served = await_commit(session, handed.served, time.monotonic())
    if served.event(AccessServed).access != permitted.access:
        raise CliError("node.bad_answer", "the custodian served another access", exit_code=Exit.UNVERIFIED)
    data_key = _open_data_key(session, secrets["sealing"], bytes.fromhex(handed.sealed_key), permitted, commitment, key)
    ciphertext = session.node.stream("GET", f"/v1/accesses/{quote(access)}/content")
    done = _write(data_key, ciphertext, commitment, out)
    return _answer(asked, served, permitted, done, started, out)


def _commitment(session: Session, record: str, raw: bytes) -> bytes:
    """Return the commitment that the ledger holds, from the receipt of the record's registration."""
    at = session.node.get(f"/v1/records/{quote(record)}", _Registered).time
    trail = session.node.get(f"/v1/audit/records/{quote(record)}", _Trail, **{"from": at, "to": at}).entries
    added = [line.transaction for line in trail if line.action == "add-record"]
    if len(added) != 1:
        raise CliError("node.bad_answer", f"the node does not show how {record} was registered")
    proven = await_commit(session, added[0], time.monotonic()).proven
    arguments = proven.transaction.arguments
    if not isinstance(arguments, RegisterRecord) or derived_id(proven.transaction.id) != raw:
        detail = f"the node shows another registration than that of {record}"
        raise CliError("node.bad_answer", detail, exit_code=Exit.UNVERIFIED)
    return arguments.commitment


def _open_data_key(
    session: Session, sealing_secret: bytes, sealed: bytes, permitted: AccessPermitted, commitment: bytes, key: Key
) -> bytes:
    # Late: it loads `cryptography`, which only those need who read.
    from node.custody.sealing import RECORD_VERSION, Release, SealError, open_data_key

    release = Release(
        chain_id=session.genesis.chain_id,
        access=permitted.access,
        record=permitted.record,
        version=RECORD_VERSION,
        recipient=key.did,
        sealing_key=key.file.public["sealing"],
        purpose=permitted.purpose,
        commitment=commitment,
    )
    try:
        return open_data_key(sealing_secret, sealed, release)
    except SealError as error:
        raise CliError(error.code, str(error), hint="the custodian may hold an old sealing key of the reader") from None


def _write(data_key: bytes, ciphertext: Iterator[bytes], commitment: bytes, out: Path | None) -> _Read:
    from node.custody.encryption import BlobError, decrypt_stream

    digest, size_bytes = sha256(), 0
    with _destination(out) as file:
        try:
            for piece in decrypt_stream(data_key, ciphertext, commitment):
                file.write(piece)
                digest.update(piece)
                size_bytes += len(piece)
        except BlobError as error:
            hint = "nothing was written; tell the custodian"
            raise CliError(error.code, str(error), exit_code=Exit.UNVERIFIED, hint=hint) from None
    return _Read(size_bytes, digest.hexdigest())


@contextmanager
def _destination(out: Path | None) -> Iterator[IO[bytes]]:
    """Where content goes; it appears there only once all of it is there and checked."""
    if out is not None:
        with private_writer(out, replace=True) as file:
            yield file
        return
    with SpooledTemporaryFile(_MEMORY_BYTES_MAX) as spool:
        yield spool
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _answer(
    asked: Committed, served: Committed, permitted: AccessPermitted, done: _Read, started: float, out: Path | None
) -> Answer:
    consent = permitted.consent
    fields: dict[str, Any] = {
        "record": typed_id("r", permitted.record),
        "bytes": done.size_bytes,
        "sha256": done.digest,
        "access": typed_id("a", permitted.access),
        "served": served.proven.transaction.id.hex(),
        "consent": None if consent is None else typed_id("c", consent),
        "height": served.proven.header.height,
        "transaction": asked.proven.transaction.id.hex(),
        "status": "ok",
        "latency_ms": round((time.monotonic() - started) * 1000),
        "file": None if out is None else str(out),
    }
    text = facts(fields.items())
    return Answer(fields, text) if out else Answer(fields, note=text)
