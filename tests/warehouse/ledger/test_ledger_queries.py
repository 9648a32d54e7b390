"""The data under a bill: fleet, windows, intervals, requests, the newest windows."""

from __future__ import annotations

from dataclasses import fields

from contracts.units import MS_PER_HOUR
from tests.support import seeded_ledger as seed
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.periods import Period, newest
from warehouse.reader import operator_reader, tenant_reader
from warehouse.results import GpuOfWindow

REAL = Period(seed.REAL_START_MS, seed.END_MS)


def test_the_energy_of_the_fleet_is_that_of_the_ledger(books: Warehouse) -> None:
    rows = ledger_queries.fleet(operator_reader(books), REAL).rows
    assert (
        sum(row.energy_uj for row in rows)
        == chargeback_queries.chargeback_total(operator_reader(books), REAL).energy_uj
    )


def test_the_figures_of_a_node_follow_from_its_readings(books: Warehouse) -> None:
    row = next(
        r
        for r in ledger_queries.fleet(operator_reader(books), REAL, filter=Filter(cluster="eu-1")).rows
        if (r.node, r.hardware) == ("n2", "H100")
    )
    assert row.gpus == 1
    assert row.gpu_seconds == 7200
    assert row.mean_w == row.energy_uj / 1e6 / 7200
    assert row.utilisation_ratio == 0.7
    assert row.idle_ratio is not None and abs(row.idle_ratio - 90 * 7200e6 / row.energy_uj) < 1e-9


def test_a_node_without_utilisation_has_none(books: Warehouse) -> None:
    row = next(
        r
        for r in ledger_queries.fleet(operator_reader(books), REAL, filter=Filter(cluster="eu-1")).rows
        if (r.node, r.hardware) == ("n2", "A100")
    )
    assert row.utilisation_ratio is None


def test_gpus_without_a_workload_are_unallocated(books: Warehouse) -> None:
    ratios = {
        r.node: r.unallocated_ratio
        for r in ledger_queries.fleet(operator_reader(books), REAL, filter=Filter(cluster="eu-1")).rows
    }
    assert ratios == {"n1": 0.0, "n2": 0.0, "n3": 1.0}


def test_the_windows_behind_a_bill_sum_to_it(books: Warehouse) -> None:
    bill = chargeback_queries.chargeback_total(operator_reader(books), REAL, filter=Filter(tenant="acme"))
    rows, cursor = [], None
    while True:
        page = ledger_queries.ledger_rows(
            operator_reader(books), REAL, filter=Filter(tenant="acme"), page=PageRequest(limit=500, cursor=cursor)
        )
        rows += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert len({(r.window_start, r.workload, r.model, r.hardware) for r in rows}) == len(rows)
    assert sum(r.energy_uj for r in rows) == bill.energy_uj
    assert sum(r.prompt_tokens + r.completion_tokens for r in rows) == bill.tokens


def test_the_intervals_of_a_window_sum_to_its_ledger_rows(books: Warehouse) -> None:
    rows = ledger_queries.ledger_rows(
        operator_reader(books), Period(REAL.start, REAL.start + 10_000), filter=Filter(cluster="eu-1", workload="code")
    ).rows
    intervals = ledger_queries.intervals(operator_reader(books), REAL.start, "eu-1", "code").rows
    assert [(i.node, i.gpu_uuid) for i in intervals] == [("n2", "GPU-c"), ("n2", "GPU-d")]
    assert sum(i.energy_uj for i in intervals) == sum(r.energy_uj for r in rows)


def test_a_tenant_sees_only_intervals_of_windows_that_it_is_charged_for(books: Warehouse) -> None:
    rows = ledger_queries.intervals(tenant_reader(books, "acme"), REAL.start, "eu-1", "code").rows
    assert [(type(r), r.gpu_uuid) for r in rows] == [(GpuOfWindow, "GPU-c"), (GpuOfWindow, "GPU-d")]
    assert not {"energy_uj", "covered_ms", "busy_ms"} & {field.name for field in fields(GpuOfWindow)}
    assert not ledger_queries.intervals(tenant_reader(books, "globex"), REAL.start, "eu-1", "code").rows


def test_pages_of_requests_are_in_order_of_their_end(books: Warehouse) -> None:
    all_rows = ledger_queries.requests(operator_reader(books), REAL, page=PageRequest(limit=100)).rows
    first = ledger_queries.requests(operator_reader(books), REAL, page=PageRequest(limit=3))
    second = ledger_queries.requests(operator_reader(books), REAL, page=PageRequest(limit=100, cursor=first.next))
    assert first.rows + second.rows == all_rows
    assert [r.t_end for r in all_rows] == sorted(r.t_end for r in all_rows)
    assert {
        r.tenant for r in ledger_queries.requests(operator_reader(books), REAL, filter=Filter(tenant="acme")).rows
    } == {"acme"}


def test_provisional_windows_are_in_latest_but_not_in_a_bill(warehouse: Warehouse) -> None:
    seed.lay(warehouse)
    before = chargeback_queries.chargeback_total(
        operator_reader(warehouse), Period(seed.REAL_START_MS, seed.END_MS + MS_PER_HOUR)
    )
    seed.mark(warehouse, seed.END_MS)
    seed.provisional(warehouse, seed.END_MS, "acme", 42)
    _, page = ledger_queries.latest(operator_reader(warehouse), newest(warehouse).window_end or 0)
    assert [(r.window_start, r.tenant, r.energy_uj, r.final) for r in page.rows if not r.final] == [
        (seed.END_MS, "acme", 42, False)
    ]
    assert (
        chargeback_queries.chargeback_total(
            operator_reader(warehouse), Period(seed.REAL_START_MS, seed.END_MS + MS_PER_HOUR)
        )
        == before
    )
    latest_rows = ledger_queries.ledger_rows(
        operator_reader(warehouse), Period(seed.END_MS, seed.END_MS + 10_000), provisional=True
    ).rows
    assert [r.energy_uj for r in latest_rows] == [42]
    assert not ledger_queries.ledger_rows(operator_reader(warehouse), Period(seed.END_MS, seed.END_MS + 10_000)).rows


def test_pages_of_latest_stay_with_the_windows_of_the_first(warehouse: Warehouse) -> None:
    seed.lay(warehouse)
    reader = operator_reader(warehouse)
    _, all_rows = ledger_queries.latest(reader, seed.END_MS, page=PageRequest(10_000))
    period, page = ledger_queries.latest(reader, seed.END_MS, page=PageRequest(40))
    rows = list(page.rows)
    while page.next:
        again, page = ledger_queries.latest(reader, seed.END_MS + 10_000, page=PageRequest(40, page.next))
        assert again == period
        rows += page.rows
    assert rows == all_rows.rows and len(rows) == 90


def test_a_stale_provisional_row_before_the_final_end_does_not_count(warehouse: Warehouse) -> None:
    """A worker that died left it: the window was later made final without this key."""
    seed.lay(warehouse)
    seed.provisional(warehouse, seed.END_MS, "ghost", 42)
    seed.mark(warehouse, seed.END_MS + 10_000)
    _, page = ledger_queries.latest(operator_reader(warehouse), seed.END_MS + 10_000)
    assert "ghost" not in {r.tenant for r in page.rows}
    assert not ledger_queries.ledger_rows(
        operator_reader(warehouse), Period(seed.END_MS, seed.END_MS + 10_000), provisional=True
    ).rows
