"""Periods are relative to the ledger, never to the wall clock."""

from __future__ import annotations

import pytest

from contracts.errors import BadQuery
from contracts.fiscal_calendar import parse_fiscal_calendar
from contracts.units import epoch_ms
from tests.support import seeded_ledger as seed
from warehouse.client import Warehouse
from warehouse.periods import Period, newest, resolve_period


def span(start: str, end: str) -> Period:
    return Period(epoch_ms(start), epoch_ms(end))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, span("2026-10-01", "2026-11-01")),
        ("latest-month", span("2026-10-01", "2026-11-01")),
        ("latest-day", span("2026-10-31", "2026-11-01")),
        ("latest-hour", span("2026-10-31T23:00:00Z", "2026-11-01")),
        ("all", span("2026-09-02", "2026-11-01")),
        ("2026-12", span("2026-12-01", "2027-01-01")),
        ("2024-02-29", span("2024-02-29", "2024-03-01")),
        ("2026", span("2026-01-01", "2027-01-01")),
        ("2026-Q4", span("2026-10-01", "2027-01-01")),
        ("2026-W01", span("2025-12-29", "2026-01-05")),
        ("2020-W53", span("2020-12-28", "2021-01-04")),
        ("FY2026", span("2026-01-01", "2027-01-01")),
    ],
)
def test_names_mean_the_newest_final_windows_time_or_the_calendars(
    books: Warehouse, name: str | None, expected: Period
) -> None:
    assert resolve_period(books, name) == expected


def test_fiscal_names_are_those_of_the_calendar_in_the_zone(books: Warehouse) -> None:
    fiscal = parse_fiscal_calendar("04-01")
    period = resolve_period(books, "FY2027-P07", time_zone="Europe/Berlin", fiscal=fiscal)
    assert (period.start, period.end) == (epoch_ms("2026-09-30T22:00:00Z"), epoch_ms("2026-10-31T23:00:00Z"))


def test_from_alone_reaches_to_the_newest_final_window(books: Warehouse) -> None:
    assert resolve_period(books, start="2026-10-31T12:00:00+02:00") == span("2026-10-31T10:00:00Z", "2026-11-01")


def test_a_space_is_accepted_for_the_plus_of_a_zone(books: Warehouse) -> None:
    assert resolve_period(books, start="2026-10-31T12:00:00 02:00").start == epoch_ms("2026-10-31T10:00:00Z")


@pytest.mark.parametrize(
    ("period", "start", "end", "field"),
    [
        ("tomorrow", None, None, "period"),
        ("2026-13", None, None, "period"),
        ("2023-02-29", None, None, "period"),
        ("0000-01", None, None, "period"),
        ("2026-Q5", None, None, "period"),
        ("2026-W54", None, None, "period"),
        ("2026-W53x", None, None, "period"),
        ("2026-P01", None, None, "period"),
        ("FY2026-10", None, None, "period"),
        ("FY2026-P13", None, None, "period"),
        ("all", "2026-01-01", None, "period"),
        (None, None, "2026-01-01", "from"),
        (None, "yesterday", None, "from"),
        (None, "2026-01-02", "2026-01-01", "to"),
        (None, "9999-12-31T23:59:59Z", None, "from"),
    ],
)
def test_an_invalid_period_is_refused_by_name(
    books: Warehouse, period: str | None, start: str | None, end: str | None, field: str
) -> None:
    with pytest.raises(BadQuery) as refused:
        resolve_period(books, period, start=start, end=end)
    assert refused.value.field == field


def test_an_empty_ledger_has_no_newest_window_and_an_empty_period(warehouse: Warehouse) -> None:
    assert newest(warehouse).final_end is None
    assert resolve_period(warehouse) == Period(epoch_ms("1970-01-01"), epoch_ms("1970-01-01"))


def test_the_newest_window_may_be_provisional_and_the_newest_final_one_is_not(warehouse: Warehouse) -> None:
    seed.lay(warehouse)
    seed.provisional(warehouse, seed.END_MS + 10_000, "acme", 1)
    assert newest(warehouse).final_end == seed.END_MS
    assert newest(warehouse).window_end == seed.END_MS + 20_000
