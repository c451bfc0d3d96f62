"""Every refusal over HTTP: problem details (RFC 9457) with a stable code, in one shape, from one place."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from node.custody.vault import VaultError, VaultFullError
from storage.database import DatabaseCorruptError, DatabaseError, HistoryError
from storage.schema.refusals import REFUSALS

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
HISTORY_RETRY_AFTER_S = 10
_STATUS_CODES = {
    404: "http.no_such_path",
    405: "http.method_not_allowed",
    413: "http.body_too_large",
    415: "http.media_type",
    429: "http.busy",
    431: "http.headers_too_many",
}

log = logging.getLogger("caretrace.http")


class ProblemError(Exception):
    """A request that is refused, as the client is told.

    ``code`` is stable, ``detail`` the reason in words without any secret; ``field`` names the argument at fault,
    ``hint`` what to try, ``transaction`` (hex) what it is about.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str = "",
        hint: str = "",
        transaction: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        """Refuse with an HTTP status."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self._extra = {"field": field, "hint": hint, "transaction": transaction}

    def response(self) -> Response:
        """Return what the client gets."""
        body = {
            "type": f"urn:caretrace:problem:{self.code}",
            "title": words_of(self.code),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **{name: value for name, value in self._extra.items() if value},
        }
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        return Response(msgspec.json.encode(body), self.status, headers, MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI request with this problem."""
        await self.response()(scope, receive, send)


def words_of(code: str) -> str:
    """Return what a code means in words; the code itself where the table of refusals has none."""
    refusal = REFUSALS.get(code)
    return refusal.words if refusal else code


def hint_of(code: str) -> str:
    """Return what to try after a refusal by this code; empty where nothing helps."""
    refusal = REFUSALS.get(code)
    return refusal.hint if refusal else ""


def not_found(what: str, code: str) -> ProblemError:
    """Return the refusal for a thing that this node does not know."""
    return ProblemError(404, code, f"no {what} of this id stands on the ledger of this node")


async def answer_problem(_: Request, problem: Exception) -> Response:
    """Answer a refusal that a route raised."""
    assert isinstance(problem, ProblemError)
    return problem.response()


async def answer_http_error(_: Request, error: Exception) -> Response:
    """Answer what routing itself refuses: no such path, or not by this method."""
    assert isinstance(error, HTTPException)
    code = _STATUS_CODES.get(error.status_code, "http.refused")
    response = ProblemError(error.status_code, code, str(error.detail)).response()
    response.headers.update(error.headers or {})
    return response


async def answer_invalid(_: Request, error: Exception) -> Response:
    """Answer arguments in the path or the query that are not of their declared form."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return ProblemError(400, "request.invalid", str(first["msg"]), field=field).response()


async def answer_history_missing(_: Request, error: Exception) -> Response:
    """Answer that what was asked for may stand below the blocks that are here, and from where on they are."""
    assert isinstance(error, HistoryError)
    return ProblemError(503, error.code, str(error), retry_after_s=HISTORY_RETRY_AFTER_S).response()


async def answer_disk_error(
    request: Request, error: Exception, on_damage: Callable[[DatabaseCorruptError], None]
) -> Response:
    """Answer damage or failure of what this node has stored: by its code, with what is damaged."""
    assert isinstance(error, DatabaseError | VaultError)
    log.error("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, DatabaseCorruptError):
        on_damage(error)
    hint = "make room on the node's disk" if isinstance(error, VaultFullError) else "ask the node to verify its ledger"
    return ProblemError(507 if isinstance(error, VaultFullError) else 500, error.code, str(error), hint=hint).response()


async def answer_bug(request: Request, error: Exception) -> Response:
    """Answer an error that is ours: the client learns that it failed, the log learns why."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return ProblemError(500, "node.failed", "the node failed to answer; its log says why").response()
