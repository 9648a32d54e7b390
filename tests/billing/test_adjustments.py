"""Adjustments: discounts, minimums, commitments, credits and taxes, in this order."""

from __future__ import annotations

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
