"""Commands that ask the ledger: chargeback, fleet, efficiency, anomalies, forecast, audit, explain, sql.

They print what the API answers, from the same reads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.options import Data, Json, errors_told, load_settings
from cli.output import Column, Format, FormatOption, chosen, text

if TYPE_CHECKING:
    from warehouse.client import Warehouse
    from warehouse.periods import Period

PANEL = "Ask the ledger"

PeriodName = Annotated[
    str | None,
    typer.Option(
        "--period", help="latest-month (default), latest-day, latest-hour, all, YYYY-MM or YYYY-MM-DD, in UTC."
    ),
]
From = Annotated[str | None, typer.Option("--from", help="Start instead of a period: RFC 3339, inclusive.")]
To = Annotated[str | None, typer.Option("--to", help="End, exclusive; without it, the newest final window's.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Cluster = Annotated[str | None, typer.Option(help="Only this cluster.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")]

_MEASURES = (
    Column("tokens", "tokens", output.whole),
    Column("requests", "requests", output.whole),
    Column("kwh", "energy kWh", output.places(3)),
    Column("joules_per_token", "J/token", output.figures),
    Column("gco2", "CO2eq kg", output.kg),
    Column("cost", "cost", output.places(6)),
    text("currency", ""),
)


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (chargeback, fleet, efficiency, anomalies, forecast, audit, explain, sql):
        app.command(rich_help_panel=PANEL)(command)


@contextmanager
def _ledger(data: Any) -> Iterator[Warehouse]:
    """The warehouse of the settings, open; errors told as one line."""
    from contracts.errors import Unavailable
    from warehouse.client import connect

    with errors_told():
        settings = load_settings(data)
        if not settings.warehouse_dsn and not (settings.data / "warehouse").is_dir():
            raise Unavailable(f"There is no ledger in {settings.data}", "Run `wattlog demo`, or say where with --data.")
        password = settings.warehouse_password.get_secret_value() if settings.warehouse_password else None
        with connect(settings.dsn, password=password) as warehouse:
            yield warehouse


def _period(warehouse: Warehouse, name: str | None, start: str | None, end: str | None) -> Period:
    from warehouse.periods import resolve_period

    return resolve_period(warehouse, name, start=start, end=end)


def chargeback(
    by: Annotated[
        str,
        typer.Option(
            help="Comma-separated: tenant, team, cost_centre, cluster, workload, model, hardware, hour, day, month."
        ),
    ] = "tenant",
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Who used how much energy, for how many tokens, at what cost.

    Example: wattlog chargeback --by tenant,model --period 2026-10 --format csv
    """
    with _ledger(data) as warehouse:
        from warehouse import reads

        names = [name.strip() for name in by.split(",") if name.strip()]
        when = _period(warehouse, period, start, end)
        page = reads.chargeback(warehouse, when.start, when.end, by=names, tenant=tenant, cluster=cluster, limit=limit)
        total = reads.chargeback_total(warehouse, when.start, when.end, tenant=tenant, cluster=cluster)
        _print_groups(names, page, when, chosen(format_, as_json), "Chargeback", total)


