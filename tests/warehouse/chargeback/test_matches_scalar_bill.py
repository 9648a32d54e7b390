"""Bills against a slow, scalar bill of the same rows and prices, window by window, that shares no code with the SQL.

Prices change at any window of the period, overlap in scope, are negative, missing, or in several currencies. Some
tokens have no measured energy.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.units import MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from tests.support.examples import examples
from warehouse.chargeback import chargeback_queries
from warehouse.chargeback.pricing import ClusterPrices, PricedPart
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import list_prices
from warehouse.results import ChargebackRow
from warehouse.sink.sink import Sink

START_MS = epoch_ms("2026-10-30T22:00:00Z")
HOURS = 30
END_MS = START_MS + HOURS * MS_PER_HOUR
"""Three days, one of them whole, and two months."""
UNMETERED = ""
"""Hardware type of tokens without measured energy."""
NAMES = {
    "cluster": ("eu", "us", "lab"),
    "tenant": ("acme", "globex", "t-3"),
    "model": ("m1", "m2"),
    "hardware": ("H100", "B200", UNMETERED),
}
TEAMS = {"acme": "search", "globex": "chat", "t-3": "chat"}
FOREVER_MS = epoch_ms("2200-01-01T00:00:00Z")

STEP_MS = 450_000
"""Length of the windows: the eighth part of an hour."""
STEPS = HOURS * MS_PER_HOUR // STEP_MS
_step = st.integers(-2, STEPS + 1)
_uj = st.sampled_from([0, 1, 7, 3_600_000_000_001, 2**52])
_facts = st.lists(
    st.tuples(_step, *(st.sampled_from(NAMES[name]) for name in NAMES), _uj, _uj, _uj, st.integers(0, 10**9)),
    min_size=1, max_size=25, unique_by=lambda fact: fact[:5],
).map(lambda facts: [(*f[:5], 0, 0, 0, f[8]) if f[4] == UNMETERED else f for f in facts])  # fmt: skip
_price = st.tuples(
    st.sampled_from(["energy", "pue", "carbon"]), st.sampled_from(["*", "eu", "us"]),
    st.integers(-3, STEPS), st.integers(1, STEPS) | st.integers(1, 4) | st.none(),
    st.decimals("-5", "5", places=9), st.sampled_from(["EUR", "EUR", "USD"]),
)  # fmt: skip
_BY = [
    ("tenant",),
    (),
    ("team", "model"),
    ("hour", "cluster"),
    ("day", "tenant"),
    ("month",),
    ("cost_centre", "hardware", "tenant"),
]


@pytest.fixture(scope="module")
def books(chdb_dsn: str) -> Iterator[Warehouse]:
    with connect(chdb_dsn, database="reference", readers=1) as warehouse:
        migrate(warehouse)
        tenants = [
            {"tenant": name, "team": team, "cost_centre": f"CC-{team}", "version": 1} for name, team in TEAMS.items()
        ]
        warehouse.insert_rows("tenants", tenants)
        warehouse.insert_rows("clusters", [{"cluster": "lab", "simulated": 1, "version": 1}])
        yield warehouse
        warehouse.command("DROP DATABASE reference")


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_facts, st.lists(_price, max_size=7), st.sampled_from(_BY), st.integers(0, 9), st.integers(0, 9))
def test_a_bill_equals_the_scalar_bill(
    books: Warehouse, facts: list[Any], prices: list[Any], by: tuple[str, ...], begins: int, ends: int
) -> None:
    """Periods begin and end within an hour, too, and end within a window."""
    prices = _lay(books, facts, prices)
    period = Period(START_MS + begins * STEP_MS, END_MS - ends * STEP_MS + ends % 2)
    page, total = chargeback_queries.chargeback_and_total(operator_reader(books), period, by=by)
    due = [_due(fact, prices) for fact in facts if begins <= fact[0] < STEPS - ends + ends % 2]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in due:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    assert [tuple(getattr(row, name) for name in by) for row in page.rows] == sorted(groups) or not by
    for row in page.rows:
        _check(row, groups[tuple(getattr(row, name) for name in by)] if due else [])
    _check(total, due)
    assert total == chargeback_queries.chargeback_total(operator_reader(books), period)
    if total.cost is not None:
        assert total.cost == _rounded(sum(row["cost"] or 0 for row in due))
        assert sum(row.cost or 0 for row in page.rows) == total.cost
    if total.gco2 is not None:
        assert sum(row.gco2 or 0 for row in page.rows) == total.gco2 == _rounded(sum(row["gco2"] or 0 for row in due))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_facts, st.lists(_price, max_size=7), st.sampled_from(_BY))
def test_python_prices_rows_as_sql_does(
    books: Warehouse, facts: list[Any], prices: list[Any], by: tuple[str, ...]
) -> None:
    """The two places where energy becomes money: chargeback.sql and pricing.ClusterPrices, row by row."""
    prices = _lay(books, facts, prices)
    reader = operator_reader(books)
    page, total = chargeback_queries.chargeback_and_total(reader, Period(START_MS, END_MS), by=by)
    rows = [(fact, _due(fact, prices)) for fact in facts if 0 <= fact[0] < STEPS]
    keys = sorted({tuple(row[name] for name in by) for _, row in rows})
    parts = [
        PricedPart(
            group=keys.index(tuple(row[name] for name in by)),
            cluster=row["cluster"],
            from_ms=START_MS + fact[0] * STEP_MS,
            until_ms=START_MS + (fact[0] + 1) * STEP_MS,
            energy_uj=row["energy_uj"],
            metered=row["metered"],
        )
        for fact, row in rows
    ]
    priced = ClusterPrices(list_prices(reader)).price(parts, len(keys))
    nothing = (None, None)  # A bill of no row: unknown, not 0.
    assert (total.cost, total.gco2) == ((priced.cost, priced.gco2) if rows else nothing)
    assert (priced.missing, priced.mixed_currencies) == (total.missing_prices, total.mixed_currencies)
    if total.cost is not None and keys:
        assert priced.costs == [row.cost for row in page.rows]
        assert priced.currency == total.currency
    if total.gco2 is not None and keys:
        assert priced.grams == [row.gco2 for row in page.rows]


def _lay(books: Warehouse, facts: list[Any], prices: list[Any]) -> list[dict[str, Any]]:
    """Store rows in all tables, and prices; of prices of one scope, only those without overlap, as `price` allows."""
    for table in ("ledger_day", "ledger_hour", "ledger", "prices"):
        books.command(f"TRUNCATE TABLE {table}")
    rows = [
        {
            "window_start": START_MS + step * STEP_MS, "cluster": cluster, "workload": "w", "hardware": hardware,
            "model": model, "tenant": tenant, "active_uj": active, "idle_uj": idle, "unallocated_uj": unallocated,
            "prompt_tokens": tokens, "method": 3 if hardware == UNMETERED else 0, "window_ms": STEP_MS, "final": 1,
        }
        for step, cluster, tenant, model, hardware, active, idle, unallocated, tokens in facts
    ]  # fmt: skip
    values = ", ".join(f"({', '.join(_literal(name, value) for name, value in row.items())})" for row in rows)
    books.command(f"INSERT INTO ledger ({', '.join(rows[0])}) VALUES {values}")
    Sink(books).refresh_hours([row["window_start"] for row in rows], NAMES["cluster"], ["w"])
    valid_prices: list[dict[str, Any]] = []
    for kind, scope, begins, lasts, value, currency in prices:
        price = {
            "kind": kind, "cluster": scope, "valid_from": START_MS + begins * STEP_MS, "value": value,
            "valid_to": FOREVER_MS if lasts is None else START_MS + (begins + lasts) * STEP_MS,
            "currency": currency if kind == "energy" else "", "version": 1,
        }  # fmt: skip
        same = [k for k in valid_prices if (k["kind"], k["cluster"]) == (kind, scope)]
        clash = any(k["valid_from"] < price["valid_to"] and price["valid_from"] < k["valid_to"] for k in same)
        if not clash:
            valid_prices.append(price)
    for price in valid_prices:
        columns = ", ".join(_literal(name, value) for name, value in price.items())
        books.command(f"INSERT INTO prices ({', '.join(price)}) VALUES ({columns})")
    return valid_prices


def _literal(name: str, value: Any) -> str:
    if name in ("window_start", "valid_from", "valid_to"):
        return f"fromUnixTimestamp64Milli({value}, 'UTC')"
    return str(value) if isinstance(value, (int, Decimal)) else f"'{value}'"


def _due(fact: Any, prices: list[dict[str, Any]]) -> dict[str, Any]:
    """One row's energy and exact money, None where a price is missing."""
    step, cluster, tenant, model, hardware, active, idle, unallocated, tokens = fact
    at = START_MS + step * STEP_MS
    energy = active + idle + unallocated

    def price(kind: str) -> dict[str, Any] | None:
        valid = [p for p in prices if p["kind"] == kind and p["valid_from"] <= at < p["valid_to"]]
        mine = [p for p in valid if p["cluster"] == cluster] or [p for p in valid if p["cluster"] == "*"]
        return mine[0] if mine else None

    energy_price, pue, carbon = price("energy"), price("pue"), price("carbon")
    kwh = Fraction(energy, UJ_PER_KWH)
    facility = kwh * Fraction(pue["value"]) if pue else (None if energy else Fraction(0))

    def money(of: dict[str, Any] | None) -> Fraction | None:
        if hardware == UNMETERED:
            return None
        if not energy:
            return Fraction(0)
        return facility * Fraction(of["value"]) if of and facility is not None else None

    day = (at // 86_400_000 - epoch_ms("2026-10-01") // 86_400_000) + 1
    date = f"2026-10-{day:02d}" if day <= 31 else f"2026-11-{day - 31:02d}"
    applied = {"energy": energy_price, "pue": pue, "carbon": carbon}
    return {
        "tenant": tenant, "team": TEAMS[tenant], "cost_centre": f"CC-{TEAMS[tenant]}", "cluster": cluster,
        "model": model, "hardware": hardware,
        "hour": f"{date}T{at // MS_PER_HOUR % 24:02d}:00:00Z", "day": date, "month": date[:7],
        "metered": hardware != UNMETERED, "unmetered_tokens": tokens if hardware == UNMETERED else 0,
        "energy_uj": energy, "active_uj": active, "idle_uj": idle, "tokens": tokens,
        "cost": money(energy_price), "gco2": money(carbon),
        "currency": energy_price["currency"] if energy_price and energy else "",
        "missing": {(kind, cluster) for kind, applied_price in applied.items() if energy and not applied_price},
    }  # fmt: skip


def _check(row: ChargebackRow, due: list[dict[str, Any]]) -> None:
    for name in ("energy_uj", "active_uj", "idle_uj", "tokens", "unmetered_tokens"):
        assert getattr(row, name) == sum(part[name] for part in due)
    assert {(m.kind, m.cluster) for m in row.missing_prices} == set().union(*(part["missing"] for part in due))
    assert row.simulated == any(part["cluster"] == "lab" for part in due)
    currencies = {part["currency"] for part in due} - {""}
    assert row.mixed_currencies == (len(currencies) > 1)
    assert row.currency == min(currencies, default="")
    metered = [part for part in due if part["metered"]]
    for name, comparable in (("cost", len(currencies) <= 1), ("gco2", True)):
        amount, exact = getattr(row, name), [part[name] for part in metered]
        if not metered or not comparable or None in exact:
            assert amount is None
        else:
            assert amount is not None and abs(Fraction(amount) - sum(exact)) < Fraction(1, 10**6)
    assert (row.kwh is None) == (not metered)


def _rounded(exact: Fraction | int) -> Decimal:
    exact = Fraction(exact)
    return Decimal((2 * exact.numerator * 10**6 + exact.denominator) // (2 * exact.denominator)).scaleb(-6)
