"""`wattlog export`: billed months as files for finance: FOCUS, Parquet, XLSX, and CloudEvents for billing systems."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from billing.exports.focus_files import FocusVersion
from cli.audit_entries import record_export
from cli.close import month_name
from cli.ledger_access import covered, open_ledger_and_settings, resolve
from cli.options import Data, Tenant, TimeZone
from cli.output import note, step_finished
from contracts.units import counted

if TYPE_CHECKING:
    from billing.exports.bill_export import BillExport
    from billing.exports.formats import ExportFormat
    from contracts.settings import Settings
    from warehouse.reader import LedgerReader

export = typer.Typer(
    no_args_is_help=True,
    help="Write a billed month to files: FOCUS, Parquet, XLSX, CloudEvents. docs/finance.md has their columns.",
)
_Month = Annotated[str, typer.Argument(help="The month, such as 2026-09.", show_default=False)]
_Out = Annotated[Path, typer.Option(help="File to write.", show_default=False)]
_STDOUT = Path("-")
_Issuer = Annotated[str, typer.Option(help="Who bills: InvoiceIssuerName and ServiceProviderName of FOCUS.")]
_Draft = Annotated[bool, typer.Option("--draft", help="Export a month that is not closed, and may still change.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace an earlier export of the same name.")]


@export.command()
def focus(
    period: _Month,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    version: Annotated[
        FocusVersion, typer.Option("--focus", help="1.4: four data sets; 1.2: one, for tools that stop there.")
    ] = FocusVersion.NEWEST,
    tenant: Tenant = None,
    issuer: _Issuer = "Wattlog",
    draft: _Draft = False,
    force: _Force = False,
    tz: TimeZone = None,
    data: Data = None,
) -> None:
    """Write a month as FOCUS: a folder of CSV files whose BilledCost sums to the invoices.

    Example: wattlog export focus 2026-09 --out focus-2026-09 --issuer "Example GPU Platform"
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.exports.focus_files import focus_files
        from cli.export_files import check_folder, write_folder

        check_folder(out, force)
        bill = _billed(reader, settings, period, tz, draft, tenant, issuer)
        rows = sum(1 for _ in bill.source.costs)
        record_export(rows)
        files = focus_files(bill.source, version)
        write_folder(out, files, force)
        step_finished(f"{counted(rows, 'row')} in {out}: {', '.join(files)}")
        _note_open_lines(bill, "FOCUS has no unknown cost")


@export.command()
def parquet(
    period: _Month, out: _Out, tenant: Tenant = None, draft: _Draft = False, force: _Force = False, tz: TimeZone = None,
    data: Data = None,
) -> None:  # fmt: skip
    """Write the lines of a month as one Parquet file: decimals as decimal128, times in UTC.

    Example: wattlog export parquet 2026-09 --out september.parquet
    """
    _write("parquet", period, out, tenant, draft, force, tz, data)


@export.command()
def xlsx(
    period: _Month, out: _Out, tenant: Tenant = None, draft: _Draft = False, force: _Force = False, tz: TimeZone = None,
    data: Data = None,
) -> None:  # fmt: skip
    """Write the lines and totals of a month as a spreadsheet. Exact figures are in sheets of their own.

    Example: wattlog export xlsx 2026-09 --out september.xlsx
    """
    _write("xlsx", period, out, tenant, draft, force, tz, data)


@export.command()
def cloudevents(
    period: _Month,
    out: Annotated[Path, typer.Option(help="File to write; - is stdout.", show_default="stdout")] = _STDOUT,
    tenant: Tenant = None,
    force: _Force = False,
    tz: TimeZone = None,
    data: Data = None,
) -> None:
    """Write a closed month as CloudEvents for billing systems: a JSON batch, an event of each line.

    Example: wattlog export cloudevents 2026-09 | curl -H 'Content-Type: application/cloudevents-batch+json' -d @- URL
    """
    _write("cloudevents", period, out, tenant, False, force, tz, data)


