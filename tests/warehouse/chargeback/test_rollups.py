"""A bill from days and hours equals the bill from hours to the last digit, for any period, prices and filters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from tests.support import seeded_ledger as seed
from tests.support.examples import examples
from warehouse.chargeback import chargeback_queries, question, rollups
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices, remove_price
from warehouse.results import ChargebackRow
from warehouse.sink.sink import Sink

OCTOBER = Period(epoch_ms("2026-10-01"), seed.END_MS)
CHANGE = epoch_ms("2026-10-13T07:00:00Z")
DAY = CHANGE - CHANGE % MS_PER_DAY
DAYS = (seed.END_MS - seed.SIM_START_MS) // MS_PER_DAY


@contextmanager
def priced(warehouse: Warehouse, *prices: Price) -> Iterator[None]:
    """Store these prices beside the seed's, for a while."""
    put_prices(warehouse, prices)
    try:
        yield
    finally:
        for price in prices:
            remove_price(warehouse, price.kind, price.cluster, price.valid_from_ms)


@contextmanager
def spoilt(warehouse: Warehouse, day_ms: int) -> Iterator[None]:
    """A day of sim-1 with less than its hours, which shows whether the day was read."""
    sql = "SELECT * REPLACE (0 AS active_uj, version + 1 AS version) FROM ledger_day FINAL"
    stored = warehouse.query("SELECT count() AS n FROM ledger_day FINAL")
    warehouse.command(
        f"INSERT INTO ledger_day {sql} WHERE cluster = 'sim-1' AND toUnixTimestamp64Milli(day) = {{day_ms:Int64}}",
        day_ms=day_ms,
    )
    assert warehouse.query("SELECT count() AS n FROM ledger_day FINAL") == stored
    try:
        yield
    finally:
        warehouse.command("ALTER TABLE ledger_day DELETE WHERE cluster = 'sim-1' SETTINGS mutations_sync = 2")
        Sink(warehouse).refresh_days(range(seed.SIM_START_MS, seed.END_MS, MS_PER_DAY), ["sim-1"], ["chat"])


def energy(warehouse: Warehouse, start_ms: int, end_ms: int) -> int:
    return chargeback_queries.chargeback_total(
        operator_reader(warehouse), Period(start_ms, end_ms), filter=Filter(cluster="sim-1")
    ).energy_uj


