"""Examples of bills."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from api.serialization import plain, to_csv
from billing.invoice import Proof, invoices, invoices_html
from billing.line_items import Category, LineItem
from billing.places import Place
from billing.proof import line_record, lines_sha256
from contracts.units import EpochMs, epoch_ms
from warehouse.billing.operation_cost import CostItem, CostTotal, OperationCost
from warehouse.billing.periods import PeriodStep

_START, _END = epoch_ms("2026-10-01"), epoch_ms("2026-11-01")
_LINE = LineItem(
    line_id="8afde3b5f81d4eb08991",
    period="2026-10",
    category=Category.USAGE,
    name="electricity",
    meter="energy",
    unit="kWh",
    quantity=Decimal("1.773749951"),
    price=None,
    per=Decimal(1),
    amount=Decimal("0.56"),
    exact=Decimal("0.555184"),
    currency="USD",
    side="cost",
    from_ms=_START,
    to_ms=_END,
    place=Place(tenant="acme", team="search", workload="chat", model="llama-70b", hardware="H100", cluster="eu-1"),
    energy_uj=5_108_399_858_463,
    gco2=Decimal("607.509358"),
    steps=("1.773749951 kWh of the facility, by the tariffs of cluster eu-1",),
)
_STEP = PeriodStep(
    period="2026-10",
    step=1,
    state="closed",
    period_start=_START,
    period_end=_END,
    time_zone="UTC",
    at=EpochMs(epoch_ms("2026-11-02T09:00:00Z")),
    actor="ann@ledger-1",
    reason="",
    book_version=3,
    lines=1,
    lines_sha256=lines_sha256([_LINE]),
    audit_head="3e6abc3c9ad24968ba4d197057562fd7a9c37cc06722ba8a072f8f78bfb8c1e9",
)
BILLS: dict[str, Any] = {
    "closings": [plain(_STEP)],
    "totals": [{"period": "2026-10", "currency": "USD", "side": "cost", "total": "0.56", "open_lines": 0, "lines": 1}],
}
_RECORD = line_record(_LINE)
BILL: dict[str, Any] = {
    "name": "2026-10",
    "period": plain(_STEP.span),
    "state": "closed",
    "closing": plain(_STEP),
    "totals": [{"tenant": "acme", "currency": "USD", "side": "cost", "total": "0.56"}],
    "lines": [_RECORD],
    "unpriced_meters": {},
}
BILL_CSV = to_csv([{**_RECORD, "steps": "; ".join(_RECORD["steps"])}], list(_RECORD))
INVOICE = "".join(
    invoices_html(
        "2026-10",
        invoices("2026-10", _START, _END, "UTC", [_LINE]),
        Proof(
            state="closed", closed_at_ms=_STEP.at, actor=_STEP.actor, lines_sha256=_STEP.lines_sha256,
            audit_head=_STEP.audit_head,
        ),
    )
)  # fmt: skip
FILES: dict[str, str | None] = {
    "text/csv": BILL_CSV,
    "text/html": INVOICE,
    "application/cloudevents-batch+json": None,
    "application/zip": None,
    "application/vnd.apache.parquet": None,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": None,
}
OPERATION = OperationCost(
    items=[
        CostItem(
            name="electricity", meter="energy", quantity=Decimal("0.001125524286"), unit="kWh", side="cost",
            currency="USD", amount=Decimal("0.000352289102"), steps=["0.001125524286 kWh"],
        ),
        CostItem(
            name="output tokens", meter="output_tokens", quantity=Decimal(484), unit="token", side="cost",
            currency="USD", amount=Decimal("0.0005808"), steps=["484 token x 1.2 USD per 1000000 = 0.0005808 USD"],
        ),
    ],
    totals=[CostTotal(side="cost", currency="USD", amount=Decimal("0.000933089102"))],
    unpriced_meters=["input_tokens"],
    not_attributed=["fees"],
)  # fmt: skip
