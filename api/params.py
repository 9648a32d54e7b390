"""Query parameters that many routes share, documented once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from api.serialization import Format
from warehouse.chargeback.dimensions import DIMENSIONS, check_by
from warehouse.client import Warehouse
from warehouse.cursors import MAX_CURSOR, MAX_LIMIT
from warehouse.periods import Period, resolve_period

NAME = {"min_length": 1, "max_length": 253}
# In the document, not in the validator: what is wrong is told by `resolve_period` and `check_by`, in words.
_PERIOD = r"^(latest-(month|day|hour)|all|20[0-9]{2}-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)$"
_STAMP = r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"


def _warehouse(request: Request) -> Warehouse:
    found: Warehouse = request.app.state.warehouse
    return found


WarehouseOf = Annotated[Warehouse, Depends(_warehouse)]


def _period(
    warehouse: WarehouseOf,
    period: Annotated[
        str | None,
        Query(
            max_length=40,
            json_schema_extra={"pattern": _PERIOD},
            description="`latest-month` (default), `latest-day`, `latest-hour`, `all`, `YYYY-MM` or `YYYY-MM-DD`; UTC. "
            "Latest is the newest final window's, never the wall clock's.",
            examples=["latest-month"],
        ),
    ] = None,
    start: Annotated[
        str | None,
        Query(
            alias="from",
            max_length=40,
            json_schema_extra={"pattern": _STAMP},
            description="Start, RFC 3339, inclusive.",
            examples=["2026-10-01T00:00:00Z"],
        ),
    ] = None,
    end: Annotated[
        str | None,
        Query(
            alias="to",
            max_length=40,
            json_schema_extra={"pattern": _STAMP},
            examples=["2026-11-01T00:00:00Z"],
            description="End, RFC 3339, exclusive; without it, the end of the newest final window.",
        ),
    ] = None,
) -> Period:
    return resolve_period(warehouse, period, start=start, end=end)


PeriodOf = Annotated[Period, Depends(_period)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows in a page, at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=MAX_CURSOR, description="The `next` of the page before. Opaque; keep the other parameters."),
]
FormatOf = Annotated[
    Format | None, Query(alias="format", description="`json` or `csv`; else the Accept header decides.")
]
Tenant = Annotated[str | None, Query(**NAME, description="Only this tenant.", examples=["acme"])]
Cluster = Annotated[str | None, Query(**NAME, description="Only this cluster.", examples=["eu-1"])]
Workload = Annotated[str | None, Query(**NAME, description="Only this workload.", examples=["chat"])]
Model = Annotated[str | None, Query(**NAME, description="Only this model.", examples=["llama-70b"])]


def _dimensions(by: str) -> str:
    check_by(split(by))
    return by


def split(by: str) -> list[str]:
    """`tenant,model` as its names."""
    return [name for name in by.split(",") if name]


By = Annotated[
    str,
    AfterValidator(_dimensions),
    Query(
        max_length=200,
        examples=["tenant,model"],
        description=f"Group by these, comma-separated: {', '.join(DIMENSIONS)}.",
        json_schema_extra={"pattern": f"^({'|'.join(DIMENSIONS)})(,({'|'.join(DIMENSIONS)}))*$"},
    ),
]
