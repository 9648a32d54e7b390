"""Parameters that several routes share, documented once."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import AfterValidator

from api.auth import CallerReader
from api.serialization import Format
from contracts.boundary import Boundary
from contracts.settings import Settings
from forecasting.ledger_series import MAX_SERIES, Frequency
from warehouse.chargeback.dimensions import DIMENSIONS, check_by
from warehouse.cursors import MAX_CURSOR, MAX_LIMIT, PageRequest
from warehouse.periods import Period, coverage, resolve_period

NAME = {"min_length": 1, "max_length": 253}
# These patterns are documentation only: `resolve_period` and `check_by` validate, with errors that say what to give.
_PERIOD = (
    r"^(latest-(month|day|hour)|all|20[0-9]{2}(-Q[1-4]|-W[0-4][1-9])?|FY20[0-9]{2}(-Q[1-4]|-P0[1-9])?"
    r"|20[0-9]{2}-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)$"
)
_STAMP = r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"


_ZONE = "^(UTC|Europe/Berlin|Asia/Kolkata|America/New_York)$"


def _period(
    request: Request,
    reader: CallerReader,
    period: Annotated[
        str | None,
        Query(
            max_length=40,
            json_schema_extra={"pattern": _PERIOD},
            description="`latest-month` (default), `latest-day`, `latest-hour`, `all`, or the name of a time of `tz`: "
            "`YYYY`, `YYYY-Q1`, `YYYY-MM`, `YYYY-W01` (ISO week), `YYYY-MM-DD`, or of the setting `fiscal_calendar`: "
            "`FY2027`, `FY2027-Q1`, `FY2027-P01`. Latest is the newest final window's, never the wall clock's.",
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
    tz: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=64,
            json_schema_extra={"pattern": _ZONE},
            examples=["Europe/Berlin"],
            description="IANA name of the zone of days, months and times without an offset; without it, the setting "
            "`time_zone`, by default UTC.",
        ),
    ] = None,
) -> Period:
    settings: Settings = request.app.state.settings
    zone = tz or settings.time_zone
    return resolve_period(reader, period, start=start, end=end, time_zone=zone, fiscal=settings.fiscal)


ResolvedPeriod = Annotated[Period, Depends(_period)]


def _covered_period(request: Request, reader: CallerReader, period: ResolvedPeriod) -> Period:
    request.state.coverage = coverage(reader, period)
    return period


CoveredPeriod = Annotated[Period, Depends(_covered_period)]
"""Parameter of a route on the ledger's windows: its answer says which part of the period they cover."""


def _page(
    request: Request,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Maximum number of rows in a page; CSV without it has all rows.")
    ] = 1000,
    cursor: Annotated[
        str | None,
        Query(max_length=MAX_CURSOR, description="`next` of the page before. Opaque; keep the other parameters."),
    ] = None,
) -> PageRequest:
    return PageRequest(limit, cursor, is_whole=not {"limit", "cursor"} & request.query_params.keys())


RequestedPage = Annotated[PageRequest, Depends(_page)]
RequestedFormat = Annotated[
    Format | None, Query(alias="format", description="`json` or `csv`; without it the Accept header decides.")
]
Tenant = Annotated[str | None, Query(**NAME, description="Only this tenant.", examples=["acme"])]
Cluster = Annotated[str | None, Query(**NAME, description="Only this cluster.", examples=["eu-1"])]
Workload = Annotated[str | None, Query(**NAME, description="Only this workload.", examples=["chat"])]
Model = Annotated[str | None, Query(**NAME, description="Only this model.", examples=["llama-70b"])]

PerMillion = Annotated[
    bool,
    Query(
        description="Add joules, grams and money per 1,000,000 tokens by kind: input, cached, output. "
        "Reads every window of the period."
    ),
]
RequestedBoundary = Annotated[
    Boundary | None,
    Query(
        alias="boundary",
        description="What energy includes: `gpu` the GPUs alone, `host` their nodes' CPUs and memory too, `wall` all "
        "that the nodes draw. Without it: all that was measured.",
    ),
]


def split_names(names: str) -> list[str]:
    """Split a comma-separated parameter into its names."""
    return [name for name in names.split(",") if name]


def _checked_dimensions(by: str) -> str:
    check_by(split_names(by))
    return by


Dimensions = Annotated[
    str,
    AfterValidator(_checked_dimensions),
    Query(
        max_length=200,
        examples=["tenant,model"],
        description=f"Group by these, comma-separated: {', '.join(DIMENSIONS)}.",
        json_schema_extra={"pattern": f"^({'|'.join(DIMENSIONS)})(,({'|'.join(DIMENSIONS)}))*$"},
    ),
]

# Parameters of forecasts and anomalies.
SeriesGrouping = Literal[
    "total", "tenant", "team", "cost_centre", "cluster", "workload", "model", "hardware",
    "user", "application", "feature", "provider", "region", "endpoint", "priority", "sender",
]  # fmt: skip
StepFrequency = Annotated[Frequency, Query(description="Length of a step.")]
SeriesTop = Annotated[int, Query(ge=1, le=MAX_SERIES, description="Number of series, the largest first.")]
