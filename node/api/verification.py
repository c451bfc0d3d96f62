"""Checking the whole ledger while the node runs: one at a time, in a thread, told as it goes on."""

from typing import Any

import msgspec
import trio
from fastapi import APIRouter
from starlette.responses import Response

from node.api.problems import RETRY_AFTER_S, ProblemError
from node.api.services import Services, Verify
from node.api.streaming import StreamedResponse, Write
from storage.database import DatabaseCorruptError
from storage.integrity import Report

PROGRESS_S = 0.5


class Verification:
    """``POST /v1/ledger/verify``."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._verify = services.verify
        self._on_damage = services.on_damage
        self._busy = trio.CapacityLimiter(1)
        self.router = APIRouter(tags=["ledger"])
        self.router.add_api_route("/v1/ledger/verify", self.verify, methods=["POST"])

    async def verify(self) -> Response:
        """JSON lines: how far it has come, from time to time, and at last the report."""
        if self._busy.borrowed_tokens:
            detail = "the ledger is being verified already"
            raise ProblemError(429, "http.busy", detail, retry_after_s=RETRY_AFTER_S)
        return StreamedResponse(self._tell, "application/x-ndjson")

    async def _tell(self, write: Write) -> None:
        run = _Run(self._verify)
        async with self._busy, trio.open_nursery() as nursery:
            nursery.start_soon(run.run)
            while not run.ended.is_set():
                with trio.move_on_after(PROGRESS_S):
                    await run.ended.wait()
                await write(_line({"progress": {"height": run.height, "of": run.of}}))
        assert run.report is not None, "a check that failed has raised"
        await write(_line(_shown(run.report)))
        bad = run.report.first_bad
        if bad is not None:
            self._on_damage(DatabaseCorruptError(bad.area, bad.why, bad.height))


class _Run:
    """One run of the check, and how far it has come."""

    def __init__(self, verify: Verify) -> None:
        self.height = self.of = 0
        self.report: Report | None = None
        self.ended = trio.Event()
        self._verify = verify

    async def run(self) -> None:
        try:
            self.report = await trio.to_thread.run_sync(self._verify, self._progress)
        finally:
            self.ended.set()

    def _progress(self, height: int, of: int) -> None:
        # Raises in the thread when the client is gone, so that nobody's check goes on for nobody.
        trio.from_thread.check_cancelled()
        self.height, self.of = height, of


def _shown(report: Report) -> dict[str, Any]:
    shown = {"ok": report.ok, "from": report.from_height, "to": report.to_height, "blocks": report.blocks}
    if report.first_bad is None:
        return shown
    bad = report.first_bad
    return shown | {"first_bad": {"height": bad.height, "area": bad.area, "why": bad.why}}


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"
