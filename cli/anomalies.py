"""`wattlog anomalies`: unusual episodes of cost, energy and J/token."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.boundary import note_latest_clusters_outside
from cli.forecast import checked_frequency
from cli.ledger_access import open_ledger
from cli.options import BoundaryName, Cluster, Data, Format, FormatOption, Frequency, Json, Tenant, output_format
from cli.output import note, print_csv, print_json
from cli.tables import Column, decimals, figures, print_table, text_column
from contracts.units import counted

_COLUMNS = (
    text_column("start", "from"),
    text_column("end", "to"),
    text_column("key", "series"),
    text_column("measure", "measure"),
    text_column("kind", "kind"),
    Column("expected", "expected", figures),
    Column("actual", "actual", figures),
    text_column("unit", "unit"),
    Column("score", "score", decimals(1)),
)


def anomalies(
    by: Annotated[
        str | None,
        typer.Option(
            help="total, tenant, team, cost_centre, cluster, workload, model or hardware.",
            show_default="cost and energy by tenant, J/token by workload",
        ),
    ] = None,
    freq: Frequency = "day",
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: BoundaryName = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List unusual episodes of cost, energy and J/token, newest first.

    Example: wattlog anomalies --by workload
    """
    with open_ledger(data) as reader:
        from api.anomaly_report import Episode, anomaly_report
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter

        filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
        report = anomaly_report(reader, by=by, freq=checked_frequency(freq), filter=filter_)
        note_latest_clusters_outside(reader, filter_)
        rows = plain_rows(report.episodes)
        simulated = any(row["simulated"] for row in rows)
        chosen = output_format(format_, as_json)
        if chosen is Format.JSON:
            print_json({"simulated": simulated, **plain(report)})
            return
        if chosen is Format.CSV:
            print_csv(rows, list(Episode.__dataclass_fields__))
        elif rows:
            title = f"{counted(len(rows), 'episode')} in {report.judged} series"
            print_table(rows, _COLUMNS, title=title, simulated=simulated)
        else:
            note(f"No anomalies in {report.judged} series.")
        for series in report.withheld:
            note(f"Not judged: {series.measure} of {series.key}: {series.reason}.")
