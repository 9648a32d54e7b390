"""Is it up, is it ready, what does it count; and the page."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api import problems
from api.auth import OperatorOf
from api.params import WarehouseOf
from api.serialization import plain
from warehouse.periods import newest
from warehouse.results import Newest

router = APIRouter()

_FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Health(BaseModel):
    status: str


class Ready(Health):
    """`ledger` says how far the ledger goes."""

    ledger: Newest


@router.get("/healthz", tags=["operations"])
def healthz() -> Health:
    """The process answers. Asks nothing of the warehouse."""
    return Health(status="ok")


@router.get("/readyz", tags=["operations"], responses={200: {"model": Ready}, **problems.responses(503)})
def readyz(warehouse: WarehouseOf) -> Response:
    """The warehouse answers and is migrated: questions can be asked."""
    return JSONResponse({"status": "ready", "ledger": plain(newest(warehouse))})


@router.get(
    "/metrics",
    tags=["operations"],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems.responses(401, 403)},
    response_class=Response,
)
def metrics(request: Request, _: OperatorOf) -> Response:
    """Prometheus: HTTP by route, and the newest final window by tenant. With tokens on, operators only."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/", include_in_schema=False)
def index() -> Response:
    return _file("index.html")


@router.get("/static/{name}", include_in_schema=False)
def static(name: Annotated[str, Path()]) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    """One of our own few files, by name from the list: no path from outside reaches the disk."""
    if name not in _FILES:
        raise HTTPException(404)
    body = (resources.files("api") / "static" / name).read_bytes()
    return Response(body, media_type=_FILES[name], headers={"Cache-Control": "no-cache"})
