"""Views with money: their sums are those of the bill, and unknown money is NULL with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.units import MS_PER_HOUR, UJ_PER_KWH, rfc3339
from tests.support.examples import examples
from tests.support.ledger_rows import HOUR, row, rows
from tests.warehouse.chargeback import test_matches_scalar_bill as scalar
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.results import ChargebackRow
from warehouse.sink.sink import Sink

_MONEY_VIEWS = ("usage_hour", "energy_hour", "tokens_hour", "efficiency_day")
_LAST_PLACE = Fraction(1, 10**18)
"""The last decimal of money in a view: a row is off by half of it at most."""


@pytest.fixture(scope="module")
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    with connect(chdb_dsn, database="of_views", readers=1) as warehouse:
        migrate(warehouse)
        accounts = [
            {"tenant": name, "team": team, "cost_centre": f"CC-{team}", "version": 1}
            for name, team in scalar.TEAMS.items()
        ]
        warehouse.insert_rows("tenants", accounts)
        warehouse.insert_rows("clusters", [{"cluster": "lab", "simulated": 1, "version": 1}])
        yield warehouse
        warehouse.command("DROP DATABASE of_views")


def sums(warehouse: Warehouse, view: str, by: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Sums of a view by group, with which of them are known, as docs/analysts.md adds up."""
    keys = ", ".join(by) or "1"
    unmetered = "missing = 'measured energy'"
    answer = warehouse.query(
        f"SELECT [{', '.join(f'toString({name})' for name in by)}]::Array(String) AS keys, count() AS rows, "
        "sum(toInt128(v.energy_uj)) AS energy_uj, groupUniqArrayIf(currency, currency != '') AS currencies, "
        "groupUniqArray(missing) AS reasons, max(v.simulated) AS simulated, "
        f"countIf(isNull(v.cost) AND NOT ({unmetered})) = 0 AND countIf(NOT ({unmetered})) > 0 AS cost_known, "
        f"countIf(isNull(v.gco2) AND NOT ({unmetered})) = 0 AND countIf(NOT ({unmetered})) > 0 AS gco2_known, "
        f"ifNull(sum(v.cost), 0) AS cost, ifNull(sum(v.gco2), 0) AS gco2 FROM {view} AS v GROUP BY {keys}"
    )
    return {tuple(group.pop("keys")): group for group in answer}


def check(part: dict[str, Any], bill: ChargebackRow) -> None:
    assert part["energy_uj"] == bill.energy_uj
    assert bool(part["simulated"]) == bill.simulated
    known = part["cost_known"] and len(part["currencies"]) <= 1
    assert (bill.cost is not None, bill.gco2 is not None) == (known, bool(part["gco2_known"]))
    for name in ("cost", "gco2"):
        if (amount := getattr(bill, name)) is not None:
            assert abs(Fraction(part[name]) - Fraction(amount)) <= Fraction(1, 10**6) + part["rows"] * _LAST_PLACE


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scalar._facts, st.lists(scalar._price, max_size=7))
def test_sums_over_a_view_are_the_bills(ledger: Warehouse, facts: list[Any], prices: list[Any]) -> None:
    """Prices change inside hours, overlap in scope, are negative or missing; some tokens have no measured energy."""
    prices = scalar._lay(ledger, facts, prices)
    period = Period(scalar.START_MS - scalar.STEPS * scalar.STEP_MS, scalar.END_MS + scalar.STEPS * scalar.STEP_MS)
    for by in ((), ("tenant",), ("team", "cluster")):
        page, total = chargeback_queries.chargeback_and_total(operator_reader(ledger), period, by)
        groups = sums(ledger, "usage_hour", by)
        for bill in page.rows if by else [total]:
            check(groups.pop(tuple(getattr(bill, name) for name in by)), bill)
        assert groups == {}
    exact = [scalar._due(fact, prices) for fact in facts]
    (overall,) = sums(ledger, "usage_hour", ()).values()
    if overall["cost_known"]:
        due = sum((part["cost"] or Fraction(0) for part in exact), Fraction(0))
        assert abs(Fraction(overall["cost"]) - due) <= overall["rows"] * _LAST_PLACE


def test_every_view_has_the_same_money(books: Warehouse) -> None:
    total = chargeback_queries.chargeback_total(operator_reader(books), Period(0, scalar.FOREVER_MS))
    with_tokens = [
        bill
        for bill in chargeback_queries.chargeback_all(
            operator_reader(books), Period(0, scalar.FOREVER_MS), ("tenant", "model")
        )
        if bill.tokens
    ]
    for view in _MONEY_VIEWS:
        (part,) = sums(books, view, ()).values()
        if view == "tokens_hour":  # Its rows have tokens or requests: not the energy that nobody asked for.
            assert part["energy_uj"] == sum(bill.energy_uj for bill in with_tokens)
        else:
            check(part, total)


def price(kind: str, value: str, start_ms: int = 0, end_ms: int = scalar.FOREVER_MS, cluster: str = "*") -> Price:
    return Price(kind, cluster, Decimal(value), start_ms, end_ms, "EUR" if kind == "energy" else "")  # type: ignore[arg-type]


def lay(warehouse: Warehouse, *windows: dict[str, Any]) -> None:
    sink = Sink(warehouse)
    table = rows("ledger", *windows)
    sink.write("ledger", table)
    sink.refresh_hours([window.get("window_start", HOUR) for window in windows], ["eu"], ["chat"])


KWH = UJ_PER_KWH


