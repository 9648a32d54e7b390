"""Formats of exports: what a file is called, what it is, and who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple

from billing.exports.bill_export import BillExport
from billing.exports.cloud_events import write_cloud_events
from billing.exports.focus_files import write_focus_1_2, write_focus_zip
from billing.exports.parquet_file import write_parquet
from billing.exports.spreadsheet import write_spreadsheet
from billing.invoice import invoices, invoices_html
from billing.proof import COLUMNS, line_record
from contracts.csv_text import csv_pieces
from contracts.spreadsheet import MEDIA_TYPE as XLSX_TYPE


class ExportFormat(StrEnum):
    """Format of an exported month."""

    CSV = "csv"
    PARQUET = "parquet"
    XLSX = "xlsx"
    FOCUS = "focus"
    FOCUS_1_2 = "focus-1.2"
    HTML = "html"
    CLOUDEVENTS = "cloudevents"


class FileType(NamedTuple):
    """A kind of file: its suffix, its media type, and what writes it."""

    suffix: str
    media_type: str
    write: Callable[[BillExport, BinaryIO], None]


def write_csv(bill: BillExport, file: BinaryIO) -> None:
    """Write lines as CSV, a row of each (`billing.proof.line_record`)."""
    file.writelines(piece.encode() for piece in csv_pieces(_rows(bill), COLUMNS))


def write_html(bill: BillExport, file: BinaryIO) -> None:
    """Write invoices as one page of HTML."""
    source = bill.source
    many = invoices(source.period, source.start_ms, source.end_ms, bill.time_zone, bill.lines)
    file.writelines(piece.encode() for piece in invoices_html(source.period, many, bill.proof))


def _rows(bill: BillExport) -> Iterator[dict[str, Any]]:
    return ({**line_record(line), "steps": "; ".join(line.steps)} for line in bill.lines)


FILE_TYPES = {
    ExportFormat.CSV: FileType(".csv", "text/csv; charset=utf-8; header=present", write_csv),
    ExportFormat.PARQUET: FileType(".parquet", "application/vnd.apache.parquet", write_parquet),
    ExportFormat.XLSX: FileType(".xlsx", XLSX_TYPE, write_spreadsheet),
    ExportFormat.FOCUS: FileType(".focus-1.4.zip", "application/zip", write_focus_zip),
    ExportFormat.FOCUS_1_2: FileType(".focus-1.2.csv", "text/csv; charset=utf-8; header=present", write_focus_1_2),
    ExportFormat.HTML: FileType(".html", "text/html; charset=utf-8", write_html),
    ExportFormat.CLOUDEVENTS: FileType(".events.json", "application/cloudevents-batch+json", write_cloud_events),
}
