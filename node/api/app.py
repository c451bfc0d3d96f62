"""The whole of what a node answers to its operator, who alone may connect to the Unix socket."""

from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from node.api.events import Events
from node.api.health import Health
from node.api.limits import Limits
from node.api.members import Members
from node.api.problems import (
    ProblemError,
    answer_bug,
    answer_disk_error,
    answer_history_missing,
    answer_http_error,
    answer_invalid,
    answer_problem,
)
from node.api.queries import Queries
from node.api.records import Records
from node.api.replies import OCTETS, reply
from node.api.services import Services
from node.api.transactions import BATCH_BYTES_MAX, Transactions
from node.api.verification import Verification
from node.custody.vault import VaultError
from storage.database import DatabaseError, HistoryError

REQUESTS_MAX = 128
SMALL_BODY_BYTES_MAX = 64 * 1024


class Node:
    """The routes about the node itself."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._services = services

    async def status(self) -> Response:
        """Where the node stands."""
        return reply(self._services.status())

    async def genesis(self) -> Response:
        """The genesis file of the network, byte for byte."""
        return Response(self._services.genesis_file, media_type="application/json")

    async def epochs(self) -> Response:
        """The file of epochs, which proves every later validator set from genesis on."""
        return Response(self._services.ledger.epochs.render(), media_type=OCTETS)

    async def metrics(self) -> Response:
        """Counters, for Prometheus."""
        return Response(self._services.metrics(), media_type="text/plain; version=0.0.4")


def create_app(services: Services) -> FastAPI:
    """Return the operator's API of a node."""
    app = FastAPI(
        title="CareTrace",
        version="1",
        summary="One hospital's node of a permissioned ledger.",
        exception_handlers={
            ProblemError: answer_problem,
            HTTPException: answer_http_error,
            RequestValidationError: answer_invalid,
            DatabaseError: partial(answer_disk_error, on_damage=services.on_damage),
            HistoryError: answer_history_missing,
            VaultError: partial(answer_disk_error, on_damage=services.on_damage),
            Exception: answer_bug,
        },
    )
    node, health = Node(services), Health(services.why_not_ready)
    app.add_api_route("/livez", health.live, methods=["GET"], tags=["node"])
    app.add_api_route("/readyz", health.ready, methods=["GET"], tags=["node"])
    app.add_api_route("/metrics", node.metrics, methods=["GET"], tags=["node"])
    app.add_api_route("/v1/status", node.status, methods=["GET"], tags=["node"])
    app.add_api_route("/v1/genesis", node.genesis, methods=["GET"], tags=["node"])
    app.add_api_route("/v1/epochs", node.epochs, methods=["GET"], tags=["node"])
    for part in (Transactions, Records, Queries, Members, Events, Verification):
        app.include_router(part(services).router)
    bounds = {"/v1/transactions": BATCH_BYTES_MAX, "/v1/records": services.record_bytes_max}
    app.add_middleware(
        Limits,
        requests_max=REQUESTS_MAX,
        body_bytes_max=lambda path: bounds.get(path, SMALL_BODY_BYTES_MAX),
    )
    return app
