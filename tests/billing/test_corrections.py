"""Corrections: a closed bill stays, and the open one corrections_ it."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from billing.bills import Bill, burned, round_charges, totals
from billing.corrections import corrections
from billing.line_items import LineItem
from tests.billing.made_up import ACME, BETA, billed, book, electricity, used

PRICED = book('[[rates]]\nname = "r"\nmeter = "calls"\nprice = "0.0133"\n[[taxes]]\nname = "VAT"\npercent = "19"')


def september(*counts: int) -> Bill:
    return billed(PRICED, *(used("calls", str(n), ACME._replace(workload=f"w{i}")) for i, n in enumerate(counts) if n))


def corrected(frozen: list[LineItem], booked: list[LineItem], now: list[LineItem]) -> list[LineItem]:
    return round_charges("2026-10", corrections(frozen, booked, now))


def test_no_change_makes_no_line() -> None:
    assert corrected(september(100).lines, [], september(100).lines) == []


def test_a_late_quantity_becomes_a_line_that_points_to_the_one_it_corrections_() -> None:
    frozen = september(1000).lines
    call, tax = corrected(frozen, [], september(1500).lines)
    assert (call.corrects, call.period, call.quantity, str(call.amount)) == (
        frozen[0].line_id, "2026-10", Decimal(500), "6.65",
    )  # fmt: skip
    assert call.steps == (f"line {frozen[0].line_id} of 2026-09 is 19.95 EUR now, +6.65 EUR",)
    assert str(tax.amount) == "1.26"


def test_a_line_that_the_closed_bill_did_not_have_is_corrected_from_nothing() -> None:
    frozen = billed(book(), energy=(electricity("5"),)).lines
    now = billed(book(), energy=(electricity("5"), electricity("2", BETA))).lines
    (line,) = corrected(frozen, [], now)
    assert (line.tenant, str(line.amount), line.energy_uj) == ("beta", "2.00", now[1].energy_uj)


def test_a_line_that_is_gone_is_taken_back() -> None:
    frozen = billed(book(), energy=(electricity("5"), electricity("2", BETA))).lines
    (line,) = corrected(frozen, [], billed(book(), energy=(electricity("5"),)).lines)
    assert (line.tenant, str(line.amount), line.energy_uj) == ("beta", "-2.00", -frozen[1].energy_uj)


def test_a_correction_is_booked_once() -> None:
    frozen, now = september(1000).lines, september(1500).lines
    assert corrected(frozen, corrected(frozen, [], now), now) == []


def test_a_line_that_is_open_now_is_left_alone() -> None:
    frozen = billed(book(), energy=(electricity("5"),)).lines
    assert corrected(frozen, [], billed(book(), energy=(electricity(None),)).lines) == []


def test_a_corrected_credit_counts_in_the_balance() -> None:
    rows = book(
        '[[rates]]\nname = "r"\nmeter = "calls"\nprice = "1"\n'
        '[[credits]]\nname = "c"\namount = "100"\nscope = { tenant = "acme" }'
    )
    frozen = billed(rows, used("calls", "10")).lines
    corrections_ = corrected(frozen, [], billed(rows, used("calls", "30")).lines)
    assert burned([*frozen, *corrections_]) == {("c", "acme"): 30}


COUNTS = st.lists(st.integers(0, 10**6), min_size=3, max_size=3)


@given(COUNTS, COUNTS, COUNTS)
def test_the_frozen_bill_and_all_its_corrections_sum_to_the_bill_of_today(
    first: list[int], second: list[int], third: list[int]
) -> None:
    frozen = september(*first).lines
    once = corrected(frozen, [], september(*second).lines)
    twice = corrected(frozen, once, september(*third).lines)
    total = totals([*frozen, *once, *twice]).get(("acme", "EUR", "cost"), Decimal(0))
    assert total == totals(september(*third).lines).get(("acme", "EUR", "cost"), Decimal(0))
