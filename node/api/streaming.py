"""Answers of any length, written piece by piece for as long as the client listens."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Write = Callable[[bytes], Awaitable[None]]


class CutShortError(Exception):
    """The rest of an answer cannot be had: the connection is closed, so that nobody takes the beginning for all."""


class StreamedResponse(Response):
    """A response whose body a coroutine writes; it is cancelled when the client goes away."""

    def __init__(
        self, produce: Callable[[Write], Awaitable[None]], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Let ``produce`` write the body; it may raise ``CutShortError``."""
        super().__init__(None, 200, headers, media_type)
        self._produce = produce
        # Only who knows the length beforehand may say it.
        self.raw_headers = [pair for pair in self.raw_headers if pair != (b"content-length", b"0")]

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI request."""

        async def write(data: bytes) -> None:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        is_whole = False

        async def produce() -> None:
            nonlocal is_whole
            with suppress(CutShortError):
                await self._produce(write)
                is_whole = True

        await while_listening(receive, produce)
        if is_whole:
            await send({"type": "http.response.body", "body": b""})


async def while_listening(receive: Receive, work: Callable[[], Awaitable[object]]) -> None:
    """Do some work on behalf of a client, but no longer than it listens."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
        await work()
        nursery.cancel_scope.cancel()


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
