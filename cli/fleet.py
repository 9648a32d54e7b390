"""`wattlog fleet`: energy, utilisation and idle share of each node's GPUs, or of any groups of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ledger_access import (
    covered,
    is_whole,
    note_more_rows,
    open_ledger_and_settings,
    print_whole_csv,
    read_rows,
    resolve,
)
from cli.options import (
    Cluster,
    Data,
    Format,
    FormatOption,
    From,
    Json,
    Limit,
    PeriodName,
    TimeZone,
    To,
    output_format,
    split_names,
)
from cli.tables import Column, decimals, integer, percent, print_rows, text_column

if TYPE_CHECKING:
    from warehouse.ledger.fleet_groups import FleetGroups
    from warehouse.periods import Period

_MEASURES = (
    Column("gpus", "GPUs", integer),
    Column("energy_uj", "energy kWh", lambda uj: f"{uj / 3.6e12:,.3f}"),
    Column("gpu_seconds", "covered GPU h", lambda s: f"{s / 3600:,.1f}"),
    Column("mean_w", "mean W", decimals(1)),
    Column("utilisation_ratio", "busy %", percent),
    Column("idle_ratio", "idle %", percent),
    Column("unallocated_ratio", "unallocated %", percent),
    text_column("method", "method"),
)
_COLUMNS = (*(text_column(name, name) for name in ("cluster", "node", "hardware")), *_MEASURES)
_COMPARED = (
    Column("gpus", "GPUs", integer),
    Column("other_gpus", "other GPUs", integer),
    Column("energy_uj", "energy kWh", lambda uj: f"{uj / 3.6e12:,.3f}"),
    Column("other_energy_uj", "other kWh", lambda uj: f"{uj / 3.6e12:,.3f}"),
    Column("energy_change_ratio", "change %", lambda ratio: f"{100 * ratio:+.1f}"),
    Column("mean_w", "mean W", decimals(1)),
    Column("other_mean_w", "other W", decimals(1)),
    Column("idle_ratio", "idle %", percent),
    Column("other_idle_ratio", "other idle %", percent),
)


def fleet(
    by: Annotated[
        str | None,
        typer.Option(help="Comma-separated: cluster, node, hardware, model.", show_default="cluster,node,hardware"),
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="Over time: hour, day, week or month.")] = None,
    compare: Annotated[
        str | None, typer.Option(help="Another period; or, where --cluster names one, another cluster.")
    ] = None,
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    cluster: Cluster = None,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show how much each node's GPUs used, by hardware, and how much of it was idle or unallocated.

    With --by, --bucket or --compare, a GPU that moved counts once in the total.

    Example: wattlog fleet --period latest-day
    """
    with open_ledger_and_settings(data) as (reader, settings), ExitStack() as stack:
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter
        from warehouse.ledger import ledger_queries
        from warehouse.ledger.known_names import with_known_names
        from warehouse.results import FleetRow

        resolved = resolve(reader, period, start, end, tz, settings)
        chosen = output_format(format_, as_json)
        held = stack.enter_context(covered(reader, resolved, period, start, end))
        if by is not None or bucket is not None or compare is not None:
            from warehouse.ledger.fleet_groups import grouped_fleet

            names = split_names(by) if by is not None else [] if bucket else ["cluster"]
            groups = grouped_fleet(reader, resolved, names, bucket, compare, Filter(cluster=cluster), settings.fiscal)
            _print_groups(chosen, groups, [*([bucket] if bucket else []), *names], resolved, held, compare)
            return
        read = with_known_names(
            reader, Filter(cluster=cluster), partial(ledger_queries.fleet, reader, resolved, Filter(cluster=cluster))
        )
        if is_whole(chosen, limit):
            print_whole_csv(read, plain_rows, FleetRow.__dataclass_fields__)
            return
        page = read_rows(read, chosen, limit)
        simulated = any(row.simulated for row in page.rows)
        print_rows(
            chosen,
            plain_rows(page.rows),
            title=f"Fleet, {resolved}",
            columns=_COLUMNS,
            csv_columns=FleetRow.__dataclass_fields__,
            simulated=simulated,
            envelope={"period": plain(resolved), **held, "simulated": simulated},
            next_=page.next,
        )
        note_more_rows(page)


def _print_groups(
    format_: Format,
    groups: FleetGroups,
    names: list[str],
    period: Period,
    held: Mapping[str, Any],
    compare: str | None,
) -> None:
    """Print the fleet's groups with the total, which counts each GPU once."""
    from api.serialization import plain, plain_rows
    from warehouse.ledger.fleet_groups import fleet_columns
    from warehouse.results import FleetGroup

    columns = fleet_columns(names, compared=compare is not None)
    hidden = FleetGroup.__dataclass_fields__.keys() - set(columns)
    total = plain(groups.total, exclude=hidden | set(names))
    simulated = groups.total.simulated
    print_rows(
        format_,
        plain_rows(groups.rows, exclude=hidden),
        title=f"Fleet, {period}" + (f", compared with {compare}" if compare else ""),
        columns=[*(text_column(name, name) for name in names), *(_COMPARED if compare else _MEASURES)],
        csv_columns=columns,
        simulated=simulated,
        envelope={"period": plain(period), **held, "simulated": simulated, "total": total},
        next_=None,
        total=total,
    )
