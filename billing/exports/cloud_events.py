"""CloudEvents of lines, for billing systems that meter events (OpenMeter, Lago, Stripe): a JSON batch.

An event is a line (CloudEvents 1.0, JSON batch format). Its `id` is of the closing and the line, so that a system that
takes each id once may be sent the same month again. Its `subject` is the tenant. Its `time` is the last millisecond of
the time that is charged, and of a correction that of the period that has it: systems put an event into the period of
its time. Costs and revenue are two types, because they do not add up. Numbers are texts, which lose no digit.
A line of unknown amount has no event, because a sum would take it for 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from billing.exports.bill_export import BillExport
from billing.line_items import LineItem
from billing.proof import line_record
from contracts.units import rfc3339

EVENT_TYPES = {"cost": "wattlog.bill.cost.v1", "revenue": "wattlog.bill.revenue.v1"}


def cloud_events(bill: BillExport) -> Iterator[dict[str, Any]]:
    """Yield an event for each line of known amount."""
    for line in bill.lines:
        if line.amount is not None:
            yield _event(bill, line)


def write_cloud_events(bill: BillExport, file: BinaryIO) -> None:
    """Write the events as one JSON array, `application/cloudevents-batch+json`, an event on each line of text."""
    separator = b"[\n"
    for event in cloud_events(bill):
        file.write(separator + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        separator = b",\n"
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _event(bill: BillExport, line: LineItem) -> dict[str, Any]:
    source = bill.source
    closing = "draft" if source.step is None else source.step
    end_ms = source.end_ms if line.corrects else min(line.to_ms, source.end_ms)
    record = line_record(line)
    return {
        "specversion": "1.0",
        "id": f"{source.period}.{closing}/{line.line_id}",
        "source": "urn:wattlog:bills",
        "type": EVENT_TYPES[line.side],
        "subject": line.tenant,
        "time": rfc3339(end_ms - 1),
        "datacontenttype": "application/json",
        "data": record | {"energy_uj": str(line.energy_uj), "invoice_id": source.invoice_id(line)},
    }
