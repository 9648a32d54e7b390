"""Adjustments: discounts, minimums, commitments, credits and taxes, in this order."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest

from contracts.errors import BadInput
from tests.billing.made_up import ACME, BETA, amounts, billed, book, electricity, used

CALLS = '[[rates]]\nname = "calls"\nmeter = "calls"\nprice = "1"\n'
OF_ACME = 'scope = { tenant = "acme" }\n'


def test_all_adjustments_come_in_their_order_and_each_sees_what_is_left() -> None:
    rows = f"""{CALLS}
    [[discounts]]
    name = "10 percent"
    percent = "10"
    [[commitments]]
    name = "year"
    amount = "50"
    {OF_ACME} from = "2026-01-01"
    [[credits]]
    name = "goodwill"
    amount = "15"
    {OF_ACME}
    [[taxes]]
    name = "VAT"
    percent = "19"
    """
    # 100 - 10 = 90, - 50 = 40, - 15 = 25, 19 % of it 4.75.
    assert amounts(billed(book(rows), used("calls", "100"))) == {
        "calls": "100.00", "10 percent": "-10.00", "year": "-50.00", "goodwill": "-15.00", "VAT": "4.75",
    }  # fmt: skip


def test_a_discount_within_the_tenant_counts_its_lines_only() -> None:
    rows = f'{CALLS}[[discounts]]\nname = "eu"\npercent = "50"\nscope = {{ cluster = "eu" }}'
    us = ACME._replace(cluster="us")
    assert amounts(billed(book(rows), used("calls", "10"), used("calls", "30", us)))["eu"] == "-5.00"


def test_a_discount_on_meters_leaves_the_others() -> None:
    rows = f'{CALLS}[[discounts]]\nname = "d"\npercent = "50"\nmeters = ["calls"]'
    assert amounts(billed(book(rows), used("calls", "10"), energy=(electricity("7"),)))["d"] == "-5.00"


MINIMUMS = [("30", "20.00"), ("50", None), ("70", None)]


@pytest.mark.parametrize(("used_calls", "charged"), MINIMUMS)
def test_a_minimum_charges_what_is_missing(used_calls: str, charged: str | None) -> None:
    rows = f'{CALLS}[[minimums]]\nname = "least"\namount = "50"\n{OF_ACME}'
    assert amounts(billed(book(rows), used("calls", used_calls))).get("least") == charged


def test_a_commitment_is_due_at_its_start_and_burns_down() -> None:
    rows = f'{CALLS}[[commitments]]\nname = "year"\namount = "120"\nfrom = "2026-09-01"\n{OF_ACME}'
    lines = billed(book(rows), used("calls", "100")).lines
    assert [(line.name, line.category, str(line.amount)) for line in lines] == [
        ("calls", "usage", "100.00"), ("year", "purchase", "120.00"), ("year", "credit", "-100.00"),
    ]  # fmt: skip
    assert lines[-1].steps == ("120 EUR were left, 20 EUR are",)


def test_a_commitment_covers_no_more_than_is_left_of_it() -> None:
    rows = f'{CALLS}[[commitments]]\nname = "year"\namount = "120"\nfrom = "2026-08-01"\n{OF_ACME}'
    assert amounts(billed(book(rows), used("calls", "100"), year="100")) == {"calls": "100.00", "year": "-20.00"}


def test_a_credit_never_makes_a_bill_negative() -> None:
    rows = f'{CALLS}[[credits]]\nname = "c"\namount = "500"\n{OF_ACME}'
    assert amounts(billed(book(rows), used("calls", "100")))["c"] == "-100.00"
    assert "c" not in amounts(billed(book(rows), energy=(electricity("-3"),)))


def test_one_tenants_grant_is_no_others() -> None:
    rows = f'{CALLS}[[credits]]\nname = "c"\namount = "500"\n{OF_ACME}'
    assert amounts(billed(book(rows), used("calls", "100", BETA))) == {"calls": "100.00"}


def test_a_percentage_of_an_open_line_is_open() -> None:
    rows = '[[taxes]]\nname = "VAT"\npercent = "19"'
    assert amounts(billed(book(rows), energy=(electricity(None),))) == {"electricity": "-", "VAT": "-"}


def test_two_currencies_are_two_accounts() -> None:
    rows = '[[taxes]]\nname = "VAT"\npercent = "10"\n'
    us = ACME._replace(cluster="us")
    bill = billed(book(rows), energy=(electricity("10"), electricity("100", us, currency="USD")))
    assert [(line.currency, line.name, str(line.amount)) for line in bill.lines] == [
        ("EUR", "electricity", "10.00"), ("EUR", "VAT", "1.00"),
        ("USD", "electricity", "100.00"), ("USD", "VAT", "10.00"),
    ]  # fmt: skip


@pytest.mark.parametrize("table", ["taxes", "discounts"])
def test_a_percentage_that_changes_inside_the_period_is_refused(table: str) -> None:
    rows = (
        f'{CALLS}[[{table}]]\nname = "p"\npercent = "19"\nto = "2026-09-15"\n'
        f'[[{table}]]\nname = "p"\npercent = "16"\nfrom = "2026-09-15"\n'
    )
    with pytest.raises(BadInput, match="inside the period: let 'p' begin and end with one"):
        billed(book(rows), used("calls", "100"))


@pytest.mark.parametrize("table", ["taxes", "discounts", "fees"])
def test_two_versions_of_one_row_never_hold_at_once(table: str) -> None:
    value = "price" if table == "fees" else "percent"
    with pytest.raises(BadInput, match=r"two versions of it hold from 2026-05-01"):
        book(f'[[{table}]]\nname = "p"\n{value} = "1"\n[[{table}]]\nname = "p"\n{value} = "2"\nfrom = "2026-05-01"\n')


ENDING = f'{CALLS}[[commitments]]\nname = "month"\namount = "120"\nfrom = "2026-09-01"\nto = "2026-10-01"\n{OF_ACME}'


def test_a_commitment_that_ends_has_a_line_of_what_is_left() -> None:
    unused = billed(book(ENDING), used("calls", "99.995")).lines[-1]
    assert (unused.name, unused.meter, unused.quantity, str(unused.amount)) == (
        "month", "commitment_unused", Decimal("20.005"), "0.00",
    )  # fmt: skip
    assert unused.steps == ("20.005 EUR of 120 were left at its end, and are lost",)


def test_a_commitment_used_up_or_going_on_has_no_such_line() -> None:
    going_on = ENDING.replace("2026-10-01", "2026-11-01")
    for rows, calls in ((ENDING, "120"), (going_on, "100")):
        assert "commitment_unused" not in {line.meter for line in billed(book(rows), used("calls", calls)).lines}


def test_the_end_of_a_commitment_is_unknown_while_a_line_is_open() -> None:
    unused = billed(book(ENDING), used("calls", "20"), energy=(electricity(None),)).lines[-1]
    assert (unused.meter, unused.amount, unused.quantity) == ("commitment_unused", None, 0)


def test_a_credit_over_81_lines_of_fractions_is_exactly_its_money() -> None:
    rate = CALLS.replace('price = "1"', 'price = "1.23456"')
    rows = f'{rate}[[credits]]\nname = "c"\namount = "100.00"\n{OF_ACME}'
    workloads = [used("calls", f"{number}.337", ACME._replace(workload=f"w{number}")) for number in range(1, 82)]
    bill = billed(book(rows), *workloads)
    calls = [line for line in bill.lines if line.name == "calls"]
    assert (len(calls), amounts(bill)["c"]) == (81, "-100.00")
    exact = sum((line.quantity * Decimal("1.23456") for line in calls), Decimal(0))
    assert sum((line.amount or Decimal(0) for line in calls), Decimal(0)) == exact.quantize(
        Decimal("0.01"), ROUND_HALF_UP
    )


def test_a_tenant_that_used_nothing_owes_its_minimum_and_its_commitment() -> None:
    rows = f'{CALLS}[[minimums]]\nname = "least"\namount = "50"\n{OF_ACME}'
    assert amounts(billed(book(rows), used("calls", "1", BETA))) == {"calls": "1.00", "least": "50.00"}
    lines = billed(book(ENDING), used("calls", "1", BETA)).lines
    assert [(line.tenant, line.meter, str(line.amount)) for line in lines] == [
        ("acme", "commitment", "120.00"), ("acme", "commitment_unused", "0.00"), ("beta", "calls", "1.00"),
    ]  # fmt: skip


def test_a_minimum_that_names_no_tenant_or_is_of_another_time_is_not_owed_without_use() -> None:
    for owed_by in ("", f'{OF_ACME}from = "2026-10-01"\n'):
        rows = f'{CALLS}[[minimums]]\nname = "least"\namount = "50"\n{owed_by}'
        assert {line.tenant for line in billed(book(rows), used("calls", "60", BETA)).lines} == {"beta"}
