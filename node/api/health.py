"""The two questions that anyone may ask, on TCP too: does the process live, and can it do its work."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from node.api.limits import Limits
from node.api.problems import (
    ProblemError,
    answer_bug,
    answer_http_error,
    answer_problem,
)
from node.api.replies import reply

HEALTH_REQUESTS_MAX = 32


class Health:
    """``/livez`` and ``/readyz``."""

    def __init__(self, why_not_ready: Callable[[], Sequence[str]]) -> None:
        """Ask ``why_not_ready`` for the reasons; no reason means ready."""
        self._why_not_ready = why_not_ready

    async def live(self, _: Request) -> Response:
        """The process answers."""
        return reply({"live": True})

    async def ready(self, _: Request) -> Response:
        """Synced, quorum reachable, disk good; 503 says why not."""
        reasons = list(self._why_not_ready())
        if reasons:
            return reply({"ready": False, "why_not": reasons}, 503)
        return reply({"ready": True})


def create_health_app(why_not_ready: Callable[[], Sequence[str]]) -> Limits:
    """Return the whole of what a node answers on TCP."""
    health = Health(why_not_ready)
    app = Starlette(
        routes=[Route("/livez", health.live), Route("/readyz", health.ready)],
        exception_handlers={
            ProblemError: answer_problem,
            404: answer_http_error,
            405: answer_http_error,
            500: answer_bug,
        },
    )
    return Limits(app, requests_max=HEALTH_REQUESTS_MAX, body_bytes_max=lambda _: 0)
