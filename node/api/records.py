"""Records: taken in by this member, and read from their custodian under a permit."""

import logging
from contextlib import aclosing
from datetime import date
from typing import Annotated

import trio
from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from node.api.problems import RETRY_AFTER_S, ProblemError, hint_of
from node.api.replies import OCTETS, body_of, person, reply, typed
from node.api.services import Services
from node.api.streaming import CutShortError, StreamedResponse, Write
from node.custody.deposits import About, DepositError
from node.custody.gatekeeper import WithheldError
from node.custody.labels import LabelError
from node.custody.reader import CustodianUnreachableError
from node.execution.rendering import show_id, show_time_ms
from storage.schema.codes import CATEGORIES, category_of

DEPOSITS_MAX = 8
_NOT_FOUND = frozenset({"access.not_found", "record.not_held"})

log = logging.getLogger("caretrace.http")

AccessId = Annotated[str, Path(max_length=64, description="access id, a-…")]
Did = Annotated[str, Query(max_length=64, description="the patient's DID")]
Code = Annotated[str, Query(max_length=32)]
Day = Annotated[str, Query(alias="date", max_length=10, description="clinical day, YYYY-MM-DD")]
Sensitivities = Annotated[tuple[str, ...], Query(max_length=16, description="HL7 sensitivity codes")]


class Records:
    """The routes about contents of records and their keys."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._services = services
        self._deposits = trio.CapacityLimiter(DEPOSITS_MAX)
        self.router = APIRouter(tags=["records"])
        add = self.router.add_api_route
        add("/v1/records", self.add, methods=["POST"], status_code=202, openapi_extra=body_of(OCTETS))
        add("/v1/labels", self.label, methods=["GET"])
        add("/v1/accesses/{access}/key", self.key, methods=["POST"])
        add("/v1/accesses/{access}/content", self.content, methods=["GET"])

    async def add(
        self, request: Request, patient: Did, category: Code, sensitivity: Sensitivities = (), day: Day = ""
    ) -> Response:
        """Seal the body into this member's vault and hand in the registration of it as a record of the patient."""
        name = category_of(category)
        if name is None:
            detail = f"one of {', '.join(CATEGORIES)}, or a code of one"
            raise ProblemError(400, "category.unknown", detail, field="category")
        about = About(person(patient, "patient"), name, sensitivity, _day(day))
        try:
            async with self._deposits, aclosing(request.stream()) as content:
                deposited = await self._services.deposits.take(content, about)
        except DepositError as error:
            raise ProblemError(400, error.code, str(error), hint=hint_of(error.code)) from None
        except LabelError as error:
            raise ProblemError(400, error.code, str(error), field="sensitivity") from None
        except ClientDisconnect:
            raise ProblemError(400, "http.body_cut_short", "the client left before the body's end") from None
        answer = {
            "transaction": deposited.transaction.hex(),
            "record": show_id("record", deposited.record),
            "bytes": deposited.size_bytes,
        }
        return reply(answer, 202)

    async def label(self, patient: Did, sensitivity: Code) -> Response:
        """The tag under which this member's records of a patient carry a sensitivity."""
        try:
            tag = await trio.to_thread.run_sync(self._services.labels.tag, person(patient, "patient"), sensitivity)
        except LabelError as error:
            raise ProblemError(400, error.code, str(error), field="sensitivity") from None
        return reply({"patient": patient, "sensitivity": sensitivity, "tag": tag.hex()})

    async def key(self, access: AccessId) -> Response:
        """Have the custodian commit that the access is served, and get the record's key sealed to the reader."""
        try:
            released = await self._services.reader.fetch_key(typed("a", access, "access"))
        except (WithheldError, CustodianUnreachableError) as error:
            raise _reading_problem(error) from None
        answer = {
            "sealed_key": released.sealed_key.hex(),
            "served": released.served.hex(),
            "height": released.height,
            "size": released.size_bytes,
        }
        return reply(answer)

    async def content(self, access: AccessId) -> Response:
        """The record's ciphertext, as its custodian holds it."""
        raw, reader = typed("a", access, "access"), self._services.reader
        try:
            first = await reader.fetch_chunk(raw, 0)
        except (WithheldError, CustodianUnreachableError) as error:
            raise _reading_problem(error) from None

        async def pull(write: Write) -> None:
            chunk, offset = first, 0
            while True:
                await write(chunk.data)
                offset += len(chunk.data)
                if offset >= first.size_bytes:
                    return
                try:
                    chunk = await reader.fetch_chunk(raw, offset)
                except (WithheldError, CustodianUnreachableError) as error:
                    log.warning("the content for access %s ends at byte %d: %s", raw.hex(), offset, error)
                    raise CutShortError from None
                if chunk.size_bytes != first.size_bytes:
                    log.warning("the content for access %s changed its size on the way", raw.hex())
                    raise CutShortError

        return StreamedResponse(pull, OCTETS, {"content-length": str(first.size_bytes)})


def _reading_problem(error: WithheldError | CustodianUnreachableError) -> ProblemError:
    if isinstance(error, CustodianUnreachableError):
        detail = f"{error}; so since {show_time_ms(error.since_ms)}"
        hint = "ask again while the permit lives"
        return ProblemError(503, error.code, detail, hint=hint, retry_after_s=RETRY_AFTER_S)
    status = 404 if error.code in _NOT_FOUND else 403
    return ProblemError(status, error.code, str(error), hint=hint_of(error.code))


def _day(text: str) -> str:
    if not text:
        return ""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ProblemError(400, "request.invalid", "no such day; YYYY-MM-DD is expected", field="date") from None
    # Python reads 20261103 and 2026-W45-2 too; what is kept has one form.
    return day.isoformat()
