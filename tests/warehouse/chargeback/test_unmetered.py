"""Tokens without measured energy: their cost is open, and every reader says how many there are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from contracts.units import MS_PER_HOUR
from tests.support.ledger_rows import HOUR, rows
from warehouse.chargeback import chargeback_queries
from warehouse.chargeback.series import read_measures
from warehouse.client import Warehouse
from warehouse.ledger import ledger_queries
from warehouse.ledger.explanation import explain
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices
from warehouse.sink.sink import Sink
from warehouse.usage.sessions import session, sessions

PERIOD = Period(HOUR, HOUR + MS_PER_HOUR)
KWH_UJ = 3_600_000_000_000
UNMETERED: dict[str, Any] = {"method": 3, "hardware": ""}
ACME: list[dict[str, Any]] = [
    {"workload": "chat", "prompt_tokens": 90, "completion_tokens": 10, "requests": 1, **UNMETERED}
]
GLOBEX: list[dict[str, Any]] = [
    {"tenant": "globex", "workload": "chat", "prompt_tokens": 30, "requests": 1, **UNMETERED},
    {"tenant": "globex", "workload": "code", "completion_tokens": 60, "active_uj": KWH_UJ, "requests": 1},
]
LAB: list[dict[str, Any]] = [{"tenant": "lab", "workload": "llama", "model": "", "idle_uj": KWH_UJ}]
REQUESTS: list[dict[str, Any]] = [
    {"request_id": "r1", "session_id": "s-1", "workload": "chat", "prompt_tokens": 90, "completion_tokens": 10},
    {"request_id": "r2", "session_id": "s-2", "tenant": "globex", "workload": "chat", "prompt_tokens": 30},
    {"request_id": "r3", "session_id": "s-2", "tenant": "globex", "workload": "code", "completion_tokens": 60,
     "active_uj": KWH_UJ},
    {"request_id": "r4", "session_id": "s-2", "tenant": "globex", "workload": "code", "status": "error"},
]  # fmt: skip


@pytest.fixture
def books(warehouse: Warehouse) -> Warehouse:
    """acme's tokens met no GPU; of globex's a part did; lab pays for a GPU without work."""
    warehouse.insert("ledger", rows("ledger", *ACME, *GLOBEX, *LAB))
    warehouse.insert("request_energy", rows("request_energy", *REQUESTS))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat", "code", "llama"])
    put_prices(warehouse, [Price("energy", "*", Decimal(2), currency="USD"), Price("pue", "*", Decimal(1))])
    put_prices(warehouse, [Price("carbon", "*", Decimal(400))])
    return warehouse


@pytest.mark.parametrize("end_ms", [PERIOD.end, PERIOD.end + 1, PERIOD.start + 24 * MS_PER_HOUR])
def test_a_bill_leaves_the_cost_of_unmetered_tokens_open(books: Warehouse, end_ms: int) -> None:
    page, total = chargeback_queries.chargeback_and_total(operator_reader(books), Period(HOUR, end_ms))
    money = {row.tenant: (row.kwh, row.kwh_facility, row.cost, row.gco2) for row in page.rows}
    assert money == {"acme": (None, None, None, None), "globex": (1, 1, 2, 400), "lab": (1, 1, 2, 400)}
    assert {row.tenant: (row.unmetered_tokens, row.unmetered_requests) for row in page.rows} == {
        "acme": (100, 1), "globex": (30, 1), "lab": (0, 0),
    }  # fmt: skip
    assert (total.cost, total.kwh, total.unmetered_tokens) == (4, 2, 130)


def test_the_total_of_unmetered_rows_alone_is_open(books: Warehouse) -> None:
    from warehouse.filters import Filter

    total = chargeback_queries.chargeback_total(operator_reader(books), PERIOD, Filter(tenant="acme"))
    assert (total.cost, total.kwh, total.unmetered_tokens, total.missing_prices) == (None, None, 100, [])


def test_joules_per_token_are_of_the_metered_tokens(books: Warehouse) -> None:
    page = chargeback_queries.efficiency(operator_reader(books), PERIOD, by=["tenant"])
    ratios = {row.tenant: (row.joules_per_token, row.joules_per_output_token) for row in page.rows}
    assert ratios == {"acme": (None, None), "globex": (60_000, 60_000), "lab": (None, None)}


def test_measured_zero_is_not_open(warehouse: Warehouse) -> None:
    warehouse.insert("ledger", rows("ledger", {"prompt_tokens": 7}, {"tenant": "b", **UNMETERED, "requests": 2}))
    Sink(warehouse).refresh_hours([HOUR], ["eu"], ["chat"])
    page, _ = chargeback_queries.chargeback_and_total(operator_reader(warehouse), PERIOD)
    assert [(row.cost, row.unmetered_tokens, row.unmetered_requests) for row in page.rows] == [(0, 0, 0), (None, 0, 2)]


def test_a_series_has_no_value_where_nothing_was_measured(books: Warehouse) -> None:
    series = read_measures(operator_reader(books), PERIOD, ["cost", "kwh"], freq="hour")
    assert series["cost"].points["acme"] == [(HOUR, None)] == series["kwh"].points["acme"]
    assert series["cost"].points["globex"] == [(HOUR, 2)]


def test_a_request_names_its_unmetered_windows(books: Warehouse) -> None:
    page = ledger_queries.requests(operator_reader(books), PERIOD)
    of = {row.request_id: (row.windows, row.unmetered_windows, row.joules_per_token) for row in page.rows}
    assert of == {"r1": (1, 1, None), "r2": (1, 1, None), "r3": (1, 0, 60_000), "r4": (1, 0, None)}


def test_a_session_costs_what_was_measured_of_it(books: Warehouse) -> None:
    unknown = session(operator_reader(books), "s-1")
    assert (unknown.kwh, unknown.cost, unknown.total, unknown.unmetered_tokens) == (None, None, None, 100)
    assert [step.cost for step in unknown.steps] == [None]
    known = session(operator_reader(books), "s-2")
    assert (known.kwh, known.cost, known.unmetered_tokens) == (1, 2, 30)


def test_sessions_are_listed_with_their_unmetered_tokens(books: Warehouse) -> None:
    page = sessions(operator_reader(books), PERIOD)
    assert [(row.session_id, row.energy_uj, row.unmetered_tokens) for row in page.rows] == [
        ("s-1", 0, 100), ("s-2", KWH_UJ, 30),
    ]  # fmt: skip


def test_an_explanation_leaves_the_cost_open(books: Warehouse) -> None:
    unknown = explain(operator_reader(books), "acme")
    assert (unknown.cost, unknown.gco2, unknown.unmetered_tokens, unknown.parts[0].kwh) == (None, None, 100, None)
    known = explain(operator_reader(books), "globex")
    assert (known.cost, known.unmetered_tokens, [part.cost for part in known.parts]) == (2, 30, [None, 2])
