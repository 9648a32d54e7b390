"""`wattlog bill`: the lines of a billing period, as a table, CSV, JSON or invoices in HTML."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit_entries import record_export
from cli.close import month_name
from cli.ledger_access import covered, open_ledger_and_settings, resolve
from cli.options import Data, Json, Tenant, TimeZone
from cli.output import note, print_csv, print_json, stdout
from cli.tables import Column, print_table, text_column

if TYPE_CHECKING:
    from billing.line_items import LineItem
    from warehouse.billing.closing import PeriodBill
    from warehouse.reader import LedgerReader


class BillFormat(StrEnum):
    """Output format of a bill."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


def _plain(value: Any) -> str:
    return "-" if value is None else str(value)


_COLUMNS = (
    text_column("tenant", "tenant"),
    text_column("name", "line"),
    text_column("place", "of"),
    Column("quantity", "quantity", str),
    text_column("unit", "unit"),
    Column("amount", "amount", _plain),
    text_column("currency", ""),
    text_column("line_id", "id"),
)


def bill(
    period: Annotated[str, typer.Argument(help="The month, such as 2026-09.", show_default=False)],
    tenant: Tenant = None,
    line: Annotated[str | None, typer.Option(help="Explain the line of this id, down to its windows.")] = None,
    format_: Annotated[
        BillFormat, typer.Option("--format", help="Output format on stdout; html: invoices that print on A4.")
    ] = BillFormat.TABLE,
    tz: TimeZone = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show the lines of a month: those that were closed, or a draft of what they are now.

    Examples: wattlog bill 2026-09 --tenant acme;  wattlog bill 2026-09 --format html > invoices.html
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.proof import line_record
        from warehouse.billing.closing import read_bill

        span = resolve(reader, month_name(period), None, None, tz, settings)
        with covered(reader, span):
            result = read_bill(reader, period, span, settings.currency)
        lines = [item for item in result.lines if tenant in (None, item.tenant)]
        chosen = BillFormat.JSON if as_json else format_
        check_billed(result, lines, tenant)
        if line is not None:
            _explain(reader, result, lines, line, as_json=chosen is BillFormat.JSON)
        elif chosen is BillFormat.JSON:
            print_json(_document(result, lines))
        elif chosen is BillFormat.CSV:
            rows = [{**line_record(item), "steps": "; ".join(item.steps)} for item in lines]
            print_csv(rows, list(line_record(result.lines[0])) if result.lines else ["line_id"])
        elif chosen is BillFormat.HTML:
            _print_html(reader, result, lines)
        else:
            _print(result, lines)
        _notes(result)


def check_billed(result: PeriodBill, lines: list[LineItem], tenant: str | None) -> None:
    """Raise BadInput for a tenant without a line in a period that has lines."""
    from contracts.errors import BadInput

    if tenant is not None and not lines and result.lines:
        names = sorted({item.tenant for item in result.lines})
        raise BadInput("--tenant", tenant, f"this period has lines of {', '.join(names[:10])}")


def _document(result: PeriodBill, lines: list[LineItem]) -> dict[str, Any]:
    from api.serialization import plain
    from billing.bills import totals
    from billing.proof import line_record

    sums = [
        {"tenant": tenant, "currency": currency, "side": side, "total": amount}
        for (tenant, currency, side), amount in totals(lines).items()
    ]
    return {
        "period": plain(result.span) | {"name": result.period},
        "state": result.state,
        "closing": None if result.step is None else plain(result.step),
        "totals": sums,
        "unpriced_meters": result.unpriced_meters,
        "lines": [line_record(item) for item in lines],
    }


def _print_html(reader: LedgerReader, result: PeriodBill, lines: list[LineItem]) -> None:
    from billing.invoice import Proof, invoices, invoices_html
    from warehouse.billing.exported_bills import simulated_clusters

    step = result.step
    proof = Proof(
        state=result.state,
        closed_at_ms=None if step is None else step.at,
        actor="" if step is None else step.actor,
        lines_sha256="" if step is None else step.lines_sha256,
        audit_head="" if step is None else step.audit_head,
        simulated_clusters=simulated_clusters(reader),
    )
    record_export(len(lines))
    many = invoices(result.period, result.span.start, result.span.end, result.span.time_zone, lines)
    sys.stdout.writelines(invoices_html(result.period, many, proof))


def _print(result: PeriodBill, lines: list[LineItem]) -> None:
    from billing.bills import totals
    from contracts.units import plain_decimal, shortest_decimal

    if not lines:
        note(f"No line in {result.period}.")
        return
    rows = [
        {
            "tenant": item.tenant,
            "name": item.name + (f" (corrects {item.corrects[:8]})" if item.corrects else ""),
            "place": ", ".join(value for value in item.place[1:] if value),
            "quantity": shortest_decimal(round(item.quantity, 6)),
            "unit": item.unit,
            "amount": None if item.amount is None else plain_decimal(item.amount),
            "currency": item.currency,
            "line_id": item.line_id,
        }
        for item in lines
    ]
    print_table(rows, _COLUMNS, title=f"Bill {result.period} ({result.state})")
    for (tenant, currency, side), amount in sorted(totals(lines).items()):
        beside = "" if side == "cost" else f" {side}"
        text = "unknown: a line is open" if amount is None else f"{plain_decimal(amount)} {currency}"
        stdout().print(f"{tenant}{beside}: {text}", markup=False)


def _explain(reader: LedgerReader, result: PeriodBill, lines: list[LineItem], line_id: str, *, as_json: bool) -> None:
    from cli.line_explanation import explain_line, line_document
    from contracts.errors import BadInput

    item = next((item for item in lines if item.line_id == line_id), None)
    if item is None:
        raise BadInput("--line", line_id, "no line of this period has this id; `wattlog bill PERIOD` shows them")
    if as_json:
        print_json(line_document(reader, item, result.step))
    else:
        explain_line(reader, item, result.step)


def _notes(result: PeriodBill) -> None:
    from contracts.units import shortest_decimal

    if result.state != "closed":
        note(f"{result.period} is {result.state}: these lines may still change.")
    if result.unpriced_meters:
        used = ", ".join(f"{meter} ({shortest_decimal(value)})" for meter, value in result.unpriced_meters.items())
        note(f"Used, and without a rate in the price book: {used}.")
    if result.not_looked_at:
        note(f"Closed too long ago for corrections: {', '.join(result.not_looked_at)}.")
