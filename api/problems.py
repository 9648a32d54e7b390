"""Error responses: every error as RFC 9457 problem details (`application/problem+json`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from contracts.callers import Caller
from contracts.errors import AccessDenied, BadInput, BadRows, Unavailable

MEDIA_TYPE = "application/problem+json"
_KINDS = {404: "not-found", 405: "method-not-allowed", 429: "too-many-questions", 503: "unavailable"}
"""Kinds of problems by the status of FastAPI's own exceptions."""
_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """A wrong value and what to give instead."""

    field: Annotated[str, Field(examples=["by"])]
    detail: Annotated[str, Field(examples=["group by any of tenant, team, cost_centre, cluster"])]


class Problem(BaseModel):
    """Problem details (RFC 9457), with `errors` for wrong values."""

    type: Annotated[str, Field(examples=["urn:wattlog:problem:invalid-value"])]
    title: Annotated[str, Field(examples=["Unprocessable Content"])]
    status: Annotated[int, Field(examples=[422])]
    detail: Annotated[str, Field(examples=["by: 'planet': group by any of tenant, team, cost_centre, cluster"])]
    instance: Annotated[str, Field(examples=["/v1/chargeback"])]
    errors: list[FieldError] = []


def problem(
    path: str,
    status: int,
    kind: str,
    detail: str,
    *,
    errors: list[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the response of a problem. `kind` is the last part of its type URN."""
    body = Problem(
        type=f"urn:wattlog:problem:{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=path,
        errors=errors or [],
    )
    content = body.model_dump(exclude_defaults=not errors)
    return JSONResponse(content, status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every error with a problem."""
    app.add_exception_handler(BadInput, _bad_input)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AccessDenied, _refused)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of these problems."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {s: {"description": HTTPStatus(s).phrase, "content": {MEDIA_TYPE: schema}} for s in statuses}


def _bad_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadInput)
    rows = error.errors if isinstance(error, BadRows) else (error,)
    errors = [FieldError(field=row.field, detail=row.fix) for row in rows]
    return problem(request.url.path, 422, "invalid-value", str(error), errors=errors)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(field=".".join(str(part) for part in e["loc"][1:]), detail=e["msg"]) for e in error.errors()]
    detail = "; ".join(f"{e.field}: {e.detail}" for e in errors)
    return problem(request.url.path, 422, "invalid-value", detail, errors=errors)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, AccessDenied)
    caller: Caller | None = getattr(request.state, "caller", None)
    client = request.client.host if request.client else ""
    request.app.state.audit_log.deny(
        caller.name if caller else "", "read", request.url.path, status=error.status, client=client
    )
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    kind = "unauthenticated" if error.status == 401 else "forbidden"
    return problem(request.url.path, error.status, kind, error.detail, headers=headers)


def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    _log.warning("cannot answer %s: %s", request.url.path, error)
    # The message may name addresses and quote a driver; the hints are texts of this program.
    detail = f"The ledger cannot be read now; the server's log says why. {error.hint}".rstrip()
    return problem(request.url.path, 503, "unavailable", detail, headers={"Retry-After": "5"})


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, "http")
    details = {
        404: "There is nothing at this address; /openapi.json lists all.",
        405: "This address does not take that method.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem(request.url.path, error.status_code, kind, detail, headers=error.headers)


def _fault(request: Request, error: Exception) -> Response:
    """Answer an unexpected error without internals. The server logs the traceback."""
    return problem(request.url.path, 500, "internal", "The server failed; its log has the details.")
