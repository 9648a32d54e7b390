"""The other data sets of a FOCUS 1.4 bundle: BillingPeriod, InvoiceDetail and ContractCommitment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.focus_source import FocusSource, Row, charge_category, focus_time
from billing.line_items import LineItem
from billing.price_book import Grant
from contracts.topics import HOUSE_TENANTS
from contracts.units import MS_PER_DAY, plain_decimal, shortest_decimal

_COLUMNS_OF_SCOPES = {
    "tenant": "BillingAccountId",
    "team": "SubAccountId",
    "cost_centre": "x_CostCentre",
    "workload": "x_Workload",
    "workload_type": "x_WorkloadType",
    "model": "x_Model",
    "hardware": "x_Hardware",
    "sla": "x_ServiceLevel",
    "region": "RegionId",
    "provider": "HostProviderName",
    "cluster": "x_Cluster",
}
PAYMENT_TERMS = "not stated"
"""The price book has no terms of payment, and FOCUS wants a text."""


def billing_period(source: FocusSource) -> Row:
    """Return the row of the period. It is open until it is closed, and exists since its start."""
    return {
        "BillingPeriodCreated": focus_time(source.start_ms),
        "BillingPeriodEnd": focus_time(source.end_ms),
        "BillingPeriodLastUpdated": focus_time(max(source.at_ms, source.start_ms)),
        "BillingPeriodStart": focus_time(source.start_ms),
        "BillingPeriodStatus": "Open" if source.step is None else "Closed",
        "InvoiceIssuerName": source.issuer,
    }


def invoice_details(source: FocusSource) -> Iterator[Row]:
    """Yield the parts of each invoice: by charge category, and apart what mends an earlier invoice."""
    parts: dict[str, tuple[LineItem, Decimal]] = {}
    for line in source.costs:
        detail_id = source.detail_id(line)
        first, total = parts.get(detail_id, (line, Decimal(0)))
        parts[detail_id] = first, total + (line.amount or Decimal(0))
    at = focus_time(source.at_ms)
    for detail_id, (line, total) in parts.items():
        own, mended = source.invoice_id(line), source.mended_invoice_id(line)
        category = charge_category(line)
        yield {
            "BilledCost": plain_decimal(total),
            "BillingAccountId": line.tenant,
            "BillingCurrency": line.currency,
            "BillingPeriodEnd": focus_time(source.end_ms),
            "BillingPeriodStart": focus_time(source.start_ms),
            "ChargeCategory": category,
            "InvoiceDetailCreated": at,
            "InvoiceDetailDescription": f"{category} of {line.tenant}" + ("" if own == mended else f", mends {mended}"),
            "InvoiceDetailId": detail_id,
            "InvoiceDetailLastUpdated": at,
            "InvoiceId": own,
            "InvoiceIssueDate": None if source.step is None else at,
            "InvoiceIssueStatus": "Open" if source.step is None else "Issued",
            "InvoiceIssuerName": source.issuer,
            "PaymentTerms": PAYMENT_TERMS,
            "ReferenceInvoiceId": mended,
        }


def contract_commitments(source: FocusSource) -> Iterator[Row]:
    """Yield the commitments of tenants that are billed: those valid in the period, and those that a line is of."""
    accounts = dict.fromkeys((line.tenant, line.currency) for line in source.costs)
    burned = {(line.name, line.tenant) for line in source.costs if line.meter == "commitment"}
    for row in source.commitments:
        currency = row.currency or source.currency
        only = dict(row.scope.values).get("tenant")
        for tenant, of_account in accounts:
            if of_account != currency or tenant in HOUSE_TENANTS or only not in (None, tenant):
                continue
            if row.valid(source.start_ms, source.end_ms) or (row.name, tenant) in burned:
                yield _commitment(source, row, tenant, currency)


def _commitment(source: FocusSource, row: Grant, tenant: str, currency: str) -> Row:
    name = f"{row.name}/{tenant}"
    start, end, stored = focus_time(row.from_ms), focus_time(row.to_ms), focus_time(source.book_at_ms)
    return {
        "BillingCurrency": currency,
        "ContractCommitmentApplicability": _applicability(row, tenant),
        "ContractCommitmentBenefitCategory": "Entitlement",
        "ContractCommitmentCategory": "Spend",
        "ContractCommitmentCost": shortest_decimal(row.amount),
        "ContractCommitmentCreated": stored,
        "ContractCommitmentDescription": f"Commitment {row.name} of {tenant}",
        "ContractCommitmentDurationType": duration_of(row.from_ms, row.to_ms, source.time_zone),
        "ContractCommitmentFulfillmentInterval": "Full Period",
        "ContractCommitmentId": name,
        "ContractCommitmentLastUpdated": stored,
        "ContractCommitmentLifecycleStatus": "Expired" if row.to_ms < source.end_ms else "Active",
        "ContractCommitmentModel": "Continuous",
        "ContractCommitmentOfferCategory": "Negotiated",
        "ContractCommitmentPaymentInterval": "One-Time",
        "ContractCommitmentPaymentModel": "All Upfront",
        "ContractCommitmentPeriodEnd": end,
        "ContractCommitmentPeriodStart": start,
        "ContractCommitmentType": "Spend commitment",
        "ContractId": name,
        "ContractPeriodEnd": end,
        "ContractPeriodStart": start,
        "InvoiceIssuerName": source.issuer,
        "ServiceProviderName": source.issuer,
    }


def _applicability(row: Grant, tenant: str) -> str:
    values = {"tenant": tenant, **dict(row.scope.values)}
    rules = [
        {"Dimension": _COLUMNS_OF_SCOPES[name], "Operator": "In", "Values": [value]} for name, value in values.items()
    ]
    if row.meters:
        rules.append({"Dimension": "SkuMeter", "Operator": "In", "Values": sorted(row.meters)})
    return json.dumps({"InclusionOperator": "And", "Inclusions": rules}, ensure_ascii=False, separators=(",", ":"))


def duration_of(start_ms: int, end_ms: int, time_zone: str) -> str:
    """Return how long `[start_ms, end_ms)` is, as FOCUS writes it: whole months or years of a zone, else days."""
    start, end = (datetime.fromtimestamp(time_ms / 1000, ZoneInfo(time_zone)) for time_ms in (start_ms, end_ms))
    months = (end.year - start.year) * 12 + end.month - start.month
    if months > 0 and (start.day, start.time()) == (end.day, end.time()):
        return _counted(months // 12, "Year") if months % 12 == 0 else _counted(months, "Month")
    return _counted(max(1, round((end_ms - start_ms) / MS_PER_DAY)), "Day")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"
