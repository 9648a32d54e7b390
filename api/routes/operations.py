"""Health, readiness and Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api import problems
from api.auth import FleetReader, LedgerRouter
from api.question_bounds import SharedQuestion
from api.serialization import plain
from warehouse.results import Newest

router = APIRouter(tags=["operations"])
metrics_router = LedgerRouter(tags=["operations"])


class Health(BaseModel):
    status: str


class Readiness(Health):
    """`ledger` has the ends of the ledger's newest windows."""

    ledger: Newest


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Uses neither the warehouse nor a thread."""
    return Health(status="ok")


@router.get("/readyz", responses={200: {"model": Readiness}, **problems.responses(503)})
async def readyz(request: Request) -> Response:
    """The warehouse answers and is migrated, so the API can answer questions."""
    readiness: SharedQuestion[Newest] = request.app.state.readiness
    return JSONResponse({"status": "ready", "ledger": plain(await readiness.answer())})


@metrics_router.get(
    "/metrics",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems.responses(401, 403, 429, 503),
    },
    response_class=Response,
)
def metrics(request: Request, _: FleetReader) -> Response:
    """Prometheus metrics: HTTP by route, and the newest final window by tenant. Operators only."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
