"""Health, readiness and Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api import problems
from api.auth import CallerReaders, FleetReader, LedgerRouter
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
def healthz() -> Health:
    """The process answers. Does not use the warehouse."""
    return Health(status="ok")


@router.get("/readyz", responses={200: {"model": Readiness}, **problems.responses(503)})
def readyz(request: Request) -> Response:
    """The warehouse answers and is migrated, so the API can answer questions."""
    readers: CallerReaders = request.app.state.readers
    return JSONResponse({"status": "ready", "ledger": plain(readers.newest())})


@metrics_router.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems.responses(401, 403)},
    response_class=Response,
)
def metrics(request: Request, _: FleetReader) -> Response:
    """Prometheus metrics: HTTP by route, and the newest final window by tenant. Operators only."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
