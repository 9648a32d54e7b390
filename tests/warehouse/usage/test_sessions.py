"""An agent's session: its requests' joules and cost, its tools, its spend, its steps."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.errors import BadQuery
from contracts.units import MS_PER_HOUR
from producers.runtime.batching import UsageRow
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import rows as stored
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices
from warehouse.sink.sink import Sink
from warehouse.usage.sessions import CurrencyAmount, MeterTotal, session, sessions

REAL = Period(seed.REAL_START_MS, seed.END_MS)
EVER = Period(0, seed.END_MS + 1)


def test_a_session_has_its_requests_and_all_metered_usage(books: Warehouse) -> None:
    result = session(operator_reader(books), "s-1", tenant="acme")
    requests = ledger_queries.requests(
        operator_reader(books), REAL, filter=Filter(tenant="acme", session_id="s-1"), page=PageRequest(limit=100)
    ).rows
    assert result.energy_uj == sum(r.energy_uj for r in requests) == result.active_uj + result.idle_uj > 0
    assert result.requests == len(requests)
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        assert getattr(result, name) == sum(getattr(r, name) for r in requests), name
    assert (result.first, result.last) == (seed.REAL_START_MS, seed.END_MS - 1_000)
    assert result.tool_calls == 3
    assert result.spend == [CurrencyAmount("EUR", Decimal("0.5")), CurrencyAmount("USD", Decimal("0.012500000001"))]
    assert MeterTotal("cpu_minutes", "min", Decimal("0.25"), 1) in result.meters  # by its trace
    assert not result.simulated


def test_the_energy_of_a_session_costs_what_it_would_on_a_bill(warehouse: Warehouse) -> None:
    """The session's energy, stored as a ledger of its own."""
    requests = [
        {"request_id": f"r{n}", "tenant": "acme", "cluster": cluster, "session_id": "s", "trace_id": f"t{n % 3}",
         "window_start": seed.END_MS - n * MS_PER_HOUR, "active_uj": 10**9 + 7 * n, "idle_uj": 3 * n}
        for n, cluster in enumerate(["eu-1", "x", "eu-1", "y", "x", "eu-1"])
    ]  # fmt: skip
    ledger = [{k: r[k] for k in ("tenant", "cluster", "window_start", "active_uj", "idle_uj")} for r in requests]
    warehouse.insert("request_energy", stored("request_energy", *requests))
    warehouse.insert("ledger", stored("ledger", *ledger))
    Sink(warehouse).refresh_hours([r["window_start"] for r in ledger], ["eu-1", "x", "y"], ["chat"])
    changed = seed.END_MS - 2 * MS_PER_HOUR
    put_prices(
        warehouse,
        [
            Price("energy", "*", Decimal("0.12"), 0, changed, "USD"),
            Price("energy", "*", Decimal("0.51"), changed, currency="USD"),
            *(p for p in seed.PRICES if (p.kind, p.cluster) != ("energy", "*")),
        ],
    )
    bill = chargeback_queries.chargeback_total(operator_reader(warehouse), Period(0, seed.END_MS + 1))
    result = session(operator_reader(warehouse), "s")
    assert (result.energy_uj, result.cost, result.gco2) == (bill.energy_uj, bill.cost, bill.gco2)
    assert (result.kwh, result.currency, result.missing_prices) == (bill.kwh, "USD", [])
    assert sum(step.cost or 0 for step in result.steps) == result.cost


def test_the_total_adds_energy_and_spend_in_the_same_currency(books: Warehouse) -> None:
    result = session(operator_reader(books), "s-1", tenant="acme")
    assert result.cost is not None
    assert result.total == [
        CurrencyAmount("EUR", Decimal("0.5")),
        CurrencyAmount("USD", result.cost + Decimal("0.012500000001")),
    ]


def test_steps_sum_to_the_session_oldest_first(books: Warehouse) -> None:
    result = session(operator_reader(books), "s-1", tenant="acme")
    assert [(s.trace_id, s.step) for s in result.steps] == [("", ""), ("t-1", "plan"), ("t-1", "act"), ("t-1", "")]
    assert [s.tool_calls for s in result.steps] == [0, 2, 1, 0]
    for name in ("requests", "energy_uj", "cost", "completion_tokens"):
        assert sum(getattr(s, name) for s in result.steps) == getattr(result, name), name


