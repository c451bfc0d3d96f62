"""Bounds on every request before any route sees it: requests at once, header count, body size, and lingering.

Attack: a client that sends without end, or opens many requests and lets them hang, so that the node, whose
agreement runs on the same loop, has neither memory nor time for its peers.
"""

from collections.abc import Callable

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.api.problems import RETRY_AFTER_S, ProblemError

HEADERS_MAX = 64
LINGER_S = 2.0


class Limits:
    """ASGI middleware: refuses with 413, 429 or 431 what is over a bound."""

    def __init__(self, app: ASGIApp, *, requests_max: int, body_bytes_max: Callable[[str], int]) -> None:
        """Let ``requests_max`` requests in at once; ``body_bytes_max`` tells the bound of a path's body."""
        self._app = app
        self._requests_max = requests_max
        self._body_bytes_max = body_bytes_max
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request, then let it through with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._body_bytes_max(scope["path"]))
        if problem := self._refusal(scope, exchange):
            await problem(scope, exchange.receive, exchange.send)
            return
        self._requests += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._requests -= 1

    def _refusal(self, scope: Scope, exchange: "_Exchange") -> ProblemError | None:
        if len(scope["headers"]) > HEADERS_MAX:
            return ProblemError(431, "http.headers_too_many", f"at most {HEADERS_MAX} header fields are taken")
        if exchange.declared_bytes > exchange.bytes_max:
            return _too_large(exchange.bytes_max)
        if self._requests >= self._requests_max:
            detail = f"{self._requests} requests are being answered already"
            return ProblemError(429, "http.busy", detail, retry_after_s=RETRY_AFTER_S)
        return None


class _Exchange:
    """One request and its answer: counts the body, and takes its rest away when the answer does not need it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.declared_bytes = 0
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._unread = False
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self.declared_bytes = int(value)
                self._unread = self.declared_bytes > 0
            elif name == b"transfer-encoding":
                self._unread = True

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self.bytes_max:
            raise _too_large(self.bytes_max)
        return message

    async def send(self, message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not is_last or not self._unread:
            await self._send(message)
            return
        # The client still sends. It gets the whole answer and a moment to read it; closing at once would reset the
        # connection under it. What it sends meanwhile is taken and dropped, or hypercorn's queue would block for good.
        await self._send({**message, "more_body": True})
        with trio.move_on_after(LINGER_S):
            await self._drop_rest()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drop_rest)
            await self._send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()

    async def _drop_rest(self) -> None:
        while self._unread:
            message = await self._receive()
            self._unread = message["type"] != "http.disconnect" and message.get("more_body", False)


def _too_large(bytes_max: int) -> ProblemError:
    return ProblemError(413, "http.body_too_large", f"this path takes bodies of at most {bytes_max} bytes")
