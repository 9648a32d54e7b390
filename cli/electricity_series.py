"""`wattlog prices import` of files of ENTSO-E and OpenEI: their options, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from contracts.settings import Settings
    from warehouse.reference_data.editing import Edit
    from warehouse.reference_data.electricity.price_series import PriceSeries

SERIES_OPTIONS: Mapping[str, Any] = {
    "cluster": Annotated[str | None, typer.Option("--cluster", help="ENTSO-E, OpenEI: the cluster with these prices.")],
    "zone": Annotated[
        str | None,
        typer.Option("--zone", help="ENTSO-E: its zone, such as 10Y1001A1001A82H or BZN|DE-LU."),
    ],
    "series": Annotated[
        str | None, typer.Option("--series", help="ENTSO-E: one of several resolutions or auctions, such as PT15M/1.")
    ],
    "start": Annotated[str | None, typer.Option("--from", help="OpenEI: first day of the prices.")],
    "end": Annotated[str | None, typer.Option("--to", help="OpenEI: the day after the last.")],
}
"""Options of `prices import` by parameter."""
SERIES_HELP = (
    " A file may also be ENTSO-E's day-ahead prices (XML A44, or the website's CSV) or a rate of OpenEI (JSON), "
    "for one --cluster: money per MWh becomes money per kWh."
)


def electricity_series(
    content: bytes, source: str, settings: Settings, tz: str | None, currency: str | None,
    options: Mapping[str, str | None],
) -> PriceSeries | None:  # fmt: skip
    """Return the prices of a file of ENTSO-E or OpenEI, None for a plain one. Raises BadInput."""
    from warehouse.reference_data.electricity.shapes import SeriesChoice, read_series

    choice = SeriesChoice(**options, time_zone=tz, currency=currency)
    series = read_series(content, source, choice, settings)
    if series is None:
        choice.check_unused()
    return series


def add_remarks(edit: Edit, series: PriceSeries | None) -> None:
    """Add to an edit what a series says of itself."""
    if series is None:
        return
    edit.notes[:0] = [series.conversion(), *series.notes]
    if series.left_out:
        edit.doubts.append(
            f"leaves out what a price per kWh cannot have: {', '.join(series.left_out)} (the price book has fees)"
        )
