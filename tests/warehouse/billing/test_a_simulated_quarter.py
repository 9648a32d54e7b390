"""A quarter of three clusters: closed, corrected and exported, against a bill that is made from windows one by one."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from billing.bills import totals
from billing.focus import cost_and_usage
from billing.focus_columns import BILLING_PERIOD, CONTRACT_COMMITMENT, COST_AND_USAGE, INVOICE_DETAIL
from billing.focus_reference import billing_period, contract_commitments, invoice_details
from billing.focus_source import Closing, FocusSource
from billing.invoice import invoices
from billing.line_items import LineItem
from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from tests.support.ledger_rows import rows
from tests.warehouse.billing.quarter import NAMES, book, closed, finish
from warehouse.billing.closing import closed_lines, draft
from warehouse.billing.periods import PeriodStep
from warehouse.client import Warehouse
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.sink.sink import Sink

pytestmark = pytest.mark.slow

FIRST_MS, LAST_MS = epoch_ms("2026-09-01"), epoch_ms("2026-12-01")
QUARTER_MS = MS_PER_HOUR // 4
CLUSTERS = {"spot": "EUR", "flat": "EUR", "us": "USD"}
"""Clusters with the currency of their tariffs: quarter-hourly, changed in the middle of October, and constant."""
TENANTS = ("acme", "beta", "__idle__")
MOVE_MS = epoch_ms("2026-10-14T22:00:00Z")
FEE, DISCOUNT, TAX = Fraction(100), Fraction(5, 100), Fraction(19, 100)
BOOK = """
currency = "EUR"
time_zone = "Europe/Berlin"
[[rates]]
name = "out, night"
meter = "output_tokens"
price = "2"
per = 1_000_000
[[rates]]
name = "out, day"
meter = "output_tokens"
price = "3.30"
per = 1_000_000
when = { days = ["weekdays"], hours = ["08-20"] }
[[fees]]
name = "platform"
price = "100"
scope = { tenant = "acme" }
[[discounts]]
name = "launch"
percent = "5"
[[taxes]]
name = "VAT"
percent = "19"
"""


@dataclass(frozen=True)
class Window:
    """One window of a tenant: all that a bill is made of."""

    at_ms: int
    cluster: str
    tenant: str
    energy_uj: int
    tokens: int


def spot_price(at_ms: int) -> Decimal:
    """The quarter-hourly tariff: between -0.05 and 0.35."""
    return Decimal(random.Random(at_ms // QUARTER_MS).randrange(-500, 3500)) / 10_000


def tariff(cluster: str, at_ms: int) -> Decimal:
    if cluster == "spot":
        return spot_price(at_ms)
    if cluster == "flat":
        return Decimal("0.20") if at_ms < MOVE_MS else Decimal("0.25")
    return Decimal("0.11")


PUE = {"spot": Decimal("1.2"), "flat": Decimal("1.35"), "us": Decimal("1.07")}


def made_up(seed: int, count: int) -> Iterator[Window]:
    """Windows at any time of the quarter, each at a time of its own."""
    draw = random.Random(seed)
    for at in draw.sample(range(FIRST_MS // 10_000, LAST_MS // 10_000), count):
        tenant = draw.choice(TENANTS)
        tokens = 0 if tenant == "__idle__" else draw.randrange(9_000_000)
        yield Window(at * 10_000, draw.choice(list(CLUSTERS)), tenant, draw.randrange(3 * UJ_PER_KWH), tokens)


def lay(warehouse: Warehouse, windows: Sequence[Window], version: int) -> None:
    warehouse.insert("ledger", rows("ledger", *(
        {
            "window_start": window.at_ms, "cluster": window.cluster, "tenant": window.tenant,
            "active_uj": window.energy_uj, "completion_tokens": window.tokens, "version": (1 << 62) + version,
        }
        for window in windows
    )))  # fmt: skip
    Sink(warehouse).refresh_hours(sorted({window.at_ms for window in windows}), list(CLUSTERS), ["chat"])


def lay_prices(warehouse: Warehouse) -> None:
    ends = [*range(FIRST_MS, LAST_MS, QUARTER_MS), LAST_MS]
    spot = [Price("energy", "spot", spot_price(start), start, end, "EUR") for start, end in pairwise(ends)]
    put_prices(warehouse, [
        *spot,
        Price("energy", "flat", Decimal("0.20"), 0, MOVE_MS, "EUR"),
        Price("energy", "flat", Decimal("0.25"), MOVE_MS, currency="EUR"),
        Price("energy", "us", Decimal("0.11"), currency="USD"),
        *(Price("pue", cluster, value) for cluster, value in PUE.items()),
        *(Price("carbon", "*", Decimal(300 + 10 * day), FIRST_MS + day * MS_PER_DAY, FIRST_MS + (day + 1) * MS_PER_DAY)
          for day in range(91)),
    ])  # fmt: skip


def is_day(at_ms: int) -> bool:
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo("Europe/Berlin"))
    return local.weekday() < 5 and 8 <= local.hour < 20


def independent_bill(windows: Sequence[Window], name: str) -> dict[tuple[str, str], Fraction]:
    """Each tenant's total by currency, from the windows of a month."""
    span = NAMES[name]
    sums: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for window in windows:
        if span.start <= window.at_ms < span.end:
            currency, place = CLUSTERS[window.cluster], window.cluster
            kwh = Fraction(window.energy_uj, UJ_PER_KWH) * Fraction(PUE[place])
            sums[window.tenant, currency] += kwh * Fraction(tariff(place, window.at_ms))
            rate = Fraction(33, 10) if is_day(window.at_ms) else Fraction(2)
            if window.tokens:
                sums[window.tenant, "EUR"] += rate * window.tokens / 1_000_000
    sums["acme", "EUR"] += FEE
    return {
        (tenant, currency): amount if tenant == "__idle__" else amount * (1 - DISCOUNT) * (1 + TAX)
        for (tenant, currency), amount in sums.items()
    }


