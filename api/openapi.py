"""The OpenAPI document: FastAPI's, with the `Problem` schema in place of FastAPI's validation error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api.problems import Problem


def describe(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Make the app's `openapi()` build the document that /openapi.json serves, once."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, routers)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    _put_examples_back(routers, document)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _put_examples_back(routers: Sequence[APIRouter], document: dict[str, Any]) -> None:
    """Restore the examples: FastAPI drops every null from the document, although nulls in examples matter."""
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute):
            for media_type, content in route.responses.get(200, {}).get("content", {}).items():
                for method in (route.methods or ()) if "example" in content else ():
                    response = document["paths"][route.path_format][method.lower()]["responses"]["200"]
                    response["content"][media_type]["example"] = content["example"]
