"""The price book's file: what is believed, and what is refused with its place and the fix."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.book_file import MAX_BYTES, parse_book
from billing.places import Place
from billing.price_book import END_MS, Label
from contracts.errors import BadInput
from contracts.units import epoch_ms

HEAD = 'currency = "EUR"\n'
RATE = '[[rates]]\nname = "r"\nmeter = "calls"\n'

REFUSED = [
    ("", "currency", "missing"),
    ('currency = "eur"', "currency", "pattern"),
    ('currency = "EUR"\ntime_zone = "Berlin"', "time_zone", "Europe/Berlin"),
    ("currency =", "price book", "Invalid value"),
    (f"{HEAD}tarifs = []", "tarifs", "no such field"),
    (f"{HEAD}{RATE}price = 0.1", "rates[0].price", "in quotes"),
    (f"{HEAD}{RATE}price = true", "rates[0].price", "in quotes"),
    (f'{HEAD}{RATE}price = "0,1"', "rates[0].price", "plain decimal"),
    (f'{HEAD}{RATE}price = "1e3"', "rates[0].price", "plain decimal"),
    (f'{HEAD}{RATE}price = "NaN"', "rates[0].price", "plain decimal"),
    (f'{HEAD}{RATE}price = "0.0000000000001"', "rates[0].price", "12 decimals"),
    (f"{HEAD}{RATE}", "rates[0].price", "either a price or tiers"),
    (f'{HEAD}{RATE}price = "1"\nmode = "graduated"', "rates[0].mode", "tiers are for"),
    (f'{HEAD}{RATE}mode = "volume"\ntiers = [{{price = "1", up_to = "5"}}]', "rates[0].tiers", "no end"),
    (f'{HEAD}{RATE}mode = "volume"\ntiers = [{{price = "1"}}, {{price = "2"}}]', "rates[0].tiers", "up_to"),
    (
        f'{HEAD}{RATE}mode = "volume"\ntiers = [{{price="1",up_to="5"}},{{price="2",up_to="5"}},{{price="3"}}]',
        "rates[0].tiers", "above",
    ),
    (f'{HEAD}{RATE}price = "1"\nper = 0', "rates[0].per", "more than 0"),
    (f'{HEAD}{RATE}price = "1"\nscope = {{ tennant = "a" }}', "rates[0].scope", "tenant, team"),
    (f'{HEAD}{RATE}price = "1"\nfrom = "2026-13-01"', "rates[0].from", "RFC 3339"),
    (f'{HEAD}{RATE}price = "1"\nfrom = "2026-02-01"\nto = "2026-01-01"', "rates[0].to", "after `from`"),
    (f'{HEAD}{RATE}price = "1"\nfrom = "2026-02-01T10:07:00"', "rates[0].from", "a full quarter of an hour"),
    (f'{HEAD}{RATE}price = "1"\nwhen = {{ hours = ["8-25"] }}', "rates[0].when.hours", "08-20"),
    (f'{HEAD}{RATE}price = "1"\nwhen = {{ days = ["monday"] }}', "rates[0].when.days[0]", "mon"),
    (f'{HEAD}[[rates]]\nname = "r"\nmeter = "months"\nprice = "1"', "rates[0].meter", "[[fees]]"),
    (f'{HEAD}[[rates]]\nname = "r"\nmeter = "energy"\nprice = "1"', "rates[0].meter", "energy_cost"),
    (f'{HEAD}[[rates]]\nname = "r"\nmeter = "requests"\nunit = "call"\nprice = "1"', "rates[0].unit", "request"),
    (f'{HEAD}[[fees]]\nname = "f"\nprice = "1"\nscope = {{ cluster = "eu" }}', "fees[0].scope", "tenant"),
    (f'{HEAD}[[credits]]\nname = "c"\namount = "5"', "credits[0].scope", "name the tenant"),
    (f'{HEAD}[[credits]]\nname = "c"\namount = "-5"\nscope = {{ tenant = "a" }}', "credits[0].amount", "more than 0"),
    (f'{HEAD}[[discounts]]\nname = "d"\npercent = "101"', "discounts[0].percent", "0 to 100"),
    (f'{HEAD}[[compute_units]]\nname = "requests"\nsum = {{ calls = 1 }}', "compute_units[0].name", "another"),
    (f'{HEAD}[[compute_units]]\nname = "u"\nsum = {{ u = 1 }}', "compute_units[0].sum", "no other"),
    (f'{HEAD}{RATE}price = "1"\n{RATE}price = "2"', "rates.name", "two rows have this name"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "fix"), REFUSED)
def test_a_wrong_book_is_refused_with_the_place_and_the_fix(text: str, field: str, fix: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_book(text)
    assert refused.value.field == field
    assert fix in str(refused.value)


def test_a_book_past_the_limit_is_refused() -> None:
    with pytest.raises(BadInput, match=str(MAX_BYTES)):
        parse_book("#" * (MAX_BYTES + 1))


TWO_PRICES = [
    ('to = "2026-06-01"', 'from = "2026-05-01"', "from 2026-05-01T00:00:00.000Z to 2026-06-01T00:00:00.000Z"),
    ('when = { hours = ["08-20"] }', 'when = { hours = ["19-23"], days = ["sun"] }', "such as 19:00 on sun"),
    ('scope = { cluster = "eu" }', 'scope = { cluster = "eu" }', "calls for cluster eu"),
]


@pytest.mark.parametrize(("one", "other", "interval"), TWO_PRICES)
def test_two_prices_of_one_meter_are_refused_with_the_interval_at_fault(one: str, other: str, interval: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_book(f'{HEAD}{RATE}price = "1"\n{one}\n[[rates]]\nname = "s"\nmeter = "calls"\nprice = "2"\n{other}')
    assert interval in str(refused.value)


def _versions(first_to: str, then_from: str, beside: str = "") -> str:
    return (
        f'{HEAD}{RATE}price = "1"\nscope = {{ cluster = "eu" }}\nto = "{first_to}"\n'
        f'{RATE}price = "2"\nscope = {{ cluster = "eu" }}\nfrom = "{then_from}"\n{beside}'
    )


def test_a_gap_between_two_versions_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no price from 2026-05-01T00:00:00\.000Z to 2026-06-01"):
        parse_book(_versions("2026-05-01", "2026-06-01"))


def test_a_wider_rate_fills_a_gap() -> None:
    beside = '[[rates]]\nname = "all"\nmeter = "calls"\nprice = "3"'
    assert len(parse_book(_versions("2026-05-01", "2026-06-01", beside)).rates) == 3


def test_a_rate_for_another_place_fills_no_gap() -> None:
    beside = '[[rates]]\nname = "us"\nmeter = "calls"\nprice = "3"\nscope = { cluster = "us" }'
    with pytest.raises(BadInput, match="no price"):
        parse_book(_versions("2026-05-01", "2026-06-01", beside))


def test_times_without_an_offset_are_local_in_the_books_zone() -> None:
    book = parse_book(f'{HEAD}time_zone = "Europe/Berlin"\n{RATE}price = "1"\nfrom = "2026-07-01"')
    assert (book.rates[0].from_ms, book.rates[0].to_ms) == (epoch_ms("2026-06-30T22:00Z"), END_MS)


def test_days_of_toml_are_days() -> None:
    book = parse_book(f'{HEAD}{RATE}price = "1"\nfrom = 2026-07-01\nto = 2026-08-01T00:00:00Z')
    assert (book.rates[0].from_ms, book.rates[0].to_ms) == (epoch_ms("2026-07-01"), epoch_ms("2026-08-01"))


def test_numbers_are_exact() -> None:
    book = parse_book(f'{HEAD}{RATE}price = "0.000000000001"\nper = 1_000_000')
    assert (book.rates[0].tiers[0].price, book.rates[0].per) == (Decimal("0.000000000001"), Decimal(1_000_000))


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault() -> None:
    assert parse_book("\ufeff" + HEAD.replace("\n", "\r\n")).currency == "EUR"


def test_a_label_adds_to_what_the_ledger_knows() -> None:
    rows = '[[labels]]\nworkload = "train-*"\nworkload_type = "training"\n[[labels]]\nregion = "eu-central-1"\n'
    book = parse_book(HEAD + rows)
    assert book.labels[0] == Label(workload="train-*", workload_type="training")
    assert book.place(Place(workload="train-7")) == Place(
        workload="train-7", workload_type="training", region="eu-central-1"
    )
    assert book.place(Place(workload="chat")).workload_type == ""
