"""The page: a few static files."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@router.get("/")
def index() -> Response:
    """The page itself."""
    return _file("index.html")


@router.get("/static/{name}")
def static(name: Annotated[str, Path()]) -> Response:
    """A file of the page."""
    return _file(name)


def _file(name: str) -> Response:
    """Return a file of this package if it is listed: no path from outside reaches the disk."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(404)
    body = (resources.files("api") / "static" / name).read_bytes()
    return Response(body, media_type=_MEDIA_TYPES[name], headers={"Cache-Control": "no-cache"})
