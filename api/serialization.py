"""Serialization of rows as JSON and CSV. Their types define how each value is written (`warehouse.results`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import TypeAdapter

from api.exports import Rows, export, paged_rows
from contracts.callers import Caller
from contracts.csv_text import csv_pieces
from contracts.units import plain_decimal, rfc3339
from warehouse.cursors import Page, PageRequest
from warehouse.periods import Period

Format = Literal["json", "csv"]


@cache
def adapter(type_: Any) -> TypeAdapter[Any]:
    """Return the serializer of a type. Cached, because it is costly to build."""
    return TypeAdapter(type_)


def plain(value: Any, *, exclude: Collection[str] = ()) -> Any:
    """Convert a dataclass or model to JSON types: times as RFC 3339, Decimals as strings."""
    kind: Any = type(value)
    return adapter(kind).dump_python(value, mode="json", exclude=set(exclude) or None)


def plain_rows(rows: Sequence[Any], *, exclude: Collection[str] = ()) -> list[dict[str, Any]]:
    """Convert rows of one dataclass to JSON types."""
    if not rows:
        return []
    write = adapter(list[type(rows[0])]).dump_python  # type: ignore[misc]
    skip = {"__all__": set(exclude)} if exclude else None
    return write(list(rows), mode="json", exclude=skip)  # type: ignore[no-any-return]


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Format rows as CSV with a header (`contracts.csv_text`)."""
    return "".join(csv_pieces(rows, columns))


def wants_csv(request: Request, format_: Format | None) -> bool:
    """Return True for CSV: `?format=` decides, else the Accept header, where JSON wins a tie."""
    if format_:
        return format_ == "csv"
    quality = {"text/csv": 0.0, "application/json": 0.0}
    for part in request.headers.get("accept", "").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in quality:
            quality[name] = next((_quality(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    return quality["text/csv"] > quality["application/json"]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def respond(
    request: Request,
    format_: Format | None,
    rows: list[dict[str, Any]],
    columns: Sequence[str],
    *,
    next_: str | None = None,
    csv_pages: Iterator[Rows] | None = None,
    is_whole: bool = False,
    **envelope: Any,
) -> Response:
    """Respond with `{**envelope, rows, next}` as JSON, or as CSV (`csv_pages` where its rows differ or are more).

    Both have the next page in a Link header (RFC 8288), but not a whole CSV, which has all pages.
    """
    if "period" in envelope:
        envelope |= _covered(request)
    if wants_csv(request, format_):
        headers = link_headers(request, None if is_whole else next_)
        return export(request, iter([rows]) if csv_pages is None else csv_pages, columns, headers)
    headers = link_headers(request, next_)
    body = adapter(dict[str, Any]).dump_json({**envelope, "rows": rows, "next": next_})
    return Response(body, media_type="application/json", headers=headers)


def _covered(request: Request) -> dict[str, Any]:
    """Return which part of the period the ledger covers, of a route that takes a `CoveredPeriod`."""
    if not hasattr(request.state, "coverage"):
        return {}
    period: Period | None = request.state.coverage
    return {"coverage": None if period is None else plain(period)}


def link_headers(request: Request, next_: str | None) -> dict[str, str]:
    """Return the headers of an answer in rows: it depends on Accept, its next page is linked, and what it covers."""
    headers = {"Vary": "Accept"}
    if next_:
        link = f'<{request.url.path}?{request.url.include_query_params(cursor=next_).query}>; rel="next"'
        headers["Link"] = link
    if hasattr(request.state, "coverage"):
        period: Period | None = request.state.coverage
        headers["Wattlog-Coverage"] = "none" if period is None else f"{rfc3339(period.start)}/{rfc3339(period.end)}"
    return headers


def record_question(request: Request, text: str) -> None:
    """Append a question in SQL to the audit log, before it is asked."""
    caller: Caller = request.state.caller
    tenants = "all tenants" if caller.tenants is None else ", ".join(sorted(caller.tenants))
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    request.app.state.audit_log.record(caller.name, "question", tenants, "begun", query=text, query_sha256=digest)


def respond_page(
    request: Request,
    format_: Format | None,
    read: Callable[[PageRequest], Page[Any]],
    page_request: PageRequest,
    row_type: type[Any],
    period: Period,
    **envelope: Any,
) -> Response:
    """Respond with a page of rows of the dataclass `row_type`, with its period, and `simulated` if any row is.

    As CSV it has all pages, unless a limit was asked for.
    """
    page = read(page_request)
    if wants_csv(request, format_):
        pages = paged_rows(read, page, page_request, plain_rows)
        headers = link_headers(request, None if page_request.is_whole else page.next)
        return export(request, pages, [field.name for field in fields(row_type)], headers)
    return respond(
        request,
        format_,
        plain_rows(page.rows),
        [field.name for field in fields(row_type)],
        next_=page.next,
        period=plain(period),
        simulated=any(getattr(row, "simulated", False) for row in page.rows),
        **envelope,
    )


def jsonable(value: Any) -> Any:
    """Return a value of a ClickHouse answer as JSON has it: times in RFC 3339, decimals as text, no NaN."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return plain_decimal(value) if isinstance(value, Decimal) else str(value)
