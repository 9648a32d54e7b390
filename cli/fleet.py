"""`wattlog fleet`: energy, utilisation and idle share of each node's GPUs."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from cli.ledger_access import (
    covered,
    is_whole,
    note_more_rows,
    open_ledger_and_settings,
    print_whole_csv,
    read_rows,
    resolve,
)
from cli.options import Cluster, Data, Format, FormatOption, From, Json, Limit, PeriodName, TimeZone, To, output_format
from cli.tables import Column, decimals, integer, percent, print_rows, text_column

_COLUMNS = (
    text_column("cluster", "cluster"),
    text_column("node", "node"),
    text_column("hardware", "hardware"),
    Column("gpus", "GPUs", integer),
    Column("energy_uj", "energy kWh", lambda uj: f"{uj / 3.6e12:,.3f}"),
    Column("gpu_seconds", "covered GPU h", lambda s: f"{s / 3600:,.1f}"),
    Column("mean_w", "mean W", decimals(1)),
    Column("utilisation_ratio", "busy %", percent),
    Column("idle_ratio", "idle %", percent),
    Column("unallocated_ratio", "unallocated %", percent),
    text_column("method", "method"),
)


def fleet(
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

    Example: wattlog fleet --period latest-day
    """
    with open_ledger_and_settings(data) as (reader, settings), ExitStack() as stack:
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter
        from warehouse.ledger import ledger_queries
        from warehouse.ledger.known_names import with_known_names
        from warehouse.results import FleetRow

        resolved = resolve(reader, period, start, end, tz or settings.time_zone)
        chosen = output_format(format_, as_json)
        held = stack.enter_context(covered(reader, resolved, period, start, end))
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
