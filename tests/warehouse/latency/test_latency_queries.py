"""Latencies by any dimensions of a bill: exact sums of histograms, in windows, hours and days alike."""

from __future__ import annotations

import pytest

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from tests.support import seeded_ledger as seed
from warehouse.chargeback.chargeback_queries import chargeback
from warehouse.client import Warehouse
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.latency.latency_queries import LatencyRow, latencies
from warehouse.periods import Period
from warehouse.reader import operator_reader, tenant_reader

REAL = Period(seed.REAL_START_MS, seed.END_MS)
DAY = seed.SIM_START_MS // MS_PER_DAY * MS_PER_DAY + MS_PER_DAY
PERIODS = {
    "windows": Period(seed.REAL_START_MS + 10_000, seed.END_MS - 10_000),
    "hours": REAL,
    "days": Period(DAY, DAY + 3 * MS_PER_DAY),
    "days_and_hours": Period(DAY + 5 * MS_PER_HOUR, DAY + 3 * MS_PER_DAY + 7 * MS_PER_HOUR),
}


@pytest.mark.parametrize("name", PERIODS)
def test_every_request_of_the_bill_is_in_the_histograms(books: Warehouse, name: str) -> None:
    reader = operator_reader(books)
    by = ["tenant", "model", "hour"] if name == "hours" else ["tenant", "model"]
    bill = chargeback(reader, PERIODS[name], by).rows
    rows = latencies(reader, PERIODS[name], by).rows
    assert rows
    assert {tuple(row.group.values()): row.request_duration.requests for row in rows} == {
        tuple(getattr(row, key) for key in by): row.requests for row in bill if row.requests
    }


def test_percentiles_are_those_of_the_requests_to_one_part_in_eight(books: Warehouse) -> None:
    (row,) = latencies(operator_reader(books), REAL, ["cluster"], Filter(cluster="eu-1")).rows
    assert row.time_to_first_token.p50_ms == pytest.approx(100, rel=1 / 8)
    assert row.request_duration.p50_ms == pytest.approx(800, rel=1 / 8)
    assert row.request_duration.p99_ms == pytest.approx(3_000, rel=1 / 8)
    assert (row.queue_duration.requests, row.queue_duration.p50_ms) == (0, None)


def test_simulated_latencies_are_marked(books: Warehouse) -> None:
    rows = latencies(operator_reader(books), REAL, ["cluster"]).rows
    assert {row.group["cluster"]: row.simulated for row in rows} == {"eu-1": False, "sim-1": True}


def test_pages_hold_every_group_once(books: Warehouse) -> None:
    reader = operator_reader(books)
    every = latencies(reader, REAL, ["tenant", "hour"]).rows
    rows: list[LatencyRow] = []
    cursor = None
    while True:
        page = latencies(reader, REAL, ["tenant", "hour"], page=PageRequest(3, cursor))
        rows += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert len(every) > 3
    assert rows == every


def test_a_tenant_sees_the_latencies_of_its_own_requests(books: Warehouse) -> None:
    rows = latencies(tenant_reader(books, "acme"), REAL, ["tenant"]).rows
    assert [row.group for row in rows] == [{"tenant": "acme"}]


def test_an_unknown_dimension_is_refused(books: Warehouse) -> None:
    with pytest.raises(BadQuery, match="by"):
        latencies(operator_reader(books), REAL, ["colour"])
