"""Lines of a period as rows of FOCUS CostAndUsage (FinOps Open Cost and Usage Specification 1.4, and 1.2).

A row is a line: `BilledCost` is its amount, so rows sum to the invoices' totals. Revenue is no cost, and has no row.
A line of unknown amount has none either, as BilledCost may not be empty: it is in `open_lines`.
Amounts, prices and quantities are plain decimals; what is unknown is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction

from billing.adjustments import UNUSED
from billing.focus_source import FocusSource, Row, charge_category, focus_time
from billing.line_items import Category, LineItem
from billing.quantities import ALLOCATED, LEDGER_METERS, USED
from billing.rounding import decimal_of, half_up, minor_digits
from contracts.topics import HOUSE_TENANTS
from contracts.units import plain_decimal, shortest_decimal

ENERGY_SHARE = "wattlog-energy-share"
"""AllocatedMethodId: a shared GPU's cost by its tenants' part of the measured energy (docs/adr)."""
_UNITS = {"token": "Tokens", "request": "Requests", "s": "Seconds", "month": "Months"}
_SECONDS_UNITS = {3600: "Hours", 60: "Minutes"}
_PLACES = 16
"""Decimal places of unit prices and pricing quantities, which may have no end: a second is 1/3600 of an hour."""


def cost_and_usage(source: FocusSource) -> Iterator[Row]:
    """Yield a row for each cost of known amount, in the order of the lines."""
    shares = {} if source.is_partial else _shared(source.lines)
    for line in source.costs:
        yield _row(source, line) | _priced(line) | _allocated(line, shares)


def cost_and_usage_1_2(source: FocusSource) -> Iterator[Row]:
    """Yield the same rows for FOCUS 1.2, which names the provider and the publisher instead."""
    for row in cost_and_usage(source):
        yield row | {"ProviderName": source.issuer, "PublisherName": row["HostProviderName"] or source.issuer}


def _row(source: FocusSource, line: LineItem) -> Row:
    assert line.amount is not None
    place = line.place
    category = charge_category(line)
    billed = plain_decimal(line.amount)
    # A commitment is paid when it is bought, and costs when usage burns it down: the covered usage has that cost.
    # What is left at its end costs then. So both columns sum to the same over its term, to a cent.
    effective = "0" if line.meter == "commitment" else billed
    if line.meter == UNUSED:
        effective = plain_decimal(half_up(Fraction(line.quantity), minor_digits(line.currency)))
    service, subcategory = _service(line)
    commitment = source.commitment_id(line) if category == "Adjustment" else None
    tags = {"team": place.team, "cost_centre": place.cost_centre, "workload_type": place.workload_type}
    return {
        "BilledCost": billed,
        "EffectiveCost": effective,
        "ListCost": billed,
        "ContractedCost": billed,
        "BillingCurrency": line.currency,
        "BillingAccountId": line.tenant,
        "BillingAccountName": line.tenant,
        "SubAccountId": place.team or None,
        "SubAccountName": place.team or None,
        "SubAccountType": "team" if place.team else None,
        "BillingPeriodStart": focus_time(source.start_ms),
        "BillingPeriodEnd": focus_time(source.end_ms),
        "ChargePeriodStart": focus_time(line.from_ms),
        "ChargePeriodEnd": focus_time(line.to_ms),
        "ChargeCategory": category,
        "ChargeClass": "Correction" if line.corrects else None,
        "ChargeDescription": f"{line.name} ({', '.join(value for value in place[3:] if value) or line.meter})",
        "ChargeFrequency": _frequency(line),
        "ContractApplied": None if commitment is None else _applied(commitment, -line.amount),
        "HostProviderName": place.provider or None,
        "InvoiceDetailId": source.detail_id(line),
        "InvoiceId": source.invoice_id(line),
        "InvoiceIssuerName": source.issuer,
        "RegionId": place.region or None,
        "RegionName": place.region or None,
        "ResourceId": _resource(line),
        "ResourceName": place.workload or None,
        "ResourceType": "Workload" if place.workload else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": service,
        "ServiceProviderName": source.issuer,
        "ServiceSubcategory": subcategory,
        "Tags": _json({name: value for name, value in tags.items() if value}),
        "x_Category": str(line.category),
        "x_Cluster": place.cluster or None,
        "x_CorrectsLineId": line.corrects or None,
        "x_CostCentre": place.cost_centre or None,
        "x_EnergyJoules": _joules(line) if line.meter == "energy" else None,
        "x_ExactCost": None if line.exact is None else shortest_decimal(line.exact),
        "x_GCO2eq": None if line.gco2 is None else shortest_decimal(line.gco2),
        "x_Hardware": place.hardware or None,
        "x_LineId": line.line_id,
        "x_Model": place.model or None,
        "x_Quantity": shortest_decimal(line.quantity),
        "x_ServiceLevel": place.sla or None,
        "x_Unit": line.unit,
        "x_Workload": place.workload or None,
        "x_WorkloadType": place.workload_type or None,
    }


def _priced(line: LineItem) -> Row:
    """Return the columns of a unit price.

    A line with one price has it. One of many prices (electricity, tiers) has their mean, if that is not negative, as
    FOCUS knows no negative unit price, and if it is no correction. Without a price its quantity is in `x_Quantity`.
    """
    if line.category not in (Category.USAGE, Category.PURCHASE):
        return {}
    if line.price is not None:
        price, quantity = Fraction(line.price), Fraction(line.quantity) / Fraction(line.per)
        unit = _unit(line)
        category, price_id = "Standard", f"{line.name}/{shortest_decimal(line.price)}"
    elif line.exact is not None and line.quantity and not line.corrects and line.meter != "commitment":
        price, quantity = Fraction(line.exact) / Fraction(line.quantity), Fraction(line.quantity)
        unit = _UNITS.get(line.unit, line.unit)
        category, price_id = "Dynamic" if line.meter == "energy" else "Standard", line.name
    else:
        return {}
    if price < 0 or not unit:
        return {}
    unit_price = shortest_decimal(decimal_of(price, _PLACES))
    cost = shortest_decimal(decimal_of(price * quantity))
    details: dict[str, object] = {
        "x_TokenKind": line.meter.removesuffix("_tokens") if line.unit == "token" else "",
        "x_Model": line.place.model,
        "x_Hardware": line.place.hardware,
        "x_PriceIsMean": line.price is None,
    }
    consumed = line.category is Category.USAGE
    return {
        "ListUnitPrice": unit_price,
        "ContractedUnitPrice": unit_price,
        "ListCost": cost,
        "ContractedCost": cost,
        "PricingCategory": category,
        "PricingQuantity": shortest_decimal(decimal_of(quantity, _PLACES)),
        "PricingUnit": unit,
        "ConsumedQuantity": shortest_decimal(line.quantity) if consumed else None,
        "ConsumedUnit": _UNITS.get(line.unit, line.unit) if consumed else None,
        "SkuId": "/".join(part for part in (line.meter, line.place.model, line.place.hardware) if part),
        "SkuMeter": line.meter,
        "SkuPriceId": price_id,
        "SkuPriceDetails": _json({name: value for name, value in details.items() if value}),
    }


def _unit(line: LineItem) -> str:
    name = _UNITS.get(line.unit, line.unit)
    if line.per == 1:
        return name
    if line.unit == "s" and line.per in _SECONDS_UNITS:
        return _SECONDS_UNITS[int(line.per)]
    return f"{shortest_decimal(line.per)} {name}" if name else ""


_Shared = dict[tuple[str, ...], tuple[int, Fraction]]


def _shared(lines: Iterable[LineItem]) -> _Shared:
    """Return, for the GPUs of each workload, how many lines divide their cost, and what these sum to."""
    sums: _Shared = {}
    for line in lines:
        if (key := _origin(line)) is not None and not line.corrects:
            count, total = sums.get(key, (0, Fraction(0)))
            sums[key] = count + 1, total + Fraction(_measure(line))
    return sums


def _origin(line: LineItem) -> tuple[str, ...] | None:
    """Return what names a cost that was divided by energy; None for any other line."""
    if line.meter not in ("energy", USED) or line.side != "cost":
        return None
    place = line.place
    return line.meter, line.name, line.currency, str(line.from_ms), place.cluster, place.workload, place.hardware


def _measure(line: LineItem) -> Decimal:
    return Decimal(line.energy_uj).scaleb(-6) if line.meter == "energy" else line.quantity


def _allocated(line: LineItem, shares: _Shared) -> Row:
    """Return the columns of a cost that several lines share. What no tenant used has a method and no resource."""
    key = _origin(line)
    count, total = shares.get(key, (0, Fraction(0))) if key is not None else (0, Fraction(0))
    if count < 2:
        return {}
    place = line.place
    row: Row = {"AllocatedMethodId": ENERGY_SHARE}
    if line.tenant not in HOUSE_TENANTS:
        parts = (line.tenant, place.team, place.cost_centre, place.model)
        row["AllocatedResourceId"] = "/".join(part for part in parts if part)
        row["AllocatedResourceName"] = line.tenant
    if total > 0 and not line.corrects:
        ratio = shortest_decimal(decimal_of(Fraction(_measure(line)) / total))
        amount = shortest_decimal(_measure(line))
        unit = "J" if line.meter == "energy" else "Seconds"
        # Written by hand, because json has no decimals.
        row["AllocatedMethodDetails"] = (
            f'{{"Elements":[{{"AllocatedRatio":{ratio},"UsageUnit":"{unit}","UsageQuantity":{amount}}}]}}'
        )
    return row


def _applied(commitment_id: str, amount: Decimal) -> str:
    name = json.dumps(commitment_id, ensure_ascii=False)
    return (
        f'{{"Elements":[{{"ContractId":{name},"ContractCommitmentId":{name},'
        f'"ContractCommitmentAppliedCost":{plain_decimal(amount)}}}]}}'
    )


def _frequency(line: LineItem) -> str:
    if line.category is Category.USAGE:
        return "Usage-Based"
    return "One-Time" if line.category is Category.PURCHASE and line.meter == "commitment" else "Recurring"


def _service(line: LineItem) -> tuple[str, str]:
    """Return the name of the service and its subcategory."""
    if line.meter == "energy":
        return "Electricity", "AI Platforms"
    if line.meter in (ALLOCATED, USED):
        return "GPU time", "AI Platforms"
    return ("Inference", "Generative AI") if line.meter in LEDGER_METERS else ("Platform", "AI Platforms")


def _resource(line: LineItem) -> str | None:
    return f"{line.place.cluster}/{line.place.workload}" if line.place.workload else None


def _joules(line: LineItem) -> str:
    return shortest_decimal(Decimal(line.energy_uj).scaleb(-6))


def _json(values: Mapping[str, object]) -> str | None:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")) if values else None
