"""Rounding: once for each invoice, and its lines sum to it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.bills import totals
from billing.rounding import half_up, minor_digits, round_lines
from tests.billing.made_up import ACME, billed, book, used


@given(st.lists(st.fractions(-(10**9), 10**9)), st.integers(0, 3))
def test_lines_sum_to_the_rounded_sum_and_each_is_off_by_less_than_a_unit(amounts: list[Fraction], digits: int) -> None:
    rounded = round_lines(amounts, digits)
    assert sum(rounded, Decimal(0)) == half_up(sum(amounts, Fraction(0)), digits)
    for amount, line in zip(amounts, rounded, strict=True):
        assert abs(Fraction(line) - amount) < Fraction(1, 10**digits)


@given(st.fractions(-(10**9), 10**9), st.integers(0, 3))
def test_a_credit_rounds_as_its_charge_does(amount: Fraction, digits: int) -> None:
    assert half_up(-amount, digits) == -half_up(amount, digits)


HALVES = [("0.005", 2, "0.01"), ("-0.005", 2, "-0.01"), ("0.5", 0, "1"), ("2.5", 0, "3"), ("0.0049", 2, "0.00")]


@pytest.mark.parametrize(("amount", "digits", "rounded"), HALVES)
def test_halves_go_away_from_zero(amount: str, digits: int, rounded: str) -> None:
    assert str(half_up(Fraction(amount), digits)) == rounded


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3)])
def test_a_currency_is_rounded_to_its_smallest_unit(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@given(st.lists(st.integers(1, 999), min_size=1, max_size=40))
def test_a_bills_lines_sum_to_what_the_tenant_used_in_all(counts: list[int]) -> None:
    priced = book('[[rates]]\nname = "r"\nmeter = "calls"\nprice = "0.00333"')
    quantities = [used("calls", str(count), ACME._replace(workload=f"w{n}")) for n, count in enumerate(counts)]
    total = totals(billed(priced, *quantities).lines)["acme", "EUR", "cost"]
    assert total == half_up(Fraction(sum(counts)) * Fraction("0.00333"), 2)
