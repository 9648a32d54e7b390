"""`wattlog forecast`: totals of the current and the next month, and every step ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.boundary import note_latest_clusters_outside
from cli.ledger_access import open_ledger
from cli.options import BoundaryName, Cluster, Data, Format, FormatOption, Frequency, Json, Tenant, output_format
from cli.output import note, print_csv, print_json
from cli.tables import Column, figures, percent, print_table, text_column

if TYPE_CHECKING:
    from api.forecast_report import ForecastMeasure, SeriesForecast
    from forecasting.ledger_series import Frequency as LedgerFrequency

_COLUMNS = (
    text_column("key", "series"),
    text_column("unit", "unit"),
    Column("this", "this month", figures),
    Column("next", "next month", figures),
    text_column("range_80", "80 %"),
    text_column("range_95", "95 %"),
    text_column("model", "model"),
    Column("wape", "off in backtest %", percent),
)


def forecast(
    measure: Annotated[str, typer.Option(help="cost, energy, tokens or gco2.")] = "cost",
    by: Annotated[
        str, typer.Option(help="total, tenant, team, cost_centre, cluster, workload, model or hardware.")
    ] = "tenant",
    freq: Frequency = "day",
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 30,
    top: Annotated[int, typer.Option(min=1, max=20, help="Number of series, the largest first.")] = 10,
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: BoundaryName = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Forecast the totals of this and the next month, with 80 and 95 % intervals.

    The table has the months; --json and --format csv have every step. These are estimates, never bookings.

    Example: wattlog forecast --measure energy --by tenant
    """
    with open_ledger(data) as reader:
        from api.forecast_report import ForecastStep, forecast_report
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter

        filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
        forecasts = forecast_report(
            reader,
            measure=_checked_measure(measure),
            by=by,
            freq=checked_frequency(freq),
            horizon=horizon,
            filter=filter_,
            top=top,
        )
        note_latest_clusters_outside(reader, filter_)
        simulated = any(row.simulated for row in forecasts)
        chosen = output_format(format_, as_json)
        if chosen is Format.JSON:
            print_json({"simulated": simulated, "rows": plain_rows(forecasts)})
        elif chosen is Format.CSV:
            steps = [{"key": row.key, "unit": row.unit, **plain(step)} for row in forecasts for step in row.steps]
            print_csv(steps, ["key", "unit", *ForecastStep.__dataclass_fields__])
        else:
            months = [_month_row(row) for row in forecasts]
            print_table(months, _COLUMNS, title=f"Forecast of {measure}", simulated=simulated)
        for row in forecasts:
            if row.withheld or (row.month_withheld and freq == "day"):
                note(f"No forecast of {row.key or 'the total'}: {row.withheld or row.month_withheld}.")


def checked_frequency(name: str) -> LedgerFrequency:
    """Return the frequency of this name. Raises BadQuery."""
    from contracts.errors import BadQuery
    from forecasting.ledger_series import STEP_MS

    if name not in STEP_MS:
        raise BadQuery("freq", name, f"give {' or '.join(STEP_MS)}")
    return cast("LedgerFrequency", name)


def _checked_measure(name: str) -> ForecastMeasure:
    from contracts.errors import BadQuery

    if name not in ("cost", "energy", "tokens", "gco2"):
        raise BadQuery("measure", name, "give cost, energy, tokens or gco2")
    return cast("ForecastMeasure", name)


def _month_row(row: SeriesForecast) -> dict[str, Any]:
    """Return the month totals of a series as a row of the table."""
    ahead = row.next_month
    score = next((score for score in row.backtest if score.model == row.model), None)
    ranges = {}
    if ahead:
        for level in ("80", "95"):
            low, high = (figures(getattr(ahead, f"{side}_{level}")) for side in ("lower", "upper"))
            ranges[f"range_{level}"] = f"{low} to {high}"
    return {
        "key": row.key or "total",
        "unit": row.unit,
        "this": row.this_month.mean if row.this_month else None,
        "next": ahead.mean if ahead else None,
        **ranges,
        "model": row.model,
        "wape": score.wape if score else None,
        "simulated": row.simulated,
    }
