"""Following the chain: server-sent events, one message a block, resumed by the height that was seen last."""

from functools import partial

import msgspec
import trio
from fastapi import APIRouter, Request
from starlette.responses import Response

from node.api.problems import RETRY_AFTER_S, ProblemError
from node.api.services import Services
from node.api.streaming import StreamedResponse, Write
from node.execution.rendering import show_event, show_time_ms
from storage.ledger import Ledger
from storage.schema.block import OUTCOME

FOLLOWERS_MAX = 16
HEARTBEAT_S = 15.0


class Events:
    """``GET /v1/events``."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._ledger = services.ledger
        self._commits = services.commits
        self._followers = 0
        self.router = APIRouter(tags=["ledger"])
        self.router.add_api_route("/v1/events", self.follow, methods=["GET"])

    async def follow(self, request: Request) -> Response:
        """One message for each block, with its height as id; ``Last-Event-ID`` resumes above a height."""
        seen = request.headers.get("last-event-id", "")
        if seen and not (seen.isdecimal() and int(seen) <= self._commits.height):
            detail = f"the newest block has height {self._commits.height}"
            raise ProblemError(400, "block.not_found", detail, field="Last-Event-ID")
        if self._followers >= FOLLOWERS_MAX:
            detail = f"{FOLLOWERS_MAX} clients follow the chain already"
            raise ProblemError(429, "http.busy", detail, retry_after_s=RETRY_AFTER_S)
        height = int(seen) if seen else self._commits.height
        self._ledger.check_history(height + 1 if seen else 0)
        headers = {"cache-control": "no-store"}
        return StreamedResponse(partial(self._tell, height), "text/event-stream", headers)

    async def _tell(self, height: int, write: Write) -> None:
        """Write the blocks above a height, as they commit, until the node stops."""
        self._followers += 1
        try:
            await write(b": blocks above %d\n\n" % height)
            while not self._commits.closed:
                if height < self._commits.height:
                    height += 1
                    await write(message(self._ledger, height))
                    continue
                with trio.move_on_after(HEARTBEAT_S) as wait:
                    await self._commits.wait_above(height)
                if wait.cancelled_caught:
                    # A client that is gone without a word is found out by writing to it.
                    await write(b": still here\n\n")
            await write(b"event: bye\ndata: {}\n\n")
        finally:
            self._followers -= 1


def message(ledger: Ledger, height: int) -> bytes:
    """Return what followers are told of a block."""
    block = ledger.block(height)
    outcomes = map(OUTCOME.decode, block.outcomes)
    content = {
        "height": height,
        "hash": block.header.digest().hex(),
        "time": show_time_ms(block.header.time_ms),
        "outcomes": [
            {"transaction": each.id.hex(), "status": each.code, "events": [show_event(event) for event in each.events]}
            for each in outcomes
        ],
    }
    return b"id: %d\nevent: block\ndata: %s\n\n" % (height, msgspec.json.encode(content))
