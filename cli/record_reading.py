"""Reading a record: request, permit, the custodian's ``served``, the sealed key, the ciphertext, the commitment.

Nothing is taken from the node on trust. What the reader checks content against is the commitment in the record's own
registration, by its receipt; that the reading was permitted and served is seen in receipts too.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
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
from node.keys.did import encode_did
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


@dataclass(frozen=True)
class Wanted:
    """What is to be read: a record for a purpose, or again by the permit of an access that was granted before."""

    record: str
    purpose: str | None
    access: str | None
    out: Path | None


def read_record(session: Session, key: Key, wanted: Wanted) -> Answer:
    """Read a record and write its content to a file, or to standard output.

    A permit may be the only one that the patient gives: whatever can be known to fail is looked at before it is asked
    for, and what fails afterwards can be asked for again.

    Raises:
        CliError: refused, unreachable, or something that was shown does not verify.
    """
    started = time.monotonic()
    raw = parse_typed_id("r", wanted.record)
    secrets = session.open(key)
    _check_place(session, key)
    with _destination(wanted.out) as file:
        commitment = _commitment(session, wanted.record, raw)
        asked = _permit(session, key, secrets, raw, wanted)
        permitted = asked.event(AccessPermitted)
        with _repeatable(wanted.record, typed_id("a", permitted.access)):
            served, content = _fetch(session, key, secrets, permitted, commitment)
            done = _write(content, file)
    return _answer(asked, served, permitted, done, started, wanted.out)


def _check_place(session: Session, key: Key) -> None:
    did = encode_did(key.did)
    member = session.member_of(did)
    if member != session.status.member:
        detail = f"{key.name} reads at {member}; this is the node of {session.status.member}"
        raise CliError("access.other_member", detail, hint=f"--node with the node of {member}")


def _permit(session: Session, key: Key, secrets: Mapping[str, bytes], record: bytes, wanted: Wanted) -> Committed:
    """Have the ledger decide, or find what it decided before."""
    if wanted.access is None:
        assert wanted.purpose is not None, "who asks anew says what for"
        return commit(session, key, secrets, "access.request", RequestAccess(record, wanted.purpose))
    access = parse_typed_id("a", wanted.access)
    trail = session.node.get(f"/v1/audit/records/{quote(wanted.record)}", _Trail).entries
    asked = next((line.transaction for line in trail if derived_id(bytes.fromhex(line.transaction)) == access), None)
    if asked is None:
        raise CliError("access.not_found", f"the trail of {wanted.record} holds no {wanted.access}")
    committed = await_commit(session, asked, time.monotonic())
    if committed.event(AccessPermitted).requester != key.did:
        raise CliError("access.not_found", f"{wanted.access} is the permit of another reader")
    return committed


@contextmanager
def _repeatable(record: str, access: str) -> Iterator[None]:
    """Say how the same access is asked for again, whatever ends the reading."""
    hint = f"the permit lives for some minutes: caretrace record get {record} --access {access}"
    try:
        yield
    except KeyboardInterrupt:
        raise CliError("interrupted", "interrupted while reading", exit_code=Exit.INTERRUPTED, hint=hint) from None
    except OSError as error:
        raise CliError("system.error", f"the content was not written: {error.strerror or error}", hint=hint) from None
    except CliError as error:
        if error.exit_code is not Exit.REFUSED:
            error.hint = hint
        raise


def _fetch(
    session: Session, key: Key, secrets: Mapping[str, bytes], permitted: AccessPermitted, commitment: bytes
) -> tuple[Committed, Iterator[bytes]]:
    """Have the access served; return the proof of it, and the content piece by piece, checked as it comes."""
    from node.custody.encryption import decrypt_stream

    access = typed_id("a", permitted.access)
    handed = session.node.post(f"/v1/accesses/{quote(access)}/key", {}, _Key)
    served = await_commit(session, handed.served, time.monotonic())
    if served.event(AccessServed).access != permitted.access:
        raise CliError("node.bad_answer", "the custodian served another access", exit_code=Exit.UNVERIFIED)
    data_key = _open_data_key(session, secrets["sealing"], bytes.fromhex(handed.sealed_key), permitted, commitment, key)
    ciphertext = session.node.stream("GET", f"/v1/accesses/{quote(access)}/content")
    return served, decrypt_stream(data_key, ciphertext, commitment)


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


def _write(content: Iterator[bytes], file: IO[bytes]) -> _Read:
    from node.custody.encryption import BlobError

    digest, size_bytes = sha256(), 0
    try:
        for piece in content:
            file.write(piece)
            digest.update(piece)
            size_bytes += len(piece)
    except BlobError as error:
        detail = f"{error}; nothing was written: tell the custodian"
        raise CliError(error.code, detail, exit_code=Exit.UNVERIFIED) from None
    return _Read(size_bytes, digest.hexdigest())


@contextmanager
def _destination(out: Path | None) -> Iterator[IO[bytes]]:
    """Where content goes, opened first of all; it appears there only once all of it is there and checked."""
    if out is not None:
        if not out.parent.is_dir():
            raise CliError("system.error", f"there is no folder {out.parent} to write to")
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
