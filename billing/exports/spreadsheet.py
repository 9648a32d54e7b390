"""XLSX of a month: what it is, its totals, and its lines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from billing.exports.bill_export import BillExport
from billing.line_items import LineItem
from billing.proof import COLUMNS, line_record
from contracts.spreadsheet import EXACT_NOTE, UNKNOWN, Spreadsheet
from contracts.units import rfc3339

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_spreadsheet(bill: BillExport, file: BinaryIO) -> None:
    """Write lines as XLSX. Amounts are numbers, times in UTC; an unknown amount is the text `unknown`."""
    with Spreadsheet(file, _time(bill.source.at_ms)) as book:
        book.add("Bill", _facts(bill), ("fact", "value"), has_twin=False)
        book.add("Totals", _totals(bill), ("tenant", "currency", "side", "total"))
        book.add("Lines", map(_row, bill.lines), COLUMNS)


def _facts(bill: BillExport) -> Iterator[dict[str, Any]]:
    source, proof = bill.source, bill.proof
    values = {
        "period": source.period,
        "from": rfc3339(source.start_ms),
        "to": rfc3339(source.end_ms),
        "time zone of its days": bill.time_zone,
        "state": proof.state if proof.state == "closed" else f"{proof.state}: not closed, and may still change",
        "closed": "" if proof.closed_at_ms is None else f"{rfc3339(proof.closed_at_ms)} by {proof.actor}",
        "SHA-256 of all lines of the period": proof.lines_sha256,
        "audit log at the closing": proof.audit_head,
        "SIMULATED energy of": ", ".join(sorted(proof.simulated_clusters)) or "no cluster",
        "lines": bill.summary.lines,
        "lines of unknown amount": bill.summary.open_lines,
        "digits": EXACT_NOTE,
    }
    return ({"fact": fact, "value": value} for fact, value in values.items())


def _totals(bill: BillExport) -> Iterator[dict[str, Any]]:
    for (tenant, currency, side), total in sorted(bill.summary.totals.items()):
        amount = UNKNOWN if total is None else total
        yield {"tenant": tenant, "currency": currency, "side": side, "total": amount}


def _row(line: LineItem) -> dict[str, Any]:
    return line_record(line) | {
        "quantity": line.quantity,
        "price": line.price,
        "per": line.per,
        "amount": UNKNOWN if line.amount is None else line.amount,
        "exact_amount": UNKNOWN if line.exact is None else line.exact,
        "gco2": line.gco2,
        "line_start": _time(line.from_ms),
        "line_end": _time(line.to_ms),
        "steps": "; ".join(line.steps),
    }


def _time(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=time_ms)
