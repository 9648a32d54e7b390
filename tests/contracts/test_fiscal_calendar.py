"""Fiscal years, quarters and months."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.fiscal_calendar import parse_fiscal_calendar

RETAIL = "4-5-4 from sunday nearest 02-01 named by start"


@pytest.mark.parametrize(
    ("calendar", "name", "first", "after"),
    [
        ("01-01", "FY2026", "2026-01-01", "2027-01-01"),
        ("04-01", "FY2027", "2026-04-01", "2027-04-01"),
        ("04-01", "FY2027-Q4", "2027-01-01", "2027-04-01"),
        ("04-01", "FY2027-P12", "2027-03-01", "2027-04-01"),
        ("04-01 named by start", "FY2026-P01", "2026-04-01", "2026-05-01"),
        ("04-06", "FY2027-P10", "2027-01-06", "2027-02-06"),
        # The calendar that the National Retail Federation publishes: 2023 has 53 weeks.
        (RETAIL, "FY2023", "2023-01-29", "2024-02-04"),
        (RETAIL, "FY2023-P12", "2023-12-31", "2024-02-04"),
        (RETAIL, "FY2024-P02", "2024-03-03", "2024-04-07"),
        (RETAIL, "FY2025", "2025-02-02", "2026-02-01"),
        ("4-4-5 from monday nearest 01-01", "FY2026-P03", "2026-02-23", "2026-03-30"),
    ],
)
def test_a_name_is_a_span_of_days(calendar: str, name: str, first: str, after: str) -> None:
    assert parse_fiscal_calendar(calendar).span(name) == (date.fromisoformat(first), date.fromisoformat(after))


@pytest.mark.parametrize("text", ["", "02-30", "02-29", "13-01", "4-4-4 from monday nearest 01-01", "july", "4-4-5"])
def test_a_calendar_that_no_year_has_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="such as 04-01"):
        parse_fiscal_calendar(text)


@given(
    st.sampled_from(["", "4-4-5 from wednesday nearest ", "5-4-4 from saturday nearest "]),
    st.integers(1, 12), st.integers(1, 28), st.sampled_from(["", " named by start"]), st.integers(1971, 2198),
)  # fmt: skip
def test_months_follow_each_other_through_all_years(weeks: str, month: int, day: int, named: str, year: int) -> None:
    calendar = parse_fiscal_calendar(f"{weeks}{month:02}-{day:02}{named}")
    firsts, of_next = calendar.months(year), calendar.months(year + 1)
    assert (len(firsts), firsts[-1]) == (13, of_next[0])
    for first, after in pairwise(firsts):
        assert timedelta(days=28) <= after - first <= timedelta(days=42)
    if weeks:
        assert (firsts[-1] - firsts[0]).days in (52 * 7, 53 * 7)