@export.command()
def closed(
    to: Annotated[str, typer.Option(help="Folder, or s3://BUCKET/PREFIX.", show_default=False)],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="csv, parquet, xlsx, focus, focus-1.2, html or cloudevents. May be repeated."),
    ] = None,
    tenant: Tenant = None,
    issuer: _Issuer = "Wattlog",
    force: _Force = False,
    data: Data = None,
) -> None:
    """Write every closed month that is not in a store yet, a file of each format: run it on a schedule.

    Credentials of a bucket come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
    AWS_ENDPOINT_URL.

    Example: wattlog export closed --to s3://finance/wattlog --format parquet --format focus
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.exports.formats import FILE_TYPES
        from cli.export_store import open_store
        from contracts.errors import LedgerError
        from warehouse.billing.exported_bills import closed_exports

        chosen = [_export_format(text) for text in formats or ["parquet"]]
        store = open_store(to, os.environ)
        broken = False
        bills = list(closed_exports(reader, currency=settings.currency, tenant=tenant, issuer=issuer))
        for bill in bills:
            for format_ in chosen:
                file_type = FILE_TYPES[format_]
                name = f"{bill.stem}{file_type.suffix}"
                if not force and store.has(name):
                    note(f"{name} is there.")
                    continue
                try:
                    lines = bill.summary.lines
                    if not lines:
                        note(f"{bill.source.period} has no line{f' of {tenant}' if tenant else ''}.")
                        continue
                    record_export(lines)
                    store.put(name, partial(file_type.write, bill))
                except LedgerError as error:  # One month must not keep the others from being exported.
                    broken = True
                    note(str(error))
                    continue
                step_finished(f"{counted(lines, 'line')} in {name}")
        if not bills:
            note("No month is closed yet: `wattlog close` closes one.")
        if broken:
            raise typer.Exit(1)


def _export_format(text: str) -> ExportFormat:
    from billing.exports.formats import ExportFormat
    from contracts.errors import BadInput

    if text not in list(ExportFormat):
        raise BadInput("--format", text, f"give any of {', '.join(ExportFormat)}")
    return ExportFormat(text)


def _write(
    format_: str, period: str, out: Path, tenant: str | None, draft: bool, force: bool, tz: str | None,
    data: Path | None,
) -> None:  # fmt: skip
    """Write a month in a format to a file, or to stdout."""
    with open_ledger_and_settings(data) as (reader, settings):
        from billing.exports.formats import FILE_TYPES, ExportFormat
        from cli.export_files import check_file, write_file

        file_type = FILE_TYPES[ExportFormat(format_)]
        if out != _STDOUT:
            check_file(out, force)
        bill = _billed(reader, settings, period, tz, draft, tenant)
        summary = bill.summary
        record_export(summary.lines)
        if out == _STDOUT:
            file_type.write(bill, sys.stdout.buffer)
        else:
            write_file(out, lambda file: file_type.write(bill, file))
            step_finished(f"{counted(summary.lines, 'line')} in {out}")
        if format_ == "cloudevents":
            _note_open_lines(bill, "a sum of events would take it for 0")


def _billed(
    reader: LedgerReader, settings: Settings, period: str, tz: str | None, draft: bool, tenant: str | None,
    issuer: str = "Wattlog",
) -> BillExport:  # fmt: skip
    """Return a month. Raises BadInput for a draft that was not asked for, or a tenant without a line."""
    from warehouse.billing.exported_bills import bill_export

    span = resolve(reader, month_name(period), None, None, tz, settings)
    with covered(reader, span):
        bill = bill_export(
            reader, period, span, currency=settings.currency, at_ms=round(time.time() * 1000), tenant=tenant,
            issuer=issuer, with_draft=draft,
        )  # fmt: skip
    if bill.proof.state != "closed":
        note(f"{period} is {bill.proof.state}: these lines may still change.")
    return bill


def _note_open_lines(bill: BillExport, reason: str) -> None:
    summary = bill.summary
    if summary.open_lines:
        names = ", ".join(f"{line.name} of {line.tenant} ({line.line_id})" for line in summary.first_open)
        note(
            f"{counted(summary.open_lines, 'line')} of unknown amount are not in it, because {reason}: {names}. "
            "A later month has them as corrections, once they are known."
        )
