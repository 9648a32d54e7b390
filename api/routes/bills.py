"""Bills: closed periods with their totals, the lines of a period, and these as files."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from api.auth import LedgerRouter, MoneyReader
from api.examples import bills as examples
from api.exports import named, spooled_export, spooled_file
from api.params import RequestedFormat, Tenant
from api.response_models import documented, documented_files
from api.serialization import plain, wants_csv
from billing.bills import totals
from billing.exports.formats import FILE_TYPES, ExportFormat
from billing.proof import line_record
from contracts.errors import BadQuery
from warehouse.billing.closing import read_bill
from warehouse.billing.exported_bills import bill_export
from warehouse.billing.periods import PeriodStep, closed_periods, list_steps
from warehouse.billing.totals import BillTotal, bill_totals
from warehouse.filters import Filter
from warehouse.ledger.known_names import check_names
from warehouse.periods import Period, resolve_period
from warehouse.reader import LedgerReader
from warehouse.results import Amount

router = LedgerRouter(prefix="/v1", tags=["billing"])

MAX_JSON_LINES = 10_000
"""Lines in one JSON document; CSV has all."""
_MONTH = "^20[0-9]{2}-(0[1-9]|1[0-2])$"
Month = Annotated[
    str, Path(pattern=_MONTH, description="A month, `YYYY-MM`, of the setting `time_zone`.", examples=["2026-10"])
]


class AccountTotal(BaseModel):
    """Sum of the lines of a tenant in a currency. Null where one of them is open."""

    tenant: str
    currency: str
    side: Annotated[str, Field(description="`cost`, or `revenue`, which customers pay.")]
    total: Amount | None


class BillLine(BaseModel):
    """One line of a bill. Amounts are decimal strings; null where a price or a measurement is missing."""

    line_id: str
    period: str
    tenant: str
    team: str
    cost_centre: str
    category: str
    name: str
    meter: str
    quantity: str
    unit: str
    price: str | None
    per: str
    amount: str | None
    exact_amount: str | None
    currency: str
    side: str
    line_start: str
    line_end: str
    workload: str
    workload_type: str
    model: str
    hardware: str
    sla: str
    region: str
    provider: str
    cluster: str
    energy_uj: int
    gco2: str | None
    steps: list[str]
    corrects: Annotated[str, Field(description="Id of the line of a closed period that this one corrects.")]


class BillResponse(BaseModel):
    """The lines of a period. `state` is `closed`, or of a draft `provisional` or `open`."""

    name: str
    period: Period
    state: str
    closing: PeriodStep | None
    totals: list[AccountTotal]
    lines: list[BillLine]
    unpriced_meters: Annotated[
        dict[str, Amount], Field(description="Quantities of a draft that the price book has no rate for.")
    ]


class BillsResponse(BaseModel):
    """Closed periods, in their order, and the caller's totals of them."""

    closings: list[PeriodStep]
    totals: list[BillTotal]


@router.get("/bills", responses=documented(BillsResponse, examples.BILLS))
def bills(reader: MoneyReader) -> Response:
    """Closed periods with the hash of their lines, and their totals: all tenants', or those of the caller's."""
    closings = list(closed_periods(list_steps(reader)).values())
    sums = [plain(total) for total in bill_totals(reader, closings)]
    return JSONResponse({"closings": [plain(step) for step in closings], "totals": sums})


@router.get("/bills/{month}", responses=documented(BillResponse, examples.BILL, csv=examples.BILL_CSV))
def bill(
    request: Request,
    reader: MoneyReader,
    month: Month,
    tenant: Tenant = None,
    format_: RequestedFormat = None,
) -> Response:
    """The lines of a month. Those of a closed one never change; a draft is for operators."""
    settings = request.app.state.settings
    narrowed = reader.narrow(Filter(tenant=tenant))
    span = resolve_period(reader, month, time_zone=settings.time_zone)
    result = read_bill(reader, month, span, settings.currency)
    lines = [line for line in result.lines if narrowed.tenant in (None, line.tenant)]
    if tenant and not lines:
        check_names(reader, Filter(tenant=tenant))
    records: list[dict[str, Any]] = [line_record(line) for line in lines]
    if wants_csv(request, format_):
        rows = ([{**record, "steps": "; ".join(record["steps"])}] for record in records)
        return spooled_export(
            request, rows, list(BillLine.model_fields), {**named(f"{month}.csv"), "X-Bill-State": result.state}
        )
    if len(records) > MAX_JSON_LINES:
        raise BadQuery("tenant", tenant, f"more than {MAX_JSON_LINES} lines: name a tenant, or ask for format=csv")
    sums = [
        {"tenant": name, "currency": currency, "side": side, "total": None if total is None else str(total)}
        for (name, currency, side), total in sorted(totals(lines).items())
    ]
    return JSONResponse(
        {
            "name": result.period,
            "period": plain(result.span),
            "state": result.state,
            "closing": None if result.step is None else plain(result.step),
            "totals": sums,
            "lines": records,
            "unpriced_meters": {meter: str(quantity) for meter, quantity in result.unpriced_meters.items()},
        }
    )


Issuer = Annotated[
    str, Query(max_length=100, description="Who bills: InvoiceIssuerName and ServiceProviderName of FOCUS.")
]
Draft = Annotated[bool, Query(description="Export a month that is not closed, and may still change.")]


@router.get("/bills/{month}/export", responses=documented_files(examples.FILES))
def bill_file(
    request: Request,
    reader: MoneyReader,
    month: Month,
    format_: Annotated[ExportFormat, Query(alias="format", description="Format of the file.")],
    tenant: Tenant = None,
    issuer: Issuer = "Wattlog",
    draft: Draft = False,
) -> Response:
    """The lines of a closed month as one file: CSV, Parquet, XLSX, FOCUS 1.4 (ZIP) or 1.2, invoices in HTML, or
    CloudEvents. The same closed month gives the same bytes. `X-Open-Lines` counts lines of unknown amount, which FOCUS
    and CloudEvents leave out."""
    if draft and format_ is ExportFormat.CLOUDEVENTS:
        raise BadQuery("draft", "true", "a billing system would count a draft's events again once the month is closed")
    return _file(request, reader, month, format_, tenant, issuer, with_draft=draft)


@router.get("/bills/{month}/invoice", responses=documented_files({"text/html": examples.INVOICE}))
def invoice(request: Request, reader: MoneyReader, month: Month, tenant: Tenant = None) -> Response:
    """The month's invoices as a page that prints on A4, one of each tenant and currency. A draft says so."""
    return _file(request, reader, month, ExportFormat.HTML, tenant, with_draft=True)


def _file(
    request: Request,
    reader: LedgerReader,
    month: str,
    format_: ExportFormat,
    tenant: str | None,
    issuer: str = "Wattlog",
    *,
    with_draft: bool,
) -> Response:
    settings = request.app.state.settings
    narrowed = reader.narrow(Filter(tenant=tenant))
    bill = bill_export(
        reader,
        month,
        resolve_period(reader, month, time_zone=settings.time_zone),
        currency=settings.currency,
        at_ms=round(time.time() * 1000),
        tenant=narrowed.tenant,
        issuer=issuer,
        with_draft=with_draft,
    )
    file_type = FILE_TYPES[format_]
    headers = {
        **named(f"{bill.stem}{file_type.suffix}", is_shown=format_ is ExportFormat.HTML),
        "X-Bill-State": bill.proof.state,
        "X-Open-Lines": str(bill.summary.open_lines),
        # A page of invoices runs nothing and loads nothing.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    return spooled_file(request, partial(file_type.write, bill), file_type.media_type, headers, [bill.summary.lines])
