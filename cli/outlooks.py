"""forecast and anomalies: what comes next, and what was odd."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import output
from cli.asking import Cluster, Tenant, ledger
from cli.options import Data, Json
from cli.output import Column, Format, FormatOption, chosen, text


def anomalies(
    by: Annotated[
        str | None,
        typer.Option(
            help="total, tenant, team, cost_centre, cluster, workload, model or hardware.",
            show_default="cost and energy by tenant, J/token by workload",
        ),
    ] = None,
    freq: Annotated[str, typer.Option(help="day or hour: the length of a step.")] = "day",
    tenant: Tenant = None,
    cluster: Cluster = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Odd episodes of cost, energy and J/token, newest first.

    Example: wattlog anomalies --by workload
    """
    with ledger(data) as reader:
        from api.anomaly_report import Episode, anomaly_report
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter

        found = anomaly_report(reader, by=by, freq=_freq(freq), filter=Filter(tenant=tenant, cluster=cluster))
        rows = plain_rows(found.episodes)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"simulated": any(row["simulated"] for row in rows), **plain(found)})
            return
        if wanted is Format.CSV:
            output.print_csv(rows, list(Episode.__dataclass_fields__))
        elif rows:
            title = f"{len(rows)} episodes in {found.judged} series"
            output.print_table(rows, _ODD, title=title, simulated=any(row["simulated"] for row in rows))
        else:
            output.note(f"Nothing odd in {found.judged} series.")
        for held in found.withheld:
            output.note(f"Not judged: {held.measure} of {held.key}: {held.reason}.")


_ODD = (
    text("start", "from"),
    text("end", "to"),
    text("key", "series"),
    text("measure", "measure"),
    text("kind", "kind"),
    Column("expected", "expected", output.figures),
    Column("actual", "actual", output.figures),
    text("unit", "unit"),
    Column("score", "score", output.places(1)),
)


def _freq(name: str) -> Any:
    from contracts.errors import BadQuery

    if name not in ("day", "hour"):
        raise BadQuery("freq", name, "give day or hour")
    return name


def forecast(
    measure: Annotated[str, typer.Option(help="cost, energy, tokens or gco2.")] = "cost",
    by: Annotated[
        str, typer.Option(help="total, tenant, team, cost_centre, cluster, workload, model or hardware.")
    ] = "tenant",
    freq: Annotated[str, typer.Option(help="day or hour: the length of a step.")] = "day",
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 30,
    top: Annotated[int, typer.Option(min=1, max=20, help="How many series, the largest first.")] = 10,
    tenant: Tenant = None,
    cluster: Cluster = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """What this and the next month will come to, with 80 and 95 % intervals.

    The table has the months; --json and --format csv have every step. Estimates, never bookings.

    Example: wattlog forecast --measure energy --by tenant
    """
    with ledger(data) as reader:
        from api.forecast_report import ForecastStep, forecast_report
        from api.serialization import plain, plain_rows
        from contracts.errors import BadQuery
        from warehouse.filters import Filter

        if measure not in ("cost", "energy", "tokens", "gco2"):
            raise BadQuery("measure", measure, "give cost, energy, tokens or gco2")
        found = forecast_report(
            reader,
            measure=measure,
            by=by,
            freq=_freq(freq),
            horizon=horizon,
            filter=Filter(tenant=tenant, cluster=cluster),
            top=top,
        )
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"simulated": any(row.simulated for row in found), "rows": plain_rows(found)})
        elif wanted is Format.CSV:
            steps = [{"key": row.key, "unit": row.unit, **plain(step)} for row in found for step in row.steps]
            output.print_csv(steps, ["key", "unit", *ForecastStep.__dataclass_fields__])
        else:
            output.print_table(
                [_months(row) for row in found],
                _MONTHS,
                title=f"Forecast of {measure}",
                simulated=any(r.simulated for r in found),
            )
        for row in found:
            if row.withheld or (row.month_withheld and freq == "day"):
                output.note(f"No forecast of {row.key or 'the total'}: {row.withheld or row.month_withheld}.")


_MONTHS = (
    text("key", "series"),
    text("unit", "unit"),
    Column("this", "this month", output.figures),
    Column("next", "next month", output.figures),
    text("range_80", "80 %"),
    text("range_95", "95 %"),
    text("model", "model"),
    Column("wape", "off in backtest %", output.percent),
)


def _months(row: Any) -> dict[str, Any]:
    """A series' forecast as one line."""
    ahead = row.next_month
    best = next((score for score in row.backtest if score.model == row.model), None)
    ranges = {}
    if ahead:
        for level in ("80", "95"):
            low, high = (output.figures(getattr(ahead, f"{side}_{level}")) for side in ("lower", "upper"))
            ranges[f"range_{level}"] = f"{low} to {high}"
    return {
        "key": row.key or "total",
        "unit": row.unit,
        "this": row.this_month.mean if row.this_month else None,
        "next": ahead.mean if ahead else None,
        **ranges,
        "model": row.model,
        "wape": best.wape if best else None,
        "simulated": row.simulated,
    }
