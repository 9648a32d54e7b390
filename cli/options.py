"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from contracts.boundary import Boundary


class Format(StrEnum):
    """Output format of a report."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="WATTLOG_DATA",
        help="Folder of the embedded warehouse (default: .wattlog).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
FormatOption = Annotated[Format, typer.Option("--format", help="Output format on stdout.")]

PeriodName = Annotated[
    str | None,
    typer.Option(
        "--period",
        help="latest-month (default), latest-day, latest-hour, all; YYYY, YYYY-Q1, YYYY-MM, YYYY-W01 or "
        "YYYY-MM-DD of --tz; FY2027, FY2027-Q1 or FY2027-P01 of the setting fiscal_calendar.",
    ),
]
From = Annotated[str | None, typer.Option("--from", help="Start instead of a period: RFC 3339, inclusive.")]
To = Annotated[str | None, typer.Option("--to", help="End, exclusive; without it, the newest final window's.")]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--tz",
        help="Zone of days, months and times without an offset, such as Europe/Berlin.",
        show_default="setting time_zone, UTC",
    ),
]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Cluster = Annotated[str | None, typer.Option(help="Only this cluster.")]
BoundaryName = Annotated[
    Boundary | None,
    typer.Option(
        "--boundary",
        help="What energy includes: the GPUs alone, their nodes' hosts too, or all at the wall.",
        show_default="all that was measured",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Maximum number of rows.", show_default="1000 of a table, else all"),
]
PerMillion = Annotated[
    bool,
    typer.Option(
        "--per-million", help="Joules, grams and money per 1,000,000 tokens by kind. Reads every window: slower."
    ),
]
Frequency = Annotated[str, typer.Option(help="Length of a step: day or hour.")]


def output_format(format_: Format, as_json: bool) -> Format:
    """Return the output format: `--json` is short for `--format json`."""
    return Format.JSON if as_json else format_


def split_names(text: str) -> list[str]:
    """Split a comma-separated option into its names."""
    return [name for part in text.split(",") if (name := part.strip())]
