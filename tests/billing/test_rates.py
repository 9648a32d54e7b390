"""Rates: which one counts, and what it makes of a quantity."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.segments import segments
from contracts.units import epoch_ms
from tests.billing.made_up import ACME, BETA, END_MS, START_MS, amounts, billed, book, electricity, used

MODES = [
    ('price = "0.40"\nper = 1_000_000', "2500000", "1.00"),
    ('price = "-0.50"', "3", "-1.50"),
    ('mode = "package"\nprice = "5"\nper = 100', "201", "15.00"),
    ('mode = "package"\nprice = "5"\nper = 100', "200", "10.00"),
    ('mode = "graduated"\ntiers = [{up_to="10", price="1"}, {up_to="20", price="0.5"}, {price="0.1"}]', "25", "15.50"),
    ('mode = "graduated"\ntiers = [{up_to = "10", price = "1"}, {price = "0.5", fee = "7"}]', "10", "10.00"),
    ('mode = "graduated"\ntiers = [{up_to = "10", price = "1"}, {price = "0.5", fee = "7"}]', "11", "17.50"),
    ('mode = "volume"\ntiers = [{up_to = "10", price = "1"}, {price = "0.5"}]', "10", "10.00"),
    ('mode = "volume"\ntiers = [{up_to = "10", price = "1"}, {price = "0.5"}]', "11", "5.50"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "quantity", "amount"), MODES)
def test_a_quantity_becomes_money_as_its_mode_says(how: str, quantity: str, amount: str) -> None:
    priced = book(f'[[rates]]\nname = "calls"\nmeter = "calls"\n{how}')
    assert amounts(billed(priced, used("calls", quantity, unit="call"))) == {"calls": amount}


def test_tiers_count_all_that_a_tenant_used_and_the_money_is_divided_by_quantity() -> None:
    tiers = 'mode = "graduated"\ntiers = [{up_to = "100", price = "1"}, {price = "0"}]'
    priced = book(f'[[rates]]\nname = "calls"\nmeter = "calls"\n{tiers}')
    elsewhere = ACME._replace(cluster="us")
    bill = billed(priced, used("calls", "150"), used("calls", "50", elsewhere), used("calls", "100", BETA))
    assert [(line.place.cluster, line.tenant, line.amount) for line in bill.lines] == [
        ("eu", "acme", Decimal("75.00")), ("us", "acme", Decimal("25.00")), ("eu", "beta", Decimal("100.00")),
    ]  # fmt: skip


SPECIFIC = """
[[rates]]
name = "everybody"
meter = "calls"
price = "1"
[[rates]]
name = "cluster"
meter = "calls"
price = "2"
scope = { cluster = "eu" }
[[rates]]
name = "model"
meter = "calls"
price = "3"
scope = { model = "llama-70b" }
[[rates]]
name = "tenant"
meter = "calls"
price = "4"
scope = { tenant = "beta" }
"""


def test_the_most_specific_rate_counts() -> None:
    priced = book(SPECIFIC)
    other = ACME._replace(model="small")
    far = other._replace(cluster="us")
    bill = billed(
        priced, used("calls", "1"), used("calls", "1", BETA), used("calls", "1", other), used("calls", "1", far)
    )
    assert amounts(bill) == {"model": "3.00", "cluster": "2.00", "everybody": "1.00", "tenant": "4.00"}


def test_a_quantity_that_no_rate_fits_is_open_and_not_free() -> None:
    priced = book('[[rates]]\nname = "r"\nmeter = "calls"\nprice = "1"\nscope = { tenant = "beta" }')
    bill = billed(priced, used("calls", "5"))
    assert amounts(bill) == {"calls": "-"}
    assert bill.open_lines[0].steps == ("no rate of calls fits this place and time",)


def test_a_meter_without_any_rate_is_named_with_what_was_used() -> None:
    assert billed(book(), used("calls", "5"), used("calls", "2", BETA)).unpriced_meters == {"calls": Decimal(7)}


def test_a_rate_of_another_unit_than_the_quantity_is_open() -> None:
    priced = book('[[rates]]\nname = "r"\nmeter = "storage"\nunit = "GiB"\nprice = "1"')
    (line,) = billed(priced, used("storage", "5", unit="MiB")).lines
    assert line.amount is None
    assert line.steps == ("rate 'r' is for GiB, and the quantity is in MiB",)


def test_a_line_shows_its_arithmetic() -> None:
    priced = book('[[rates]]\nname = "r"\nmeter = "input_tokens"\nprice = "0.40"\nper = 1_000_000')
    (line,) = billed(priced, used("input_tokens", "1234")).lines
    assert line.steps == ("1234 token x 0.4 EUR per 1000000 = 0.0004936 EUR",)
    assert (line.amount, line.exact) == (Decimal("0.00"), Decimal("0.0004936"))


def test_a_margin_is_a_rate_on_money() -> None:
    priced = book('[[rates]]\nname = "margin"\nmeter = "energy_cost"\nprice = "0.15"')
    assert amounts(billed(priced, energy=(electricity("200"),))) == {"electricity": "200.00", "margin": "30.00"}


def test_revenue_stands_beside_cost() -> None:
    rows = """
    [[rates]]
    name = "cost"
    meter = "calls"
    price = "1"
    [[rates]]
    name = "list price"
    meter = "calls"
    price = "3"
    side = "revenue"
    """
    lines = billed(book(rows), used("calls", "2")).lines
    assert [(line.name, line.side, str(line.amount)) for line in lines] == [
        ("cost", "cost", "2.00"), ("list price", "revenue", "6.00"),
    ]  # fmt: skip


def test_compute_units_are_sums_of_other_meters() -> None:
    rows = """
    [[compute_units]]
    name = "credits"
    sum = { gpu_used_seconds = "0.5", calls = 2 }
    [[rates]]
    name = "credits"
    meter = "credits"
    price = "0.10"
    """
    bill = billed(book(rows), used("gpu_used_seconds", "100", unit="s"), used("calls", "5"))
    assert amounts(bill) == {"credits": "6.00"}
    assert bill.unpriced_meters == {}


def test_a_fee_is_charged_for_the_part_of_the_month_that_it_is_valid() -> None:
    rows = '[[fees]]\nname = "platform"\nprice = "300"\nfrom = "2026-09-21"\nscope = { tenant = "acme" }'
    assert amounts(billed(book(rows))) == {"platform": "100.00"}


def test_a_fee_without_a_tenant_is_charged_to_each_that_used_something() -> None:
    lines = billed(
        book('[[fees]]\nname = "f"\nprice = "1"'), used("calls", "1"), energy=(electricity("0", BETA),)
    ).lines
    assert [(line.tenant, line.name) for line in lines] == [("acme", "f"), ("beta", "electricity"), ("beta", "f")]


def test_a_price_that_changes_inside_the_month_makes_two_classes() -> None:
    rows = """
    [[rates]]
    name = "calls"
    meter = "calls"
    price = "1"
    to = "2026-09-11"
    [[rates]]
    name = "calls"
    meter = "calls"
    price = "2"
    from = "2026-09-11"
    """
    priced = book(rows)
    times = segments(priced, START_MS, END_MS)
    assert [(at - START_MS) // 86_400_000 for at in times.starts_ms] == [0, 10]
    bill = billed(priced, used("calls", "5", number=0), used("calls", "5", number=1))
    assert sorted(str(line.amount) for line in bill.lines) == ["10.00", "5.00"]


DAY_AND_NIGHT = """
time_zone = "Asia/Kolkata"
[[rates]]
name = "night"
meter = "gpu_used_seconds"
price = "1"
per = 3600
[[rates]]
name = "day"
meter = "gpu_used_seconds"
price = "2"
per = 3600
when = { days = ["weekdays"], hours = ["08-20"] }
"""


def test_a_schedule_counts_in_local_hours_of_its_days() -> None:
    priced = book(DAY_AND_NIGHT)
    times = segments(priced, epoch_ms("2026-08-31T18:30Z"), epoch_ms("2026-09-30T18:30Z"))
    assert len(times.rates) == 2
    assert times.step_ms == 15 * 60_000
    day = next(n for n, rates in enumerate(times.rates) if len(rates) == 2)
    # September 2026 has 22 weekdays.
    assert times.time_ms(day) == 22 * 12 * 3_600_000
    assert times.time_ms(1 - day) == (30 * 24 - 22 * 12) * 3_600_000


def test_a_holiday_is_no_weekday() -> None:
    priced = book(DAY_AND_NIGHT.replace("[[rates]]", "holidays = [2026-09-14]\n[[rates]]", 1))
    times = segments(priced, epoch_ms("2026-08-31T18:30Z"), epoch_ms("2026-09-30T18:30Z"))
    assert times.time_ms(next(n for n, rates in enumerate(times.rates) if len(rates) == 2)) == 21 * 12 * 3_600_000


def test_a_day_of_25_hours_has_25_hours_of_prices() -> None:
    priced = book(DAY_AND_NIGHT.replace("Asia/Kolkata", "Europe/Berlin").replace('"weekdays"', '"sun"'))
    times = segments(priced, epoch_ms("2026-10-24T22:00Z"), epoch_ms("2026-10-25T23:00Z"))
    assert sorted(times.time_ms(n) // 3_600_000 for n in range(2)) == [12, 13]


def test_a_label_puts_a_workload_into_a_scope() -> None:
    rows = """
    [[labels]]
    workload = "lla*"
    sla = "gold"
    [[rates]]
    name = "gold"
    meter = "calls"
    price = "5"
    scope = { sla = "gold" }
    """
    (line,) = billed(book(rows), used("calls", "1")).lines
    assert (line.name, line.place.sla) == ("gold", "gold")


def test_the_house_pays_no_fee_and_no_tax() -> None:
    rows = '[[fees]]\nname = "f"\nprice = "1"\n[[taxes]]\nname = "VAT"\npercent = "19"'
    house = ACME._replace(tenant="__idle__")
    assert amounts(billed(book(rows), energy=(electricity("5", house),))) == {"electricity": "5.00"}


MARGIN = '[[rates]]\nname = "margin"\nmeter = "energy_cost"\nprice = "0.15"\n'


def test_a_margin_on_money_is_in_that_moneys_currency() -> None:
    us = ACME._replace(cluster="us")
    bill = billed(book(MARGIN), energy=(electricity("100"), electricity("200", us, currency="USD")))
    assert sorted((line.currency, str(line.amount)) for line in bill.lines if line.name == "margin") == [
        ("EUR", "15.00"), ("USD", "30.00"),
    ]  # fmt: skip


def test_a_margin_in_another_currency_than_the_money_is_open() -> None:
    bill = billed(book(MARGIN + 'currency = "USD"'), energy=(electricity("100"),))
    assert amounts(bill)["margin"] == "-"


def test_a_margin_that_changes_inside_the_month_is_open() -> None:
    bill = billed(book(MARGIN + 'from = "2026-09-11"'), energy=(electricity("100"),))
    assert amounts(bill) == {"electricity": "100.00", "energy_cost": "-"}


def test_a_rate_without_a_unit_prices_one_unit_only() -> None:
    priced = book('[[rates]]\nname = "r"\nmeter = "storage"\nprice = "1"')
    bill = billed(priced, used("storage", "5", unit="MiB"), used("storage", "5", BETA, unit="GiB"))
    assert {line.amount for line in bill.lines} == {None}
    assert bill.lines[0].steps == ("storage was used in GiB, MiB: rate 'r' must name its unit",)


def test_fees_add_up() -> None:
    rows = "".join(f'[[fees]]\nname = "{name}"\nprice = "{price}"\n' for name, price in (("platform", 5), ("help", 7)))
    assert amounts(billed(book(rows), energy=(electricity("0"),))) == {
        "electricity": "0.00", "platform": "5.00", "help": "7.00",
    }  # fmt: skip