def efficiency(
    by: Annotated[
        str, typer.Option(help="Comma-separated: model, workload, hardware, tenant, team, cluster.")
    ] = "model",
    bucket: Annotated[str, typer.Option(help="hour, day or month.")] = "day",
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Joules per token over time.

    Example: wattlog efficiency --by model,hardware --bucket day
    """
    with _ledger(data) as warehouse:
        from warehouse import reads

        names = [bucket, *(n for n in (part.strip() for part in by.split(",")) if n and n != bucket)]
        when = _period(warehouse, period, start, end)
        page = reads.efficiency(
            warehouse, when.start, when.end, bucket=bucket, by=names[1:], tenant=tenant, cluster=cluster, limit=limit
        )
        _print_groups(names, page, when, chosen(format_, as_json), "Efficiency", None)


def _print_groups(names: list[str], page: Any, when: Period, format_: Format, title: str, total: Any) -> None:
    """Rows of a chargeback by any dimensions, with the total if there is one."""
    from api.present import plain, plain_rows
    from warehouse.answers import ChargebackRow
    from warehouse.reads import DIMENSIONS

    others = set(DIMENSIONS) - set(names)
    rows = plain_rows(page.rows, exclude=others)
    whole = plain(total, exclude=set(DIMENSIONS)) if total is not None else None
    simulated = any(row.simulated for row in page.rows)
    if format_ is Format.JSON:
        extra = {} if whole is None else {"total": whole}
        output.print_json({"period": plain(when), "simulated": simulated, **extra, "rows": rows, "next": page.next})
    elif format_ is Format.CSV:
        output.print_csv(rows, [*names, *(f for f in ChargebackRow.__dataclass_fields__ if f not in DIMENSIONS)])
    else:
        columns = [*(text(name, name) for name in names), *_MEASURES]
        output.print_table(rows, columns, title=f"{title}, {when}", total=whole, simulated=simulated)
    _notes(page, total)


def _notes(page: Any, total: Any) -> None:
    missing = {
        f"{m.kind} of {m.cluster}" for row in [*page.rows, *([total] if total else [])] for m in row.missing_prices
    }
    if missing:
        output.note(f"No price: {', '.join(sorted(missing))}. Cost is left open, never taken as 0.")
    if total is not None and total.mixed_currencies:
        output.note("Clusters are priced in several currencies, which do not add up: try --by cluster.")
    _more(page)


def _more(page: Any) -> None:
    if page.next:
        output.note(f"There is more than these {len(page.rows)} rows: raise --limit, or narrow the period.")


def fleet(
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    cluster: Cluster = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """What each node's GPUs used, by hardware, and how much of it was idle or unallocated.

    Example: wattlog fleet --period latest-day
    """
    with _ledger(data) as warehouse:
        from api.present import plain, plain_rows
        from warehouse import drill

        when = _period(warehouse, period, start, end)
        page = drill.fleet(warehouse, when.start, when.end, cluster=cluster, limit=limit)
        rows = plain_rows(page.rows)
        simulated = any(row.simulated for row in page.rows)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"period": plain(when), "simulated": simulated, "rows": rows, "next": page.next})
        elif wanted is Format.CSV:
            output.print_csv(rows, list(rows[0]) if rows else [])
        else:
            output.print_table(rows, _FLEET, title=f"Fleet, {when}", simulated=simulated)
        _more(page)


_FLEET = (
    text("cluster", "cluster"),
    text("node", "node"),
    text("hardware", "hardware"),
    Column("gpus", "GPUs", output.whole),
    Column("energy_uj", "energy kWh", lambda uj: f"{uj / 3.6e12:,.3f}"),
    Column("gpu_seconds", "covered GPU h", lambda s: f"{s / 3600:,.1f}"),
    Column("mean_w", "mean W", output.places(1)),
    Column("utilisation_ratio", "busy %", output.percent),
    Column("idle_ratio", "idle %", output.percent),
    Column("unallocated_ratio", "unallocated %", output.percent),
    text("method", "method"),
)


def anomalies(
    by: Annotated[
        str, typer.Option(help="total, tenant, team, cost_centre, cluster, workload, model or hardware.")
    ] = "tenant",
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
    with _ledger(data) as warehouse:
        from api import outlook
        from api.present import plain, plain_rows

        found = outlook.anomalies(warehouse, by=by, freq=_freq(freq), tenant=tenant, cluster=cluster)
        rows = plain_rows(found.episodes)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"simulated": any(row["simulated"] for row in rows), **plain(found)})
            return
        if wanted is Format.CSV:
            output.print_csv(rows, list(outlook.Episode.__dataclass_fields__))
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
    with _ledger(data) as warehouse:
        from api import outlook
        from api.present import plain, plain_rows
        from contracts.errors import BadQuery

        if measure not in ("cost", "energy", "tokens", "gco2"):
            raise BadQuery("measure", measure, "give cost, energy, tokens or gco2")
        found = outlook.forecast(
            warehouse,
            measure=measure,
            by=by,
            freq=_freq(freq),
            horizon=horizon,
            tenant=tenant,
            cluster=cluster,
            top=top,
        )
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"simulated": any(row.simulated for row in found), "rows": plain_rows(found)})
        elif wanted is Format.CSV:
            steps = [{"key": row.key, "unit": row.unit, **plain(step)} for row in found for step in row.steps]
            output.print_csv(steps, ["key", "unit", *outlook.Step.__dataclass_fields__])
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


def audit(
    period: PeriodName = None, start: From = None, end: To = None, as_json: Json = False, data: Data = None
) -> None:
    """Check again, from what is stored, that every joule is accounted for. All there is, unless a period is given.

    Exit status 1 on any residual, or a gap in what the log delivered.

    Example: wattlog audit --json | jq .residual_uj
    """
    with _ledger(data) as warehouse:
        from api.present import plain
        from warehouse.audit import audit as check

        when = _period(warehouse, period, start, end) if period or start or end else None
        found = check(warehouse, when.start, when.end) if when else check(warehouse)
        if as_json:
            output.print_json({**plain(found), "ok": found.ok})
        else:
            _print_audit(found)
    if not found.ok:
        raise typer.Exit(1)


def _print_audit(found: Any) -> None:
    out = output.stdout()
    out.print(
        f"measured [bold]{found.measured_uj:,}[/bold] µJ = {found.active_uj:,} active + {found.idle_uj:,} idle "
        f"+ {found.unallocated_uj:,} unallocated",
        soft_wrap=True,
    )
    style = "bold green" if found.ok else "bold red"
    out.print(
        f"[{style}]residual {found.residual_uj:,} µJ[/{style}] over {found.windows:,} windows; "
        f"{found.sequence_gaps:,} events lost on the log; {100 * found.coverage_ratio:.2f} % of the GPUs' time covered",
        soft_wrap=True,
    )
    others = ("token_residual_tokens", "request_residual", "hour_residual_uj", "hour_residual_counts")
    for name in others:
        if getattr(found, name):
            out.print(f"[red]{name} {getattr(found, name):,}[/red]")
    from contracts.units import rfc3339

    for window in found.unbalanced_windows:
        at = rfc3339(window.window_start_ms)
        out.print(f"[red]{at} {window.cluster}/{window.workload}: {window.residual_uj:,} µJ[/red]", soft_wrap=True)


def explain(
    tenant: Annotated[str, typer.Argument(help="Whose charge.", show_default=False)],
    window: Annotated[str, typer.Option(help="latest, or RFC 3339: the window that holds it.")] = "latest",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Walk a charge back to the tariff, the share of work and what each GPU measured.

    Example: wattlog explain acme --window 2026-10-31T22:30:00Z
    """
    with _ledger(data) as warehouse:
        from api.present import plain
        from warehouse.explain import explain as walk_back

        found = walk_back(warehouse, tenant, window)
        if as_json:
            output.print_json(plain(found))
        else:
            from cli.explained import tree

            output.stdout().print(tree(found), soft_wrap=True)


def sql(
    question: Annotated[
        str, typer.Argument(help="One SELECT, SHOW, DESCRIBE or EXPLAIN; - reads it from stdin.", show_default=False)
    ],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="More rows are refused, not cut off.")] = 10_000,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, max=600, help="Seconds that it may take.")] = 30,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Ask the tables in SQL, read-only.

    Example: wattlog sql "SELECT tenant, sum(active_uj) FROM ledger FINAL GROUP BY tenant"
    """
    with _ledger(data) as warehouse:
        from warehouse.gate import read_only

        asked = sys.stdin.read() if question == "-" else question
        columns, rows = read_only(warehouse, asked, limit_rows=limit, timeout_s=timeout_s)
        output.print_result(columns, rows, chosen(format_, as_json))
