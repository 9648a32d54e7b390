"""Prices that change at any window: quarter-hourly series, midnights of half-hour zones; all amounts are exact."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from contracts.errors import Unavailable
from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_KWH, epoch_ms, rfc3339
from tests.support.ledger_rows import rows
from warehouse.chargeback import chargeback_queries, question
from warehouse.chargeback.rollups import Cuts
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger.explanation import explain
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, PriceKind, put_prices
from warehouse.results import MissingPrice
from warehouse.sink.sink import Sink
from warehouse.usage.sessions import session

NOON_MS = epoch_ms("2026-10-15T12:00:00Z")
QUARTER_MS = MS_PER_HOUR // 4
KWH_A_QUARTER = Decimal("0.25")
DAY = Period(epoch_ms("2026-10-15"), epoch_ms("2026-10-16"))
QUARTER_PRICES = [Decimal(price) for price in ("1", "2", "3", "4", "0", "-1", "5", "6")]


def lay(warehouse: Warehouse, *window_starts_ms: int, window_ms: int = 10_000, cluster: str = "eu") -> None:
    """A quarter of a kWh in each of these windows, in the ledger, its hours and days, and as a request of a session."""
    windows = [{"window_start": at, "window_ms": window_ms, "cluster": cluster} for at in window_starts_ms]
    energy_uj = UJ_PER_KWH // 4
    warehouse.insert("ledger", rows("ledger", *({**w, "active_uj": energy_uj} for w in windows)))
    requests = ({**w, "active_uj": energy_uj, "request_id": f"r{n}", "session_id": "s"} for n, w in enumerate(windows))
    warehouse.insert("request_energy", rows("request_energy", *requests))
    Sink(warehouse).refresh_hours(window_starts_ms, [cluster], ["chat"])


def put_series(warehouse: Warehouse, kind: PriceKind, values: list[Decimal], step_ms: int = QUARTER_MS) -> None:
    """One price after another from noon on, the first also before it, and the other kinds at 1."""
    starts = [0, *(NOON_MS + n * step_ms for n in range(1, len(values) + 1))]
    kinds: dict[PriceKind, str] = {"energy": "EUR", "pue": "", "carbon": ""}
    series = [
        Price(kind, "*", value, *validity, kinds[kind])
        for value, validity in zip(values, pairwise(starts), strict=True)
    ]
    flat = [Price(other, "*", Decimal(1), currency=currency) for other, currency in kinds.items() if other != kind]
    put_prices(warehouse, series + flat)


def lay_two_hours(warehouse: Warehouse) -> None:
    """A window at the end of each of eight quarters: 2 kWh."""
    lay(warehouse, *(NOON_MS + (n + 1) * QUARTER_MS - 10_000 for n in range(8)))


def test_energy_costs_what_its_quarter_of_an_hour_costs(warehouse: Warehouse) -> None:
    lay_two_hours(warehouse)
    put_series(warehouse, "energy", QUARTER_PRICES)
    bill = chargeback_queries.chargeback_total(operator_reader(warehouse), DAY)
    assert (bill.cost, bill.kwh) == (sum(QUARTER_PRICES) * KWH_A_QUARTER, 2) == (5, 2)
    by_hour = chargeback_queries.chargeback_all(operator_reader(warehouse), DAY, ["hour"])
    assert [row.cost for row in by_hour] == [Decimal("2.5"), Decimal("2.5")]
    assert session(operator_reader(warehouse), "s").cost == 5


@pytest.mark.parametrize(("kind", "measure"), [("carbon", "gco2"), ("pue", "kwh_facility")])
def test_carbon_and_pue_change_inside_an_hour_as_tariffs_do(
    warehouse: Warehouse, kind: PriceKind, measure: str
) -> None:
    lay_two_hours(warehouse)
    values = [abs(price) + 1 for price in QUARTER_PRICES]
    put_series(warehouse, kind, values)
    bill = chargeback_queries.chargeback_total(operator_reader(warehouse), DAY)
    assert getattr(bill, measure) == sum(values) * KWH_A_QUARTER


def test_a_price_may_change_at_any_window(warehouse: Warehouse) -> None:
    lay(warehouse, NOON_MS + 1_230_000, NOON_MS + 1_240_000)
    put_series(warehouse, "energy", [Decimal(4), Decimal(8)], step_ms=1_240_000)
    reader = operator_reader(warehouse)
    assert chargeback_queries.chargeback_total(reader, DAY).cost == 4 * KWH_A_QUARTER + 8 * KWH_A_QUARTER
    explained = [
        explain(reader, "acme", rfc3339(at_ms)).parts[0].cost for at_ms in (NOON_MS + 1_230_000, NOON_MS + 1_240_000)
    ]
    assert explained == [1, 2]


def test_a_tariff_changes_at_midnight_of_a_zone_half_an_hour_apart(warehouse: Warehouse) -> None:
    """Asia/Kolkata is five and a half hours ahead of UTC."""
    midnight_ms = epoch_ms("2026-10-15T18:30:00Z")
    lay(warehouse, midnight_ms - MS_PER_HOUR // 2, midnight_ms - 10_000, midnight_ms, midnight_ms + 10_000)
    put_prices(warehouse, [
        Price("energy", "*", Decimal(1), 0, midnight_ms, "INR"),
        Price("energy", "*", Decimal(3), midnight_ms, currency="INR"), Price("pue", "*", Decimal(1)),
    ])  # fmt: skip
    assert chargeback_queries.chargeback_total(operator_reader(warehouse), DAY).cost == 2


@pytest.mark.parametrize(("step_ms", "reads_windows"), [(QUARTER_MS, False), (QUARTER_MS + 10_000, True)])
def test_a_bill_reads_windows_only_of_hours_inside_whose_quarters_a_price_changes(
    warehouse: Warehouse, step_ms: int, reads_windows: bool
) -> None:
    """Windows that are in no stored hour show which were read."""
    lay_two_hours(warehouse)
    warehouse.insert("ledger", rows("ledger", *(
        {"window_start": at, "active_uj": UJ_PER_KWH, "tenant": "shown"} for at in (NOON_MS, NOON_MS - MS_PER_HOUR)
    )))  # fmt: skip
    bill = chargeback_queries.chargeback_total(operator_reader(warehouse), DAY)
    assert bill.kwh == 2
    put_series(warehouse, "energy", QUARTER_PRICES[:2], step_ms)
    bill = chargeback_queries.chargeback_total(operator_reader(warehouse), DAY)
    assert bill.kwh == (3 if reads_windows else 2)


def test_energy_whose_quarters_are_not_stored_is_billed_from_windows(warehouse: Warehouse) -> None:
    """An earlier version of Wattlog stored hours and days without them."""
    lay_two_hours(warehouse)
    for table, columns in (("ledger_hour", "[] AS quarter_uj"), ("ledger_day", "[] AS hour_uj, [] AS quarter_uj")):
        warehouse.command(f"INSERT INTO {table} SELECT * REPLACE ({columns}) FROM {table} FINAL")
    put_series(warehouse, "energy", QUARTER_PRICES)
    reader = operator_reader(warehouse)
    assert chargeback_queries.chargeback_total(reader, DAY).cost == 5
    assert sum(row.cost or 0 for row in chargeback_queries.chargeback_all(reader, DAY, ["hour"])) == 5


def test_a_currency_is_that_of_a_quarter_with_energy(warehouse: Warehouse) -> None:
    lay(warehouse, NOON_MS)
    put_prices(warehouse, [
        Price("energy", "*", Decimal(4), 0, NOON_MS + QUARTER_MS, "EUR"), Price("pue", "*", Decimal(1)),
        Price("energy", "*", Decimal(8), NOON_MS + QUARTER_MS, currency="USD"),
    ])  # fmt: skip
    reader = operator_reader(warehouse)
    bill = chargeback_queries.chargeback_total(reader, DAY)
    assert (bill.cost, bill.currency, bill.mixed_currencies) == (1, "EUR", False)
    lay(warehouse, NOON_MS, NOON_MS + QUARTER_MS)
    bill = chargeback_queries.chargeback_total(reader, DAY)
    assert (bill.cost, bill.mixed_currencies) == (None, True)


def test_a_quarter_without_a_price_is_named_only_where_it_has_energy(warehouse: Warehouse) -> None:
    lay(warehouse, NOON_MS)
    put_prices(warehouse, [
        Price("energy", "*", Decimal(4), 0, NOON_MS + QUARTER_MS, "EUR"),
        *(Price(kind, "*", Decimal(1)) for kind in ("pue", "carbon")),
    ])  # fmt: skip
    reader = operator_reader(warehouse)
    bill = chargeback_queries.chargeback_total(reader, DAY)
    assert (bill.cost, bill.missing_prices) == (1, [])
    lay(warehouse, NOON_MS, NOON_MS + QUARTER_MS)
    bill = chargeback_queries.chargeback_total(reader, DAY)
    assert (bill.cost, bill.missing_prices) == (None, [MissingPrice(kind="energy", cluster="eu")])


@pytest.mark.parametrize("kind", ["energy", "pue", "carbon"])
def test_money_is_unknown_where_a_price_changes_inside_a_window(warehouse: Warehouse, kind: PriceKind) -> None:
    """Windows of an hour, as those of a simulated past."""
    lay(warehouse, NOON_MS, NOON_MS + 3 * MS_PER_HOUR, window_ms=MS_PER_HOUR)
    put_series(warehouse, kind, [Decimal(2)] * 2 + [Decimal(3)])
    reader = operator_reader(warehouse)
    hours = chargeback_queries.chargeback_all(reader, DAY, ["hour"])
    total = chargeback_queries.chargeback_total(reader, DAY)
    measures = {"energy": ["cost"], "pue": ["kwh_facility", "cost", "gco2"], "carbon": ["gco2"]}[kind]
    for measure in ("kwh_facility", "cost", "gco2"):
        known = [getattr(row, measure) is not None for row in (*hours, total)]
        assert known == ([False, False, False] if measure in measures else [True, True, True])
    assert total.missing_prices == [
        MissingPrice(kind=kind, cluster="eu"), MissingPrice(kind=f"{kind} within windows", cluster="eu"),
    ]  # fmt: skip
    assert (total.kwh, hours[0].kwh) == (Decimal("0.5"), KWH_A_QUARTER)
    of_session = session(reader, "s")
    assert (of_session.cost, of_session.gco2, of_session.missing_prices) == (
        total.cost,
        total.gco2,
        total.missing_prices,
    )
    explained = explain(reader, "acme", rfc3339(NOON_MS)).parts[0]
    assert explained.missing_prices == [f"{kind} within windows"]
    assert (explained.cost, explained.gco2) == (hours[0].cost, hours[0].gco2)


def test_another_clusters_prices_leave_a_long_window_alone(warehouse: Warehouse) -> None:
    lay(warehouse, NOON_MS, window_ms=MS_PER_HOUR, cluster="us")
    lay(warehouse, NOON_MS + 10_000)
    put_prices(warehouse, [
        Price("energy", "us", Decimal(4), currency="EUR"), Price("pue", "*", Decimal(1)),
        *(Price("energy", "eu", Decimal(n), NOON_MS + n * QUARTER_MS, NOON_MS + (n + 1) * QUARTER_MS, "EUR")
          for n in range(4)),
    ])  # fmt: skip
    eu, us = chargeback_queries.chargeback_all(operator_reader(warehouse), DAY, ["cluster"])
    assert (us.cluster, us.cost, us.missing_prices[0].kind) == ("us", 1, "carbon")
    assert (eu.cluster, eu.cost) == ("eu", 0)


@pytest.mark.parametrize("stale", [
    Cuts(in_days=False, in_hours=False, in_quarters=False, groups_in_days=False),
    Cuts(in_days=True, in_hours=True, in_quarters=False, groups_in_days=False),
])  # fmt: skip
def test_a_price_that_is_stored_while_a_bill_is_read_leaves_no_energy_out(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, stale: Cuts
) -> None:
    lay_two_hours(warehouse)
    put_series(warehouse, "energy", QUARTER_PRICES[:2], QUARTER_MS + 10_000)
    monkeypatch.setattr(question, "cuts_of", lambda *_: stale)
    with pytest.raises(Unavailable, match=r"changed while it was (asked|read).*Ask again"):
        chargeback_queries.chargeback_total(operator_reader(warehouse), DAY)


def test_a_day_of_quarter_hours_is_divided_to_the_last_digit(warehouse: Warehouse) -> None:
    starts = range(DAY.start, DAY.end, QUARTER_MS)
    lay(warehouse, *starts)
    values = {at: Decimal(n * n % 97) / 1000 for n, at in enumerate(starts)}
    put_prices(warehouse, [Price("pue", "*", Decimal("1.2")), *(
        Price("energy", "*", value, at, at + QUARTER_MS, "EUR") for at, value in values.items()
    )])  # fmt: skip
    reader = operator_reader(warehouse)
    exact = sum(values.values()) * KWH_A_QUARTER * Decimal("1.2")
    for period in (DAY, Period(DAY.start - MS_PER_DAY, DAY.end + MS_PER_DAY)):
        assert chargeback_queries.chargeback_total(reader, period, Filter(tenant="acme")).cost == exact
