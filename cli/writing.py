"""Writing to the ledger: sign a call, send it, wait for its receipt, and believe nothing but the receipt."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from cli.client import Hex, part_of
from cli.errors import CliError, Exit
from cli.output import Answer, facts
from cli.passphrase import Passphrases
from cli.session import Session
from cli.wallet import Key
from node.keys.did import encode_did
from storage.schema.codec import Value
from storage.schema.events import Refused
from storage.schema.receipt import Proven, verify_receipt
from storage.schema.refusals import REFUSALS
from storage.schema.transaction import (
    LIFETIME_S_MAX,
    encode_body,
    encode_envelope,
    sign_body,
    transaction_id,
)

# Long enough for a slow network, short enough that a call whose user has given up does not land hours later.
LIFETIME_S = 600
_WAIT_STEP_S = 20.0

E = TypeVar("E")


@dataclass(frozen=True)
class Committed:
    """A call that stands on the ledger, by a receipt that was verified here."""

    proven: Proven
    receipt: bytes
    latency_ms: int

    def events_of(self, kind: type[E]) -> list[E]:
        """Return all that the outcome says of one kind."""
        return [event for event in self.proven.outcome.events if isinstance(event, kind)]

    def event(self, kind: type[E]) -> E:
        """Return what the outcome says happened.

        Raises:
            CliError: an outcome ``ok`` without it is of a version that this program does not know.
        """
        for event in self.events_of(kind):
            return event
        raise CliError("receipt.unexpected", f"the outcome does not say {kind.__name__}", exit_code=Exit.UNVERIFIED)


class _Accepted(msgspec.Struct):
    transactions: list[str]


class _Signature(msgspec.Struct):
    signature: Hex


Made = Callable[[Committed], dict[str, Any]]


def write(
    session: Session, key: Key | None, method: str, arguments: Value, made: Made, *, sponsored: bool = False
) -> Answer:
    """Sign a call by a person's keys, or the node's member, or both in this order; send it and answer for it.

    ``sponsored`` calls are signed last, and paid, by the member whose node is asked; others are paid by the member
    that sponsors or enrolled the person. ``made`` picks from the verified outcome the ids to answer with.

    Raises:
        CliError: refused, by the node or by the ledger; or not committed in time.
        ReceiptError: what the node shows as proof proves nothing.
    """
    secret = session.open(key)["signing"] if key else None
    signers = [key.did] if key else []
    payer = session.status.member
    if sponsored:
        signers.append(bytes.fromhex(session.status.service_key))
    elif key:
        payer = session.member_of(encode_did(key.did))
    body = _body(session, payer, signers, method, arguments)
    signatures = [sign_body(body, secret)] if secret else []
    if sponsored:
        signatures.append(_sponsor(session, body, signatures))
    started = time.monotonic()
    send(session, body, signatures)
    return answer(session, transaction_id(body).hex(), started, made)


def commit(session: Session, key: Key, opened: Mapping[str, bytes], method: str, arguments: Value) -> Committed:
    """Sign a call by a person's opened keys, send it, and wait for it whatever the user says.

    Raises:
        CliError: as for ``write``.
        ReceiptError: as for ``write``.
    """
    body = _body(session, session.member_of(encode_did(key.did)), [key.did], method, arguments)
    started = time.monotonic()
    send(session, body, [sign_body(body, opened["signing"])])
    return await_commit(session, transaction_id(body).hex(), started)


def write_for_organisation(
    session: Session, key: Key, method: str, arguments: Value, made: Made, passphrases: Passphrases | None = None
) -> Answer:
    """Sign a call by an organisation's key, which binds its member as payer; send it and answer for it.

    ``passphrases`` open the key where those of the session are for others.

    Raises:
        CliError: as for ``write``, or no present member has this key.
        ReceiptError: as for ``write``.
    """
    payers = [part_of(each, "name", str) for each in session.members() if each.get("organisation_key") == key.did.hex()]
    if not payers:
        raise CliError("organisation_key.unknown", f"{key.name} is the organisation key of no present member")
    opened = (passphrases or session.passphrases).open(key.file, key.name)
    body = _body(session, payers[0], [key.did], method, arguments)
    signatures = [sign_body(body, opened["organisation"])]
    started = time.monotonic()
    send(session, body, signatures)
    return answer(session, transaction_id(body).hex(), started, made)


def _body(session: Session, payer: str, signers: Sequence[bytes], method: str, arguments: Value) -> bytes:
    not_after_s = int(time.time()) + min(max(LIFETIME_S, int(session.timeout_s) + 60), LIFETIME_S_MAX - 60)
    nonce = secrets.token_bytes(16)
    return encode_body(session.genesis.chain_id, nonce, not_after_s, payer, signers, method, arguments)


def _sponsor(session: Session, body: bytes, signatures: Sequence[bytes]) -> bytes:
    answer = session.node.post_msgpack("/v1/sponsor", [body, list(signatures)], _Signature)
    return bytes.fromhex(answer.signature)


def send(session: Session, body: bytes, signatures: Sequence[bytes]) -> None:
    """Hand a signed call to the node.

    Raises:
        CliError: the node refuses it, with the code that says why.
    """
    transaction = transaction_id(body).hex()
    with _naming(transaction):
        envelopes = [encode_envelope(body, signatures)]
        accepted = session.node.post_msgpack("/v1/transactions", envelopes, _Accepted).transactions
    if accepted != [transaction]:
        raise CliError("node.bad_answer", "the node took another transaction than was sent")


@contextmanager
def _naming(transaction: str) -> Iterator[None]:
    """Name the transaction to a user whose command ends here: from its sending on it may land.

    Raises:
        CliError: what went wrong, or that the command was interrupted, with the transaction.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise CliError(
            "interrupted",
            "interrupted while waiting; the transaction may still land",
            exit_code=Exit.INTERRUPTED,
            hint=f"caretrace ledger tx {transaction[:16]}",
            transaction=transaction,
        ) from None
    except CliError as error:
        error.transaction = transaction
        raise