def test_energy_without_a_price_has_no_cost_and_names_the_price(warehouse: Warehouse) -> None:
    row = {"request_id": "r", "session_id": "s", "cluster": "eu", "active_uj": 10**9}
    warehouse.insert("request_energy", stored("request_energy", row))
    put_prices(warehouse, [Price("pue", "*", Decimal("1.25")), Price("carbon", "*", Decimal(300))])
    result = session(operator_reader(warehouse), "s")
    assert (result.cost, result.total, result.currency) == (None, None, "")
    assert result.gco2 is not None
    assert [(m.kind, m.cluster) for m in result.missing_prices] == [("energy", "eu")]


def test_costs_in_several_currencies_are_not_added(warehouse: Warehouse) -> None:
    rows = [{"request_id": c, "session_id": "s", "cluster": c, "active_uj": 10**9} for c in ("eu", "us")]
    warehouse.insert("request_energy", stored("request_energy", *rows))
    put_prices(warehouse, [
        Price("pue", "*", Decimal(1)), Price("energy", "eu", Decimal(1), currency="EUR"),
        Price("energy", "us", Decimal(1), currency="USD"),
    ])  # fmt: skip
    result = session(operator_reader(warehouse), "s")
    assert (result.cost, result.mixed_currencies) == (None, True)


def test_a_session_without_requests_has_its_metered_usage(warehouse: Warehouse) -> None:
    row = UsageRow(
        meter="tool_calls", unit="call", quantity="2", t0_ms=5_000, t1_ms=5_000, tenant="acme", session_id="only"
    )
    seed.lay_usage(warehouse, [("c", "w", row)])
    result = session(operator_reader(warehouse), "only")
    assert (result.tenant, result.tool_calls, result.requests, result.energy_uj) == ("acme", 2, 0, 0)
    assert (result.cost, result.total) == (0, [])


def test_the_same_name_under_another_tenant_is_another_session(books: Warehouse) -> None:
    with pytest.raises(BadQuery, match="several tenants have a session of this name") as caught:
        session(operator_reader(books), "s-1")
    assert caught.value.field == "tenant"
    assert session(operator_reader(books), "s-1", tenant="globex").tool_calls == 0


def test_an_unknown_session_is_reported(books: Warehouse) -> None:
    for tenant in (None, "acme"):
        with pytest.raises(BadQuery, match="nothing of this session is stored"):
            session(operator_reader(books), "s-none", tenant=tenant)


def test_more_parts_than_the_bound_are_an_error(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.usage.sessions.MAX_PARTS", 2)
    rows = [
        UsageRow(meter="m", unit="u", quantity="1", t0_ms=5, t1_ms=5, tenant="acme", session_id="s", step=str(n))
        for n in range(3)
    ]
    seed.lay_usage(warehouse, [("c", "w", row) for row in rows])
    with pytest.raises(BadQuery, match="more than 2 steps"):
        session(operator_reader(warehouse), "s")


def test_sessions_of_a_period_are_listed_by_tenant_and_name(books: Warehouse) -> None:
    rows = sessions(operator_reader(books), EVER).rows
    assert [(r.tenant, r.session_id) for r in rows] == [(t, "s-1") for t in ("", "acme", "globex", "initech")]
    assert [r.simulated for r in rows] == [False, False, True, True]
    mine = session(operator_reader(books), "s-1", tenant="acme")
    acme = rows[1]
    assert (acme.requests, acme.energy_uj, acme.usage_rows) == (mine.requests, mine.energy_uj, 4)
    assert sessions(operator_reader(books), EVER, filter=Filter(tenant="acme")).rows == [acme]
    assert sessions(operator_reader(books), Period(0, 1_000)).rows == []


def test_sessions_are_read_in_pages(books: Warehouse) -> None:
    first = sessions(operator_reader(books), EVER, page=PageRequest(limit=2))
    second = sessions(operator_reader(books), EVER, page=PageRequest(limit=2, cursor=first.next))
    assert first.rows + second.rows == sessions(operator_reader(books), EVER).rows
    assert second.next is None