def test_quarter_hourly_prices_are_exact_to_the_window(warehouse: Warehouse) -> None:
    """An hour has a row for each price; its energy is that of the windows which began under it."""
    quarter = MS_PER_HOUR // 4
    lay(warehouse, *({"window_start": HOUR + n * quarter, "active_uj": KWH // 4} for n in range(4)))
    put_prices(warehouse, [price("pue", "1"), price("carbon", "100")])
    starts = [HOUR + n * quarter for n in range(4)]
    ends = [*starts[1:], scalar.FOREVER_MS]
    steps = enumerate(zip(starts, ends, strict=True))
    put_prices(warehouse, [price("energy", f"{n}.5", start, end) for n, (start, end) in steps])
    rows_ = warehouse.query("SELECT hour, tariff, energy_kwh, cost, missing FROM usage_hour ORDER BY tariff")
    assert [(r["tariff"], r["energy_kwh"], r["cost"], r["missing"]) for r in rows_] == [
        (Decimal(f"{n}.5"), Decimal("0.25"), Decimal(f"{n}.5") / 4, "") for n in range(4)
    ]
    assert warehouse.query("SELECT hour, cost, gco2 FROM energy_hour") == [
        {"hour": rows_[0]["hour"], "cost": Decimal(2), "gco2": Decimal(100)}
    ]


def test_a_price_that_changes_inside_a_stored_window_makes_money_unknown(warehouse: Warehouse) -> None:
    lay(warehouse, {"window_ms": MS_PER_HOUR, "active_uj": KWH, "prompt_tokens": 5})
    half = HOUR + MS_PER_HOUR // 2
    put_prices(warehouse, [price("pue", "1"), price("energy", "1", HOUR, half), price("energy", "2", half)])
    for view in _MONEY_VIEWS:
        lacks = warehouse.query(f"SELECT cost, gco2, missing FROM {view}")
        assert lacks == [{"cost": None, "gco2": None, "missing": lacks[0]["missing"]}], view
        assert set(lacks[0]["missing"].split(", ")) == {"carbon", "energy within windows"}, view


def test_a_missing_price_is_named_and_the_rest_is_known(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": KWH})
    put_prices(warehouse, [price("energy", "0.3"), price("pue", "1.5")])
    (answer,) = warehouse.query("SELECT facility_kwh, cost, gco2, missing FROM usage_hour")
    assert answer == {"facility_kwh": Decimal("1.5"), "cost": Decimal("0.45"), "gco2": None, "missing": "carbon"}


def test_a_month_of_more_energy_than_64_bits_hold_is_summed(warehouse: Warehouse) -> None:
    huge = 5 * 10**18
    lay(warehouse, *({"window_start": HOUR + n * MS_PER_HOUR, "active_uj": huge} for n in range(4)))
    put_prices(warehouse, [price("energy", "0.3"), price("pue", "1.5"), price("carbon", "400")])
    for view in _MONEY_VIEWS:
        if view == "tokens_hour":
            continue
        (answer,) = warehouse.query(f"SELECT sum(energy_uj) AS uj, sum(cost) AS cost FROM {view}")
        assert answer["uj"] == 4 * huge
        assert abs(Fraction(answer["cost"]) - Fraction(4 * huge, KWH) * Fraction(45, 100)) < Fraction(1, 10**15)


def test_a_tenant_that_moves_inside_an_hour_is_in_both_teams(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": KWH}, {"window_start": HOUR + MS_PER_HOUR // 2, "active_uj": 3 * KWH})
    put_tenants(
        warehouse, [Tenant("acme", "search", "CC-1"), Tenant("acme", "ads", "CC-2", valid_from_ms=HOUR + 600_000)]
    )
    put_prices(warehouse, [price("energy", "1"), price("pue", "1"), price("carbon", "1")])
    teams = warehouse.query("SELECT team, cost_centre, sum(cost) AS cost FROM usage_hour GROUP BY ALL ORDER BY team")
    assert teams == [
        {"team": "ads", "cost_centre": "CC-2", "cost": Decimal(3)},
        {"team": "search", "cost_centre": "CC-1", "cost": Decimal(1)},
    ]


def test_a_request_has_the_money_of_its_windows(warehouse: Warehouse) -> None:
    half = HOUR + 30_000
    for window, uj in ((HOUR, KWH), (half, 2 * KWH)):
        warehouse.insert(
            "request_energy",
            row("request_energy", request_id="r", window_start=window, window_ms=10_000, active_uj=uj, prompt_tokens=5),
        )
    put_prices(warehouse, [price("energy", "1", HOUR, half), price("energy", "2", half), price("pue", "1.5")])
    (answer,) = warehouse.query("SELECT windows, energy_uj, cost, gco2, currency, missing FROM requests_final")
    money = {"cost": Decimal("7.5"), "gco2": None, "currency": "EUR", "missing": "carbon"}
    assert answer == {"windows": 2, "energy_uj": 3 * KWH, **money}


def test_the_price_of_a_cluster_goes_before_that_of_all(warehouse: Warehouse) -> None:
    put_prices(
        warehouse,
        [price("energy", "1"), price("energy", "2", HOUR, HOUR + MS_PER_HOUR, "eu"), price("pue", "1.5")],
    )
    steps = warehouse.query(
        "SELECT cluster, valid_from, tariff, tariff_until FROM price_steps WHERE valid_from < '2100-01-01' ORDER BY ALL"
    )
    assert [(s["cluster"], rfc3339(int(s["valid_from"].timestamp() * 1000)), s["tariff"]) for s in steps] == [
        ("*", rfc3339(0), Decimal(1)),
        ("eu", rfc3339(0), Decimal(1)),
        ("eu", rfc3339(HOUR), Decimal(2)),
        ("eu", rfc3339(HOUR + MS_PER_HOUR), Decimal(1)),
    ]


def test_every_column_of_a_view_says_its_meaning(warehouse: Warehouse) -> None:
    silent = warehouse.query(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = '' "
        "AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View') "
        "AND table != 'requests'"
    )
    assert silent == []
