"""Transactions: handed in, sponsored, waited for, and proven by their receipt."""

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from node.api.problems import RETRY_AFTER_S, ProblemError, hint_of
from node.api.replies import MSGPACK, OCTETS, body_of, hex_id, reply
from node.api.services import Services
from node.api.streaming import while_listening
from node.custody.wire import Refusal
from node.execution.trails import show_transaction
from storage.schema.codec import DecodeError
from storage.schema.signatures import SignatureError
from storage.schema.transaction import (
    BODY_BYTES_MAX,
    LIFETIME_S_MAX,
    Transaction,
    decode_transaction,
    encode_envelope,
    sign_body,
)

ENVELOPES_MAX = 500
BATCH_BYTES_MAX = 4 << 20
WAIT_S_MAX = 60
SPONSORED = frozenset({"identity.register_patient", "identity.enrol_practitioner", "identity.revoke_practitioner"})

_Batch = Annotated[list[bytes], msgspec.Meta(min_length=1, max_length=ENVELOPES_MAX)]
_decode_batch = msgspec.msgpack.Decoder(_Batch).decode
_decode_sponsored = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]]).decode

HexId = Annotated[str, Path(max_length=128, description="hexadecimal transaction id")]
Wait = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="seconds to wait for the commit")]


class Transactions:
    """The routes about transactions."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._services = services
        self._ledger = services.ledger
        self._commits = services.commits
        self.router = APIRouter(tags=["transactions"])
        add = self.router.add_api_route
        add("/v1/transactions", self.post, methods=["POST"], status_code=202, openapi_extra=body_of(MSGPACK))
        add("/v1/transactions/{tx_id}", self.get, methods=["GET"])
        add("/v1/transactions/{tx_id}/receipt", self.receipt, methods=["GET"])
        add("/v1/sponsor", self.sponsor, methods=["POST"], openapi_extra=body_of(MSGPACK))

    async def post(self, request: Request) -> Response:
        """Hand in up to 500 signed envelopes, as a MessagePack array; answers the ids and the refused ones."""
        envelopes = await _decoded(request, _decode_batch)
        answers = await self._services.submit(envelopes)
        taken = [answer.hex() for answer in answers if isinstance(answer, bytes)]
        if len(taken) == len(answers):
            return reply({"transactions": taken, "refused": []}, 202)
        refused = [
            {"index": index, **_refusal(answer)}
            for index, answer in enumerate(answers)
            if not isinstance(answer, bytes)
        ]
        if taken:
            return reply({"transactions": taken, "refused": refused}, 202)
        raise _all_refused(refused[0])

    async def get(self, request: Request, tx_id: HexId, wait: Wait = 0) -> Response:
        """What the ledger says of a transaction."""
        raw = hex_id(tx_id, "tx_id")
        await self._placed(request, raw, wait)
        return reply(show_transaction(self._ledger, raw))

    async def receipt(self, request: Request, tx_id: HexId, wait: Wait = 0) -> Response:
        """The file that proves a transaction and its outcome to anyone."""
        raw = hex_id(tx_id, "tx_id")
        await self._placed(request, raw, wait)
        receipt = self._ledger.receipt(raw)
        assert receipt is not None, "what stands in a block has a receipt"
        return Response(receipt, media_type=OCTETS)

    async def _placed(self, request: Request, tx_id: bytes, wait_s: float) -> None:
        """Return once the ledger holds the transaction."""
        if self._ledger.contains(tx_id):
            return
        if not wait_s:
            self._ledger.check_history()
            raise ProblemError(404, "tx.not_found", "the ledger holds no such transaction", transaction=tx_id.hex())
        await while_listening(request.receive, partial(self._wait, tx_id, wait_s))
        if not self._ledger.contains(tx_id):
            detail = f"not committed within {wait_s:g} s; it may still land"
            raise ProblemError(504, "tx.not_committed", detail, transaction=tx_id.hex())

    async def _wait(self, tx_id: bytes, wait_s: float) -> None:
        # Looked for again, and then waited for without a pause in between in which it could commit unseen.
        if not self._ledger.contains(tx_id):
            await self._commits.wait_for(tx_id, wait_s)

    async def sponsor(self, request: Request) -> Response:
        """Add this member's signature, as the last one, to a call that makes or ends a person here.

        The body is a MessagePack array: the call's body, and the signatures of the signers before the member.
        """
        body, signatures = await _decoded(request, _decode_sponsored)
        if len(body) > BODY_BYTES_MAX:
            raise ProblemError(413, "bytes.too_large", f"a call has at most {BODY_BYTES_MAX} bytes")
        # It is judged as the whole that it would become; the signature leaves only if every rule is kept.
        signature = sign_body(body, self._services.custodian.service_seed)
        try:
            transaction = decode_transaction(encode_envelope(body, (*signatures, signature)))
            self._check_sponsored(transaction)
            transaction.verify_signatures()
        except (DecodeError, SignatureError) as error:
            raise ProblemError(400, error.code, str(error), hint=hint_of(error.code)) from None
        return reply({"signature": signature.hex()})

    def _check_sponsored(self, transaction: Transaction) -> None:
        body, custodian = transaction.body, self._services.custodian
        now_s = self._services.wall_ms() // 1000
        for is_wrong, code, field, detail in (
            (body.chain_id != custodian.chain_id, "tx.other_network", "chain_id", "it is for another network"),
            (body.method not in SPONSORED, "sponsor.method", "method", "a member sponsors people and nothing else"),
            (body.payer != custodian.member, "sponsor.other_member", "payer", f"this node is {custodian.member}"),
            (body.signers[-1] != custodian.service_key, "sponsor.not_last", "signers", "the member signs last"),
            (body.not_after_s < now_s, "tx.expired", "not_after_s", "its time is over"),
            (body.not_after_s > now_s + LIFETIME_S_MAX, "tx.too_far_future", "not_after_s", "at most 24 hours ahead"),
        ):
            if is_wrong:
                raise ProblemError(400, code, detail, field=field, hint=hint_of(code))


async def _decoded(request: Request, decode: Any) -> Any:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if content_type != MSGPACK:
        raise ProblemError(415, "http.media_type", f"this takes {MSGPACK}")
    body = await request.body()
    try:
        return decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProblemError(400, "bytes.malformed", str(error), hint=hint_of("bytes.malformed")) from None


def _refusal(answer: Refusal) -> dict[str, str]:
    said = {"code": answer.code, "detail": answer.detail, "field": answer.field, "hint": hint_of(answer.code)}
    return {name: value for name, value in said.items() if value}


def _all_refused(first: dict[str, Any]) -> ProblemError:
    is_full = first["code"] == "mempool.full"
    return ProblemError(
        429 if is_full else 400,
        first["code"],
        first["detail"],
        field=first.get("field", ""),
        hint=first.get("hint", ""),
        retry_after_s=RETRY_AFTER_S if is_full else None,
    )