def answer(session: Session, transaction: str, started: float, made: Made) -> Answer:
    """Wait for a transaction's commit, unless the user does not, and answer with where it stands.

    Raises:
        CliError: refused by the ledger, or not committed in time; it names the transaction.
        ReceiptError: what the node shows as proof proves nothing.
    """
    if not session.waits:
        text = f"sent, not waited for: {transaction}"
        return Answer({"transaction": transaction, "status": "sent"}, text)
    committed = await_commit(session, transaction, started)
    outcome, header = committed.proven.outcome, committed.proven.header
    things = made(committed)
    place = {
        "transaction": transaction,
        "height": header.height,
        "status": outcome.code,
        "latency_ms": committed.latency_ms,
    }
    text = facts([*things.items(), ("height", header.height), ("transaction", transaction)])
    return Answer(place | things, text)


def await_commit(session: Session, transaction: str, started: float) -> Committed:
    """Wait for a transaction's receipt, verify it, and return what it proves; its outcome is ``ok``.

    Raises:
        CliError: refused by the ledger, or not committed in time.
        ReceiptError: what the node shows as proof proves nothing.
    """
    with _naming(transaction):
        data = _await_receipt(session, transaction, started)
    proven = verify_receipt(data, session.genesis, session.epochs)
    if proven.transaction.id.hex() != transaction:
        raise CliError("receipt.invalid", "the node gave the receipt of another transaction", transaction=transaction)
    if proven.outcome.code != "ok":
        raise refusal(proven)
    return Committed(proven, data, round((time.monotonic() - started) * 1000))


def _await_receipt(session: Session, transaction: str, started: float) -> bytes:
    path = f"/v1/transactions/{transaction}/receipt"
    while True:
        left = session.timeout_s - (time.monotonic() - started)
        try:
            return session.node.get_bytes(path, wait_s=max(0.001, min(left, _WAIT_STEP_S)))
        except CliError as error:
            if error.exit_code is not Exit.NOT_COMMITTED:
                raise
        if left <= _WAIT_STEP_S:
            raise CliError(
                "tx.not_committed",
                f"not committed within {session.timeout_s:g} s; it may still land",
                hint=f"caretrace ledger tx {transaction[:16]}, or a longer --timeout",
            )


def refusal(proven: Proven) -> CliError:
    """Return what an outcome that is not ``ok`` tells the user."""
    outcome = proven.outcome
    known = REFUSALS.get(outcome.code)
    told = next((event for event in outcome.events if isinstance(event, Refused)), None)
    words = [known.words if known else "refused", told.detail if told else ""]
    return CliError(
        outcome.code,
        "; ".join(word for word in words if word),
        field=(told.field or None) if told else None,
        hint=known.hint if known else None,
        transaction=proven.transaction.id.hex(),
    )
