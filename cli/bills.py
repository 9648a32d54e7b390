"""chargeback, efficiency, fleet: what was used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.asking import Cluster, From, Limit, PeriodName, Tenant, To, ledger, period_of, told_more
from cli.options import Data, Json
from cli.output import Column, Format, FormatOption, chosen, text

if TYPE_CHECKING:
    from warehouse.periods import Period

_MEASURES = (
    Column("tokens", "tokens", output.whole),
    Column("requests", "requests", output.whole),
    Column("kwh", "energy kWh", output.small(3)),
    Column("joules_per_token", "J/token", output.figures),
    Column("gco2", "CO2eq kg", output.kg),
    Column("cost", "cost", output.places(6)),
    text("currency", ""),
)


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
    with ledger(data) as reader:
        from warehouse.chargeback import chargeback_queries
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter

        names = [name.strip() for name in by.split(",") if name.strip()]
        when = period_of(reader, period, start, end)
        page, total = chargeback_queries.chargeback_and_total(
            reader, when, names, Filter(tenant=tenant, cluster=cluster), PageRequest(limit)
        )
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
    with ledger(data) as reader:
        from warehouse.chargeback import chargeback_queries
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter

        names = [bucket, *(n for n in (part.strip() for part in by.split(",")) if n and n != bucket)]
        when = period_of(reader, period, start, end)
        page = chargeback_queries.efficiency(
            reader, when, bucket, names[1:], Filter(tenant=tenant, cluster=cluster), PageRequest(limit)
        )
        _print_groups(names, page, when, chosen(format_, as_json), "Efficiency", None)


def _print_groups(names: list[str], page: Any, when: Period, format_: Format, title: str, total: Any) -> None:
    """Rows of a chargeback by any dimensions, with the total if there is one."""
    from api.serialization import plain, plain_rows
    from warehouse.chargeback.chargeback_queries import DIMENSIONS
    from warehouse.results import ChargebackRow

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
    told_more(page)


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
    with ledger(data) as reader:
        from api.serialization import plain, plain_rows
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter
        from warehouse.ledger import ledger_queries

        when = period_of(reader, period, start, end)
        page = ledger_queries.fleet(reader, when, Filter(cluster=cluster), PageRequest(limit))
        rows = plain_rows(page.rows)
        simulated = any(row.simulated for row in page.rows)
        wanted = chosen(format_, as_json)
        if wanted is Format.JSON:
            output.print_json({"period": plain(when), "simulated": simulated, "rows": rows, "next": page.next})
        elif wanted is Format.CSV:
            output.print_csv(rows, list(rows[0]) if rows else [])
        else:
            output.print_table(rows, _FLEET, title=f"Fleet, {when}", simulated=simulated)
        told_more(page)


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
