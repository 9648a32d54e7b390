"""Chargeback: groups, money, missing prices, pages."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadQuery
from contracts.units import MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import HOUR, rows
from warehouse.chargeback import chargeback_queries
from warehouse.chargeback.series import read_measures
from warehouse.client import Warehouse
from warehouse.cursors import PageRequest, write_cursor
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices, remove_price
from warehouse.sink.sink import Sink

OCTOBER = Period(epoch_ms("2026-10-01"), seed.END_MS)
REAL = Period(seed.REAL_START_MS, seed.END_MS)


def test_groups_sum_to_the_total_in_every_measure(books: Warehouse) -> None:
    total = chargeback_queries.chargeback_total(operator_reader(books), OCTOBER)
    for by in (["tenant"], ["team", "model"], ["cluster", "hardware"], ["day", "tenant"], ["month", "cost_centre"]):
        rows = chargeback_queries.chargeback_all(operator_reader(books), OCTOBER, by=by)
        for measure in ("energy_uj", "active_uj", "idle_uj", "unallocated_uj", "tokens", "requests", "cost", "gco2"):
            assert sum(getattr(row, measure) for row in rows) == getattr(total, measure), (by, measure)


def test_energy_is_that_of_the_ledger(books: Warehouse) -> None:
    held = books.query(
        "SELECT sum(toInt128(active_uj + idle_uj + unallocated_uj)) AS uj FROM ledger FINAL WHERE final = 1"
    )
    assert (
        chargeback_queries.chargeback_total(operator_reader(books), Period(0, seed.END_MS)).energy_uj == held[0]["uj"]
    )


def test_whole_hours_and_the_ledger_itself_agree(books: Warehouse) -> None:
    hourly = chargeback_queries.chargeback(operator_reader(books), REAL, by=["tenant", "model"]).rows
    # A period that is no whole number of hours is read from the windows: one more empty millisecond forces that.
    windows = chargeback_queries.chargeback(
        operator_reader(books), Period(REAL.start, REAL.end + 1), by=["tenant", "model"]
    ).rows
    assert hourly == windows


def test_a_part_of_an_hour_has_only_its_windows(books: Warehouse) -> None:
    start = REAL.start + 20_000
    row = chargeback_queries.chargeback_total(
        operator_reader(books), Period(start, start + 10_000), filter=Filter(tenant="acme")
    )
    ledger = books.query(
        "SELECT sum(active_uj + idle_uj) AS uj FROM ledger FINAL WHERE tenant = 'acme' "
        "AND toUnixTimestamp64Milli(window_start) = {at:Int64}",
        at=start,
    )
    assert row.energy_uj == ledger[0]["uj"] > 0


def test_cost_is_facility_energy_times_the_clusters_own_tariff(books: Warehouse) -> None:
    row = chargeback_queries.chargeback_total(operator_reader(books), REAL, filter=Filter(cluster="eu-1"))
    exact = Fraction(row.energy_uj, UJ_PER_KWH) * Fraction("1.25") * Fraction("0.313")
    assert row.cost == round_half_up(exact)
    assert row.currency == "USD"
    assert row.gco2 == round_half_up(Fraction(row.energy_uj, UJ_PER_KWH) * Fraction("1.25") * Fraction("342.5"))
    assert abs(Fraction(row.kwh_facility or 0) - Fraction(row.kwh or 0) * Fraction("1.25")) < Fraction(1, 10**8)


def test_a_cluster_without_its_own_tariff_pays_the_default(books: Warehouse) -> None:
    row = chargeback_queries.chargeback_total(operator_reader(books), OCTOBER, filter=Filter(cluster="sim-1"))
    assert row.cost == round_half_up(Fraction(row.energy_uj, UJ_PER_KWH) * Fraction("1.25") * Fraction("0.12"))


def test_a_tariff_change_applies_from_its_hour_on(warehouse: Warehouse) -> None:
    seed.lay(warehouse, prices=False)
    middle = seed.REAL_START_MS + MS_PER_HOUR
    put_prices(
        warehouse,
        [
            Price("energy", "*", Decimal("1"), 0, middle, currency="EUR"),
            Price("energy", "*", Decimal("3"), middle, currency="EUR"),
            Price("pue", "*", Decimal("1")),
        ],
    )
    first, second = chargeback_queries.chargeback(
        operator_reader(warehouse), REAL, by=["hour"], filter=Filter(cluster="eu-1")
    ).rows
    for row, tariff in ((first, 1), (second, 3)):
        exact = tariff * Fraction(row.energy_uj, UJ_PER_KWH)
        assert row.cost is not None and abs(Fraction(row.cost) - exact) < Fraction(1, 10**6)


def test_a_missing_price_is_named_and_never_zero(warehouse: Warehouse) -> None:
    seed.lay(warehouse, prices=False)
    put_prices(warehouse, [Price("energy", "eu-1", Decimal("0.3"), currency="USD"), Price("pue", "*", Decimal("1.2"))])
    priced, unpriced = chargeback_queries.chargeback(operator_reader(warehouse), OCTOBER, by=["cluster"]).rows
    assert priced.cost is not None and priced.gco2 is None
    assert [(m.kind, m.cluster) for m in priced.missing_prices] == [("carbon", "eu-1")]
    assert unpriced.cost is None
    assert [(m.kind, m.cluster) for m in unpriced.missing_prices] == [("carbon", "sim-1"), ("energy", "sim-1")]
    assert chargeback_queries.chargeback_total(operator_reader(warehouse), OCTOBER).cost is None


@pytest.mark.parametrize("by", [[], ["tenant"]])
def test_a_bill_without_rows_costs_an_unknown_amount(books: Warehouse, by: list[str]) -> None:
    page, total = chargeback_queries.chargeback_and_total(
        operator_reader(books), OCTOBER, by, Filter(cluster="none-such")
    )
    assert (page.rows, total.energy_uj, total.tokens) == ([], 0, 0)
    assert (total.kwh_facility, total.cost, total.gco2, total.missing_prices) == (None, None, None, [])


def test_measured_zero_energy_costs_nothing(warehouse: Warehouse) -> None:
    warehouse.insert("ledger", rows("ledger", {"prompt_tokens": 7, "requests": 1}))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])
    (row,) = chargeback_queries.chargeback(operator_reader(warehouse), Period(HOUR, HOUR + MS_PER_HOUR)).rows
    assert (row.energy_uj, row.kwh_facility, row.cost, row.gco2) == (0, 0, 0, 0)


def test_currencies_are_not_added(warehouse: Warehouse) -> None:
    seed.lay(warehouse, prices=False)
    put_prices(
        warehouse,
        [
            Price("energy", "eu-1", Decimal("0.3"), currency="EUR"),
            Price("energy", "sim-1", Decimal("0.1"), currency="USD"),
            Price("pue", "*", Decimal("1.2")),
        ],
    )
    total = chargeback_queries.chargeback_total(operator_reader(warehouse), OCTOBER)
    assert total.cost is None and total.mixed_currencies
    assert [
        row.currency for row in chargeback_queries.chargeback(operator_reader(warehouse), OCTOBER, by=["cluster"]).rows
    ] == [
        "EUR",
        "USD",
    ]


@settings(max_examples=12, deadline=None)
@given(
    tariff=st.decimals("-5", "5", places=9),
    pue=st.decimals("1", "2", places=9),
    by=st.sampled_from([["tenant"], ["hour", "tenant"], ["model", "hardware", "workload"]]),
)
def test_rows_sum_to_the_rounded_exact_cost_at_any_price(
    books: Warehouse, tariff: Decimal, pue: Decimal, by: list[str]
) -> None:
    """With negative tariffs too, as on day-ahead markets."""
    own = Price("pue", "eu-1", pue)
    put_prices(books, [Price("energy", "eu-1", tariff, epoch_ms("2026-10-01"), currency="USD"), own])
    try:
        rows = chargeback_queries.chargeback_all(operator_reader(books), REAL, by=by, filter=Filter(cluster="eu-1"))
    finally:
        put_prices(books, seed.PRICES)
        remove_price(books, own.kind, own.cluster, own.valid_from_ms)
    exact = Fraction(sum(r.energy_uj for r in rows), UJ_PER_KWH) * Fraction(pue) * Fraction(tariff)
    assert sum(r.cost or 0 for r in rows) == round_half_up(exact)
    for row in rows:
        mine = Fraction(row.energy_uj, UJ_PER_KWH) * Fraction(pue) * Fraction(tariff)
        assert row.cost is not None and abs(Fraction(row.cost) - mine) < Fraction(1, 10**6)


def test_simulated_energy_is_marked_and_measured_energy_is_not(books: Warehouse) -> None:
    marked = {
        row.cluster: row.simulated
        for row in chargeback_queries.chargeback(operator_reader(books), OCTOBER, by=["cluster"]).rows
    }
    assert marked == {"eu-1": False, "sim-1": True}


def test_joules_per_token_is_null_without_tokens(books: Warehouse) -> None:
    rows = {row.tenant: row for row in chargeback_queries.chargeback(operator_reader(books), REAL, by=["tenant"]).rows}
    assert rows["__unallocated__"].joules_per_token is None
    acme = rows["acme"]
    assert acme.joules_per_token == acme.energy_uj / 1e6 / acme.tokens
    assert acme.joules_per_output_token == acme.energy_uj / 1e6 / acme.completion_tokens


def test_a_tenant_filter_gives_only_that_tenants_rows(books: Warehouse) -> None:
    rows = chargeback_queries.chargeback(
        operator_reader(books), OCTOBER, by=["team", "tenant"], filter=Filter(tenant="initech")
    ).rows
    assert [(r.team, r.tenant) for r in rows] == [("chatbots", "initech")]


def test_pages_follow_each_other_without_gap_or_overlap(books: Warehouse) -> None:
    full = chargeback_queries.chargeback(
        operator_reader(books), OCTOBER, by=["day", "tenant"], page=PageRequest(limit=10_000)
    ).rows
    parts, cursor = [], None
    while True:
        page = chargeback_queries.chargeback(
            operator_reader(books), OCTOBER, by=["day", "tenant"], page=PageRequest(limit=7, cursor=cursor)
        )
        parts += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert parts == full


def test_a_cursor_of_another_query_is_refused(books: Warehouse) -> None:
    cursor = chargeback_queries.chargeback(
        operator_reader(books), OCTOBER, by=["tenant"], page=PageRequest(limit=1)
    ).next
    with pytest.raises(BadQuery, match="cursor"):
        chargeback_queries.chargeback(
            operator_reader(books), OCTOBER, by=["model"], page=PageRequest(limit=1, cursor=cursor)
        )


@pytest.mark.parametrize(
    "body",
    ["[" * 3_000, '["x",["\\ud800"]]', '["x",[1e400]]', "{}", "7", '["x",["a"],3]', '["x",[9999999999999999999999]]'],
)
def test_a_crafted_cursor_is_refused(books: Warehouse, body: str) -> None:
    digest = write_cursor(("chargeback", OCTOBER, "tenant", Filter()), [""])
    known = json.loads(base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)))[0]
    crafted = base64.urlsafe_b64encode(body.replace('"x"', f'"{known}"').encode()).decode().rstrip("=")
    with pytest.raises(BadQuery, match="cursor"):
        chargeback_queries.chargeback(operator_reader(books), OCTOBER, by=["tenant"], page=PageRequest(cursor=crafted))


@given(st.text(max_size=40))
def test_any_other_text_is_no_cursor(books: Warehouse, text: str) -> None:
    if text:
        with pytest.raises(BadQuery, match="cursor"):
            chargeback_queries.chargeback(operator_reader(books), OCTOBER, by=["tenant"], page=PageRequest(cursor=text))


@pytest.mark.parametrize(
    ("by", "limit"), [(["planet"], 10), (["tenant; DROP TABLE ledger"], 10), (["tenant"], 0), (["tenant"], 10_001)]
)
def test_an_invalid_query_is_refused(books: Warehouse, by: list[str], limit: int) -> None:
    with pytest.raises(BadQuery):
        chargeback_queries.chargeback(operator_reader(books), OCTOBER, by=by, page=PageRequest(limit=limit))


def test_a_series_distinguishes_idle_steps_from_unknown_ones(books: Warehouse) -> None:
    measure = "joules_per_token"
    book = read_measures(operator_reader(books), OCTOBER, [measure], by="tenant", freq="hour")[measure]
    assert {value for _, value in book.points["__unallocated__"]} == {None}
    assert len(book.steps) == 31 * 24
    assert book.simulated == {"globex", "initech"}
    assert [t for t, _ in book.points["acme"]] == [seed.REAL_START_MS, seed.REAL_START_MS + MS_PER_HOUR]


def test_an_empty_ledger_has_an_empty_bill(warehouse: Warehouse) -> None:
    assert chargeback_queries.chargeback(operator_reader(warehouse), OCTOBER).rows == []
    total = chargeback_queries.chargeback_total(operator_reader(warehouse), OCTOBER)
    assert (total.energy_uj, total.cost, total.joules_per_token) == (0, None, None)


def round_half_up(exact: Fraction) -> Decimal:
    return Decimal((2 * exact.numerator * 10**6 + exact.denominator) // (2 * exact.denominator)).scaleb(-6)