def assert_equal_to_the_windows(lines: Sequence[LineItem], windows: Sequence[Window], name: str) -> None:
    """Amounts are within a cent of each tenant's exact bill, energy is the same to the microjoule."""
    span = NAMES[name]
    exact = independent_bill(windows, name)
    billed = {(tenant, currency): total for (tenant, currency, _), total in totals(lines).items()}
    assert billed.keys() == exact.keys()
    for account, total in billed.items():
        assert total is not None
        assert abs(Fraction(total) - exact[account]) <= Fraction(1, 100), (name, account)
    energy_uj = sum(window.energy_uj for window in windows if span.start <= window.at_ms < span.end)
    assert sum(line.energy_uj for line in lines) == energy_uj


def exported(step: PeriodStep, lines: Sequence[LineItem], before: Sequence[PeriodStep]) -> FocusSource:
    return FocusSource(
        period=step.period, start_ms=step.period_start, end_ms=step.period_end, step=step.step, at_ms=step.at,
        issuer="Wattlog", lines=lines, currency="EUR",
        closings=[Closing(s.period, s.step, s.period_start, s.period_end) for s in before],
    )  # fmt: skip


def assert_export_is_the_invoice(source: FocusSource) -> None:
    """The FOCUS bundle passes its linter, and sums to the invoices exactly."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    usage = list(cost_and_usage(source))
    for row in usage:
        sums[str(row["BillingCurrency"])] += Decimal(str(row["BilledCost"]))
    many = list(invoices(source.period, source.start_ms, source.end_ms, "UTC", source.lines))
    for currency in {invoice.currency for invoice in many}:
        assert sums[currency] == sum(invoice.total for invoice in many if invoice.currency == currency)
    bundles = import_module("focus_data_toolkit.validate.bundle")
    bundle = {
        name: [{column: row.get(column) or "" for column in columns} for row in rows_]
        for name, rows_, columns in (
            ("Cost and Usage", usage, COST_AND_USAGE),
            ("Billing Period", [billing_period(source)], BILLING_PERIOD),
            ("Invoice Detail", list(invoice_details(source)), INVOICE_DETAIL),
            ("Contract Commitment", list(contract_commitments(source)), CONTRACT_COMMITMENT),
        )
    }
    exact = {"invoice_detail_authoritative": True, "rounding_tolerance": Decimal(0)}
    assert bundles.validate_dataset_bundle(bundle, **exact).diagnostics == []


def test_a_quarter_is_closed_corrected_and_exported_without_a_residual(warehouse: Warehouse) -> None:
    windows = list(made_up(1, 600))
    lay_prices(warehouse)
    put_tenants(warehouse, [
        Tenant("acme", "search", "CC-1"), Tenant("acme", "search", "CC-2", valid_from_ms=MOVE_MS),
        Tenant("beta", "chat", "CC-3"),
    ])  # fmt: skip
    book(warehouse, BOOK)
    lay(warehouse, windows, 1)
    finish(warehouse)
    reader = operator_reader(warehouse)
    steps = [closed(warehouse, "2026-09")]
    september = closed_lines(reader, steps[0])
    assert_equal_to_the_windows(september, windows, "2026-09")
    assert_export_is_the_invoice(exported(steps[0], september, []))

    # Late facts of September, and a tariff that is mended afterwards: it is not September's any more.
    late = [
        Window(window.at_ms, window.cluster, window.tenant, window.energy_uj + 7_000_000_019, window.tokens + 1_234_567)
        for window in windows
        if window.at_ms < NAMES["2026-09"].end and window.tokens
    ][::3]
    lay(warehouse, late, 2)
    by_key = {(window.at_ms, window.cluster, window.tenant): window for window in (*windows, *late)}
    windows = list(by_key.values())
    put_prices(warehouse, [Price("energy", "us", Decimal("0.99"), currency="USD")])
    put_prices(warehouse, [Price("energy", "us", Decimal("0.11"), currency="USD")])
    steps.append(closed(warehouse, "2026-10"))
    october = closed_lines(reader, steps[1])
    corrections = [line for line in october if line.corrects]
    assert corrections
    assert_equal_to_the_windows([line for line in october if not line.corrects], windows, "2026-10")
    assert_equal_to_the_windows([*september, *corrections], windows, "2026-09")
    assert_export_is_the_invoice(exported(steps[1], october, steps[:1]))
    assert closed_lines(reader, steps[0]) == september
    moved = {(line.place.cost_centre) for line in october if line.tenant == "acme" and line.energy_uj}
    assert moved == {"CC-1", "CC-2"}

    november = draft(reader, "2026-11", NAMES["2026-11"], "EUR").bill.lines
    assert_equal_to_the_windows(november, windows, "2026-11")