def from_hours(warehouse: Warehouse, period: Period, by: list[str], filter: Filter) -> list[ChargebackRow]:
    """The answer without reading days, and without the energy by slot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "MS_PER_DAY", 2**62)  # No period has a whole day then.
        cuts = rollups.Cuts(in_days=False, in_hours=True, in_quarters=True, groups_in_days=True)
        patch.setattr(question, "cuts_of", lambda *_: cuts)
        return chargeback_queries.chargeback_all(operator_reader(warehouse), period, by, filter)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None)
@given(
    hours=st.lists(st.integers(0, DAYS * 24), min_size=2, max_size=2, unique=True).map(sorted),
    changes=st.lists(st.integers(0, DAYS * 24 * 60), max_size=3, unique=True).map(sorted),
    scope=st.sampled_from(["sim-1", "elsewhere"]),
    by=st.sampled_from([[], ["tenant"], ["day"], ["month", "model"], ["team"], ["cluster", "hardware"], ["workload"]]),
    only=st.sampled_from([{}, {"tenant": "globex"}, {"cluster": "sim-1"}, {"tenant": "acme", "cluster": "eu-1"}]),
)
def test_days_and_hours_together_give_the_bill_from_hours(
    books: Warehouse, hours: list[int], changes: list[int], scope: str, by: list[str], only: dict[str, str]
) -> None:
    """Prices that begin and end at any minute, periods that begin and end at any hour."""
    start_ms, end_ms = (seed.SIM_START_MS + hour * MS_PER_HOUR for hour in hours)
    cuts = [seed.SIM_START_MS + minute * 60_000 for minute in changes]
    carbon = [Price("carbon", scope, Decimal(100 + i), start, end) for i, (start, end) in enumerate(pairwise(cuts))]
    with priced(books, *carbon):
        period, filter = Period(start_ms, end_ms), Filter(**only)
        bill = chargeback_queries.chargeback_all(operator_reader(books), period, by, filter)
        assert bill == from_hours(books, period, by, filter)


def test_a_price_change_within_a_day_applies_from_its_time_on(books: Warehouse) -> None:
    with priced(books, Price("energy", "sim-1", Decimal("5"), CHANGE, currency="USD")):
        bill = chargeback_queries.chargeback_total(operator_reader(books), OCTOBER, filter=Filter(cluster="sim-1"))
        before, after = (energy(books, *span) for span in ((OCTOBER.start, CHANGE), (CHANGE, OCTOBER.end)))
    exact = Fraction("1.25") * (before * Fraction("0.12") + after * 5) / UJ_PER_KWH
    assert bill.cost is not None and abs(Fraction(bill.cost) - exact) <= Fraction(1, 2 * 10**6)


def test_whole_days_are_read_from_days(books: Warehouse) -> None:
    total = energy(books, OCTOBER.start, OCTOBER.end)
    with spoilt(books, DAY):
        assert energy(books, OCTOBER.start, OCTOBER.end) < total
        assert energy(books, DAY, DAY + MS_PER_DAY) < total


@pytest.mark.parametrize("at", [CHANGE + 10_000, CHANGE - 10_000])
def test_a_day_with_a_price_change_inside_a_quarter_is_read_from_its_hours(books: Warehouse, at: int) -> None:
    total = energy(books, OCTOBER.start, OCTOBER.end)
    with spoilt(books, DAY):
        for validity in ((at, epoch_ms("2200-01-01")), (0, at)):
            with priced(books, Price("pue", "sim-1", Decimal("1.1"), *validity)):
                assert energy(books, OCTOBER.start, OCTOBER.end) == total


def test_a_day_with_a_price_change_between_hours_is_read_from_days(books: Warehouse) -> None:
    total = energy(books, OCTOBER.start, OCTOBER.end)
    with spoilt(books, DAY), priced(books, Price("pue", "sim-1", Decimal("1.1"), CHANGE)):
        assert energy(books, OCTOBER.start, OCTOBER.end) < total


def test_only_a_clusters_own_prices_split_its_days(books: Warehouse) -> None:
    total = energy(books, OCTOBER.start, OCTOBER.end)
    fleet = chargeback_queries.chargeback_total(operator_reader(books), OCTOBER).energy_uj
    with spoilt(books, DAY), priced(books, Price("pue", "eu-1", Decimal("1.1"), CHANGE + 10_000)):
        assert energy(books, OCTOBER.start, OCTOBER.end) < total
        assert chargeback_queries.chargeback_total(operator_reader(books), OCTOBER).energy_uj == fleet


def test_a_partial_day_is_read_from_its_hours(books: Warehouse) -> None:
    head, tail = (OCTOBER.start, CHANGE), (CHANGE, OCTOBER.end)
    totals = [energy(books, *span) for span in (head, tail)]
    with spoilt(books, DAY):
        assert [energy(books, *span) for span in (head, tail)] == totals


def test_a_price_change_at_midnight_splits_no_day(books: Warehouse) -> None:
    with priced(books, Price("energy", "sim-1", Decimal("5"), DAY, currency="USD")):
        bill = chargeback_queries.chargeback_total(operator_reader(books), OCTOBER, filter=Filter(cluster="sim-1"))
        before, after = (energy(books, *span) for span in ((OCTOBER.start, DAY), (DAY, OCTOBER.end)))
        exact = Fraction("1.25") * (before * Fraction("0.12") + after * 5) / UJ_PER_KWH
        assert bill.cost is not None and abs(Fraction(bill.cost) - exact) <= Fraction(1, 2 * 10**6)
        with spoilt(books, DAY):
            assert energy(books, OCTOBER.start, OCTOBER.end) < before + after
