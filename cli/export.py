"""`wattlog export`: billed months as files for finance: FOCUS, Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.audit_entries import record_export
from cli.bill import check_billed
from cli.close import month_name
from cli.ledger_access import covered, open_ledger_and_settings, resolve
from cli.options import Data, Tenant, TimeZone
from cli.output import note, step_finished
from contracts.units import counted

if TYPE_CHECKING:
    from billing.focus_source import FocusSource
    from contracts.settings import Settings
    from warehouse.billing.closing import PeriodBill
    from warehouse.reader import LedgerReader

export = typer.Typer(
    no_args_is_help=True,
    help="Write a billed month to files for finance: FOCUS or Parquet. docs/finance.md has their columns.",
)
_Month = Annotated[str, typer.Argument(help="The month, such as 2026-09.", show_default=False)]
_Draft = Annotated[bool, typer.Option("--draft", help="Export a month that is not closed, and may still change.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace an earlier export of the same name.")]


class FocusVersion(StrEnum):
    """Version of the FinOps Open Cost and Usage Specification."""

    NEWEST = "1.4"
    ONE_FILE = "1.2"


@export.command()
def focus(
    period: _Month,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    version: Annotated[
        FocusVersion, typer.Option("--focus", help="1.4: four data sets; 1.2: one, for tools that stop there.")
    ] = FocusVersion.NEWEST,
    tenant: Tenant = None,
    issuer: Annotated[str, typer.Option(help="Who bills: InvoiceIssuerName and ServiceProviderName.")] = "Wattlog",
    draft: _Draft = False,
    force: _Force = False,
    tz: TimeZone = None,
    data: Data = None,
) -> None:
    """Write a month as FOCUS: a folder of CSV files whose BilledCost sums to the invoices.

    Example: wattlog export focus 2026-09 --out focus-2026-09 --issuer "Example GPU Platform"
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from cli.export_files import check_folder, write_folder

        check_folder(out, force)
        result = _billed(reader, settings, period, tz, draft, tenant)
        source = _focus_source(reader, settings, result, issuer, tenant)
        files = _focus_files(source, version)
        record_export(len(source.costs))
        write_folder(out, files, force)
        step_finished(f"{counted(len(source.costs), 'row')} in {out}: {', '.join(files)}")
        if source.open_lines:
            names = ", ".join(f"{line.name} of {line.tenant} ({line.line_id})" for line in source.open_lines[:10])
            note(
                f"{counted(len(source.open_lines), 'line')} of unknown amount are not in it, because FOCUS has no "
                f"unknown cost: {names}. A later month has them as corrections, once they are known."
            )


@export.command()
def parquet(
    period: _Month,
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    tenant: Tenant = None,
    draft: _Draft = False,
    force: _Force = False,
    tz: TimeZone = None,
    data: Data = None,
) -> None:
    """Write the lines of a month as one Parquet file: decimals as decimal128, times in UTC.

    Example: wattlog export parquet 2026-09 --out september.parquet
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from cli.export_files import check_file, write_parquet

        check_file(out, force)
        result = _billed(reader, settings, period, tz, draft, tenant)
        lines = [line for line in result.lines if tenant in (None, line.tenant)]
        record_export(len(lines))
        write_parquet(out, lines)
        step_finished(f"{counted(len(lines), 'line')} in {out}")


def _billed(
    reader: LedgerReader, settings: Settings, period: str, tz: str | None, draft: bool, tenant: str | None
) -> PeriodBill:
    """Return the bill of a month. Raises BadInput for a draft that was not asked for, or a tenant without a line."""
    from contracts.errors import BadInput
    from warehouse.billing.closing import read_bill

    span = resolve(reader, month_name(period), None, None, tz or settings.time_zone)
    with covered(reader, span):
        result = read_bill(reader, period, span, settings.currency)
    if result.state != "closed" and not draft:
        raise BadInput("MONTH", period, f"it is {result.state}: `wattlog close` it, or export a draft with --draft")
    check_billed(result, [line for line in result.lines if tenant in (None, line.tenant)], tenant)
    if result.state != "closed":
        note(f"{result.period} is {result.state}: these lines may still change.")
    return result


def _focus_source(
    reader: LedgerReader, settings: Settings, result: PeriodBill, issuer: str, tenant: str | None
) -> FocusSource:
    from billing.focus_source import Closing, FocusSource
    from warehouse.billing.periods import closed_periods, list_steps
    from warehouse.billing.price_books import book_of

    step = result.step
    stored = book_of(reader, None if step is None else step.book_version)
    book = None if stored is None else stored.parse()
    closings = closed_periods(list_steps(reader)).values()
    return FocusSource(
        period=result.period,
        start_ms=result.span.start,
        end_ms=result.span.end,
        step=None if step is None else step.step,
        at_ms=round(time.time() * 1000) if step is None else step.at,
        issuer=issuer,
        lines=result.lines,
        tenant=tenant,
        closings=[Closing(of.period, of.step, of.period_start, of.period_end) for of in closings],
        commitments=() if book is None else book.commitments,
        currency=settings.currency if book is None else book.currency,
        time_zone="UTC" if book is None else book.time_zone,
        book_at_ms=0 if stored is None else stored.stored_at,
    )


def _focus_files(source: FocusSource, version: FocusVersion) -> dict[str, Iterator[str]]:
    from billing import focus_columns as columns
    from billing.focus import cost_and_usage, cost_and_usage_1_2
    from billing.focus_reference import billing_period, contract_commitments, invoice_details
    from contracts.csv_text import csv_pieces

    if version is FocusVersion.ONE_FILE:
        return {"CostAndUsage.csv": csv_pieces(cost_and_usage_1_2(source), columns.COST_AND_USAGE_1_2)}
    return {
        "CostAndUsage.csv": csv_pieces(cost_and_usage(source), columns.COST_AND_USAGE),
        "BillingPeriod.csv": csv_pieces([billing_period(source)], columns.BILLING_PERIOD),
        "InvoiceDetail.csv": csv_pieces(invoice_details(source), columns.INVOICE_DETAIL),
        "ContractCommitment.csv": csv_pieces(contract_commitments(source), columns.CONTRACT_COMMITMENT),
    }
