"""`wattlog bills`: billing periods with their states and totals."""

from __future__ import annotations

from typing import Any

from cli.ledger_access import open_ledger_and_settings
from cli.options import Data, Format, FormatOption, Json, output_format
from cli.output import note, print_csv, print_json
from cli.tables import Column, print_table, text_column

_COLUMNS = (
    text_column("period", "period"),
    text_column("state", "state"),
    text_column("total", "total"),
    Column("lines", "lines", str),
    text_column("closed_at", "closed"),
    text_column("actor", "by"),
    text_column("lines_sha256", "SHA-256 of the lines"),
)


def bills(format_: FormatOption = Format.TABLE, as_json: Json = False, data: Data = None) -> None:
    """List billing periods: closed ones with their totals and hashes, and the months since.

    Example: wattlog bills
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.bills import totals
        from contracts.time_zones import months, zone_of
        from contracts.units import plain_decimal, rfc3339
        from warehouse.billing.closing import closed_lines, state_of
        from warehouse.billing.periods import closed_periods, list_steps
        from warehouse.periods import newest, resolve_period

        closed = closed_periods(list_steps(reader))
        rows: list[dict[str, Any]] = []
        for step in closed.values():
            sums: dict[str, Any] = {}
            lines = closed_lines(reader, step)
            for (_, currency, side), amount in totals(line for line in lines if line.amount is not None).items():
                if side == "cost":
                    sums[currency] = sums.get(currency, 0) + amount
            rows.append({
                "period": step.period, "state": "closed", "lines": step.lines, "closed_at": rfc3339(step.at),
                "total": ", ".join(f"{plain_decimal(amount)} {currency}" for currency, amount in sorted(sums.items())),
                "actor": step.actor, "lines_sha256": step.lines_sha256,
            })  # fmt: skip
        final_end = newest(reader).final_end
        start_ms = reader.ask("ledger/oldest")[0]["start"] if final_end is not None else 0
        for month in months(zone_of(settings.time_zone), start_ms, final_end or 0):
            if month.name not in closed:
                span = resolve_period(reader, month.name, time_zone=settings.time_zone)
                rows.append(dict.fromkeys((column.field for column in _COLUMNS), "") | {
                    "period": month.name, "state": state_of(final_end, span),
                })  # fmt: skip
        rows.sort(key=lambda row: row["period"])
        chosen = output_format(format_, as_json)
        if chosen is Format.JSON:
            print_json(rows)
        elif chosen is Format.CSV:
            print_csv(rows, [column.field for column in _COLUMNS])
        elif rows:
            print_table(rows, _COLUMNS, title="Billing periods")
        else:
            note("The ledger is empty: there is nothing to bill.")
