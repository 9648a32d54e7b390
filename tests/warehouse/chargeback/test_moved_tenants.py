"""A tenant that moves to another team or cost centre: the time before the move stays billed as it was."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from tests.support.examples import examples
from tests.support.ledger_rows import rows
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.latency.latency_queries import latencies
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.sink.sink import Sink

OCTOBER = Period(epoch_ms("2026-10-01"), epoch_ms("2026-11-01"))
MOVE_MS = epoch_ms("2026-10-14T22:00:00Z")
"""Midnight in Central European Summer Time."""


def lay(warehouse: Warehouse, *times_ms: int, tenant: str = "acme") -> None:
    """One kWh of a tenant in each of these windows, and a request of 1 s."""
    warehouse.insert("ledger", rows("ledger", *(
        {"window_start": at, "tenant": tenant, "active_uj": UJ_PER_KWH, "requests": 1, "request_duration": [{160: 1}]}
        for at in times_ms
    )))  # fmt: skip
    Sink(warehouse).refresh_hours(times_ms, ["eu"], ["chat"])


def kwh_by(warehouse: Warehouse, *by: str, period: Period = OCTOBER) -> dict[tuple[str, ...], int]:
    bill = chargeback_queries.chargeback_all(operator_reader(warehouse), period, by)
    return {tuple(getattr(row, name) for name in by): row.energy_uj // UJ_PER_KWH for row in bill}


def test_energy_before_a_move_stays_with_the_old_cost_centre(warehouse: Warehouse) -> None:
    lay(warehouse, OCTOBER.start, MOVE_MS - 10_000, MOVE_MS, MOVE_MS + MS_PER_DAY)
    lay(warehouse, MOVE_MS, tenant="globex")
    put_tenants(warehouse, [Tenant("acme", "search", "CC-1"), Tenant("globex", "chat", "CC-2")])
    before = kwh_by(warehouse, "cost_centre")
    assert before == {("CC-1",): 4, ("CC-2",): 1}
    put_tenants(warehouse, [Tenant("acme", "search", "CC-2", valid_from_ms=MOVE_MS)])
    assert kwh_by(warehouse, "cost_centre") == {("CC-1",): 2, ("CC-2",): 3}
    assert kwh_by(warehouse, "cost_centre", "tenant") == {
        ("CC-1", "acme"): 2, ("CC-2", "acme"): 2, ("CC-2", "globex"): 1,
    }  # fmt: skip
    assert kwh_by(warehouse, "team", "day")["search", "2026-10-14"] == 2
    assert kwh_by(warehouse, "cost_centre", period=Period(OCTOBER.start, MOVE_MS)) == {("CC-1",): 2}


def test_a_tenant_has_no_team_before_its_first_row(warehouse: Warehouse) -> None:
    lay(warehouse, MOVE_MS - 10_000, MOVE_MS)
    put_tenants(warehouse, [Tenant("acme", "search", valid_from_ms=MOVE_MS)])
    assert kwh_by(warehouse, "team") == {("",): 1, ("search",): 1}


def test_a_tenant_leaves_its_team_by_an_empty_row(warehouse: Warehouse) -> None:
    lay(warehouse, MOVE_MS - 10_000, MOVE_MS)
    put_tenants(warehouse, [Tenant("acme", "search"), Tenant("acme", valid_from_ms=MOVE_MS)])
    assert kwh_by(warehouse, "team") == {("",): 1, ("search",): 1}


@pytest.mark.parametrize("at_ms", [MOVE_MS, MOVE_MS + 1_230_000, OCTOBER.start + 12 * MS_PER_DAY])
def test_latencies_follow_a_move_as_bills_do(warehouse: Warehouse, at_ms: int) -> None:
    lay(warehouse, at_ms - 10_000, at_ms, at_ms + 10_000)
    put_tenants(warehouse, [Tenant("acme", "search"), Tenant("acme", "chat", valid_from_ms=at_ms)])
    page = latencies(operator_reader(warehouse), OCTOBER, ["team"])
    assert [(row.group["team"], row.request_duration.requests) for row in page.rows] == [("chat", 2), ("search", 1)]
    assert kwh_by(warehouse, "team") == {("chat",): 2, ("search",): 1}


STEP_MS = MS_PER_HOUR // 4
STEPS = 24 * 4 * 3


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, STEPS), st.sampled_from(["", "x", "y"])), max_size=8),
    st.sets(st.integers(0, STEPS - 1), min_size=1, max_size=12),
)
def test_every_window_is_billed_to_the_team_at_its_start(
    warehouse: Warehouse, moves: list[tuple[str, int, str]], steps: set[int]
) -> None:
    for table in ("ledger", "ledger_hour", "ledger_day", "tenants"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    teams = {(tenant, step): team for tenant, step, team in moves}
    for tenant in "ab":
        lay(warehouse, *(OCTOBER.start + step * STEP_MS for step in steps), tenant=tenant)
    put_tenants(warehouse, [
        Tenant(tenant, team, valid_from_ms=OCTOBER.start + step * STEP_MS) for (tenant, step), team in teams.items()
    ])  # fmt: skip
    due: dict[tuple[str, ...], int] = {}
    for tenant in "ab":
        for step in steps:
            rows_before = [(begin, team) for (of, begin), team in teams.items() if of == tenant and begin <= step]
            key = (max(rows_before)[1] if rows_before else "",)
            due[key] = due.get(key, 0) + 1
    assert kwh_by(warehouse, "team") == due
