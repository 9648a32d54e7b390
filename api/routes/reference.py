"""Reference data: tenants, idle floors, work weights, prices and clusters, as files have them."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from access.audit_log import AuditLog
from api.auth import LedgerRouter, ReferenceEditor, ReferenceReader
from api.examples import reference as examples
from api.exports import export
from api.params import Cluster, Model, RequestedFormat, RequestedPage, Tenant
from api.response_models import documented
from api.serialization import jsonable, link_headers, plain, respond, wants_csv
from contracts.callers import Caller
from contracts.errors import BadInput, BadQuery
from warehouse.reference_data.editing import edit_of, matching_rows, reading_of, store_edit
from warehouse.reference_data.fields import Reading
from warehouse.reference_data.files import MAX_BYTES, read_file
from warehouse.reference_data.reports import EditReport, edit_report
from warehouse.reference_data.tables import ReferenceTable, reference_table

MAX_CHANGES = 1_000
"""Changes that an answer lists; it counts all."""
_MEDIA_TYPES = ("text/csv", "application/json")
router = LedgerRouter(prefix="/v1/reference", tags=["reference data"])

TableName = Annotated[
    Literal["tenants", "floors", "weights", "prices", "clusters", "aliases"],
    Path(description="Table of reference data.", examples=["prices"]),
]
_Tz = Annotated[
    str | None,
    Query(
        min_length=1, max_length=64, examples=["Europe/Berlin"],
        json_schema_extra={"pattern": "^(UTC|Europe/Berlin)$"},
        description="Zone of times without an offset; without it, the setting `time_zone`.",
    ),
]  # fmt: skip


class ReferenceRows(BaseModel):
    """Rows of a table of reference data, with the fields of its CSV; null is none."""

    rows: list[dict[str, str | bool | None]]
    next: str | None


@router.get("/{kind}", responses=documented(ReferenceRows, examples.ROWS))
def reference_rows(
    request: Request,
    reader: ReferenceReader,
    kind: TableName,
    page_request: RequestedPage,
    tenant: Tenant = None,
    cluster: Cluster = None,
    model: Model = None,
    hardware: Annotated[str | None, Query(min_length=1, max_length=253, description="Only this hardware type.")] = None,
    at: Annotated[
        str | None,
        Query(
            max_length=40,
            examples=["2026-10-31"],
            json_schema_extra={"pattern": "^20[0-9]{2}-01-01$"},
            description="Only rows that are valid then: RFC 3339 or a day.",
        ),
    ] = None,
    tz: _Tz = None,
    format_: RequestedFormat = None,
) -> Response:
    """Rows of a table of reference data, by key. As CSV they can be imported again. A filter needs its field."""
    table = reference_table(kind)
    names = {"tenant": tenant, "cluster": cluster, "model": model, "hardware": hardware}
    narrowing = {name: text for name, text in names.items() if text is not None}
    for name, text in narrowing.items():
        if name not in (one.name for one in table.fields):
            raise BadQuery(name, text, f"{kind} have no {name}: leave it out")
    rows = matching_rows(reader, table, narrowing, at, _reading(request, tz))
    rows.sort(key=table.key_of)
    question = ("reference", kind, sorted(narrowing.items()), at, tz)
    types = [int if attribute.endswith("_ms") else str for attribute in table.key]
    if (after := page_request.after(question, types)) is not None:
        rows = [row for row in rows if list(table.key_of(row)) > after]
    columns = [one.name for one in table.fields]
    if page_request.is_whole and wants_csv(request, format_):
        return export(request, iter([[table.texts(row) for row in rows]]), columns, link_headers(request, None))
    page = page_request.cut(question, rows[: page_request.limit + 1], lambda row: list(table.key_of(row)))
    return respond(request, format_, [_object(table, row) for row in page.rows], columns, next_=page.next)


async def _body(request: Request, reader: ReferenceEditor) -> bytes:
    """Return the body, which is read only for a caller that may write. A page of a browser cannot send these types."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _MEDIA_TYPES:
        raise BadInput("Content-Type", kind[:80], f"give {' or '.join(_MEDIA_TYPES)}")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise HTTPException(413, f"A file has at most {MAX_BYTES} bytes: split it.")
    return bytes(content)


@router.post(
    "/{kind}",
    responses=documented(EditReport, examples.REPORT, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A file of CSV, or a list of objects with the same fields.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": examples.CSV},
                "application/json": {
                    "schema": {"type": "array", "items": {"type": "object"}},
                    "example": examples.ROWS["rows"],
                },
            },
        }
    },
)
def import_reference_rows(
    request: Request,
    reader: ReferenceEditor,
    kind: TableName,
    content: Annotated[bytes, Depends(_body)],
    dry_run: Annotated[bool, Query(description="Store nothing.")] = False,
    replace: Annotated[bool, Query(description="These are all rows: remove stored ones that are not there.")] = False,
    new: Annotated[bool, Query(description="Accept names that the ledger does not have yet.")] = False,
    yes: Annotated[
        bool, Query(description="Store also what re-prices final hours that had a price, and what removes rows.")
    ] = False,
    currency: Annotated[
        str | None,
        Query(pattern="^[A-Z]{3}$", examples=["EUR"], description="Currency of tariffs that name none."),
    ] = None,
    tz: _Tz = None,
) -> Response:
    """Import rows, all or none, and return the changes. It is `wattlog KIND import` (docs/reference-data.md)."""
    table = reference_table(kind)
    rows = read_file(table, content, "body")
    edit = edit_of(reader, table, rows, _reading(request, tz, currency), "body", replaces=replace, new_names=new)
    if edit.needs_consent and not yes and not dry_run:
        raise BadInput(
            "yes", "false", f"not stored: it {'; '.join(edit.needs_consent)}. Give yes=true if that is meant"
        )
    stored = bool(edit.changes.changes) and not dry_run
    if stored:
        caller: Caller = request.state.caller
        audit_log: AuditLog = request.app.state.audit_log
        counts = {sort: len(edit.changes.of(sort)) for sort in ("added", "changed", "removed")}
        digest = sha256(content).hexdigest()
        with audit_log.change(caller.name, f"{kind}.import", "body", sha256=digest, **counts):
            store_edit(reader, edit)
    return JSONResponse(jsonable(plain(edit_report(edit, MAX_CHANGES, stored=stored))))


def _reading(request: Request, tz: str | None, currency: str | None = None) -> Reading:
    return reading_of(request.app.state.settings, round(time.time() * 1000), tz, currency)


def _object(table: ReferenceTable, row: Any) -> dict[str, str | bool | None]:
    return {
        one.name: text == "true" if one.form.is_flag else text or None
        for one in table.fields
        for text in (one.form.show(getattr(row, one.attribute)),)
    }
