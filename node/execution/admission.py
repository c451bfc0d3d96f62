"""What can be said of one envelope before it waits for a block: its form, network and time, and who pays.

None of it is a promise: what a block may hold is decided again by ``includable``, on the block's parent.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from node.contracts.contract import StateReader
from node.contracts.entries import MemberEntry, Patient, load_member, load_person
from storage.schema.calls import METHODS
from storage.schema.codec import DecodeError
from storage.schema.refusals import REFUSALS
from storage.schema.signatures import SignatureError
from storage.schema.transaction import (
    BODY,
    ENVELOPE,
    LIFETIME_S_MAX,
    Body,
    Envelope,
    Transaction,
    decode_transaction,
)

_STEP = re.compile(r"\[(\d+|\.\.\.)\]")
_FIELDS = {"tx.version": "version", "tx.method_unknown": "method", "tx.signers": "signers"}


class AdmissionError(Exception):
    """An envelope cannot be taken; nothing of it reaches the ledger.

    Attributes:
        code: stable, one of ``storage.schema.refusals``.
        field: the part of body or arguments at fault, such as ``not_after_s``; empty where there is none.
        detail: the rule in words.
        hint: what to try.
    """

    def __init__(self, code: str, field: str, detail: str) -> None:
        """Refuse an envelope."""
        super().__init__(detail)
        self.code = code
        self.field = field
        self.detail = detail
        self.hint = REFUSALS[code].hint


def admit(envelope: bytes, chain_id: bytes, now_s: int, *, verify: bool = False) -> Transaction:
    """Decode hostile bytes as a transaction of this network that may be included now.

    Without ``verify`` its signatures are left to the caller, who checks many at a time.

    Raises:
        AdmissionError: not a canonical transaction, of another network, outside its time, or badly signed.
    """
    try:
        transaction = decode_transaction(envelope)
    except DecodeError as error:
        raise AdmissionError(error.code, _FIELDS.get(error.code) or _field_at_fault(envelope), str(error)) from None
    if transaction.body.chain_id != chain_id:
        raise AdmissionError("tx.other_network", "chain_id", "it was made for another network")
    code = window_refusal(transaction.body.not_after_s, now_s)
    if code:
        detail = f"it may stand in blocks of {LIFETIME_S_MAX} s up to its not_after"
        raise AdmissionError(code, "not_after_s", detail)
    if verify:
        try:
            transaction.verify_signatures()
        except SignatureError as error:
            raise AdmissionError(error.code, "signatures", str(error)) from None
    return transaction


def unverifiable(transactions: Sequence[Transaction]) -> tuple[int, ...]:
    """Return the positions of those whose signatures do not verify."""
    bad = []
    for position, transaction in enumerate(transactions):
        try:
            transaction.verify_signatures()
        except SignatureError:
            bad.append(position)
    return tuple(bad)


def window_refusal(not_after_s: int, time_s: int) -> str:
    """Return the code by which a time lies outside a transaction's window; empty if it lies in it."""
    if time_s > not_after_s:
        return "tx.expired"
    return "tx.too_far_future" if not_after_s > time_s + LIFETIME_S_MAX else ""


def check_payer(transaction: Transaction, state: StateReader) -> None:
    """Check that the member that is to pay is bound by a signature.

    Raises:
        AdmissionError: no such member, or none of the signers binds it.
    """
    body = transaction.body
    code = payer_refusal(body, load_member(state, body.payer), state)
    if code:
        raise AdmissionError(code, "payer", REFUSALS[code].words)


def payer_refusal(body: Body, payer: MemberEntry | None, state: StateReader) -> str:
    """Return the code by which a payer is not bound; empty if it is.

    It is bound if the first signer is sponsored by it or enrolled there, or if its service or organisation key
    signed: so nobody uses up another member's quota. A member that has been removed is bound by its patients only.
    """
    if payer is None:
        return "tx.payer_unknown"
    signers = body.signers
    is_bound = payer.service_key in signers or payer.organisation_key in signers
    if is_bound and payer.roles:
        return ""
    person = load_person(state, signers[0])
    if person is None or person.member != payer.name or person.signing_key != signers[0]:
        return "member.removed" if is_bound else "tx.payer_unbound"
    return "" if payer.roles or isinstance(person, Patient) else "member.removed"


def _field_at_fault(envelope: bytes) -> str:
    """Name the field that does not decode, by decoding again step by step; only refusals pay for it."""
    value_type: Any = Envelope
    try:
        outer = ENVELOPE.decode(envelope)
        value_type = Body
        body = BODY.decode(outer.body)
        method = METHODS[body.method]
        value_type = method.arguments
        method.form.decode(bytes(body.arguments))
    except DecodeError as error:
        return _field_name(value_type, str(error))
    raise AssertionError("what failed to decode once fails again")


def _field_name(value_type: Any, message: str) -> str:
    """Turn the place that a decoder's message ends with, such as ``$[0][4][...]``, into names of fields."""
    place = message.rpartition(" - at `$")[2] if " - at `$" in message else ""
    found: Any = msgspec.inspect.type_info(value_type)
    names: list[str] = []
    for step in _STEP.findall(place):
        if isinstance(found, msgspec.inspect.UnionType):
            options = [option for option in found.types if not isinstance(option, msgspec.inspect.NoneType)]
            if len(options) > 1:
                break  # Which of them it is, the message does not tell.
            found = options[0]
        if isinstance(found, msgspec.inspect.StructType) and step != "...":
            field = found.fields[int(step)]
            names.append(field.name)
            found = field.type
        elif isinstance(found, msgspec.inspect.VarTupleType):
            found = found.item_type
    return ".".join(names)
