"""Metered quantities: exact sums by meter, unit, tenant and place; each row counts at its last millisecond."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.errors import BadQuery
from contracts.units import MS_PER_HOUR, epoch_ms
from producers.runtime.batching import UsageRow
from tests.support import seeded_ledger as seed
from warehouse.client import Warehouse
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.results import UsageGroup
from warehouse.usage.usage_queries import usage

REAL = Period(seed.REAL_START_MS, seed.END_MS)


def by(rows: list[UsageGroup], *names: str) -> dict[tuple[str, ...], Decimal]:
    return {tuple(getattr(r, n) for n in names): r.quantity for r in rows}


def test_quantities_are_summed_by_unit_and_units_are_never_added(books: Warehouse) -> None:
    rows = usage(operator_reader(books), REAL).rows
    assert by(rows, "meter", "unit") == {
        ("cpu_minutes", "min"): Decimal("0.25"),
        ("external_spend", "USD"): Decimal("0.012500000001"),
        ("gpu_minutes", "h"): Decimal(1),
        ("gpu_minutes", "min"): Decimal("100.5"),
        ("search_spend", "EUR"): Decimal("0.5"),
        ("tool_calls", "call"): Decimal(7),
    }
    assert sum(r.rows for r in rows) == len(seed.USAGE)


def test_sums_have_no_trailing_zeros_and_no_exponent(books: Warehouse) -> None:
    (row,) = usage(operator_reader(books), REAL, filter=Filter(meter="gpu_minutes", tenant="acme", cluster="eu-1")).rows
    assert str(row.quantity) == "90.5"


def test_usage_is_grouped_by_tenant_cluster_and_workload(books: Warehouse) -> None:
    rows = usage(operator_reader(books), REAL, by=["tenant", "cluster"], filter=Filter(meter="gpu_minutes")).rows
    assert by(rows, "tenant", "cluster", "unit") == {
        ("acme", "eu-1", "min"): Decimal("90.5"),
        ("globex", "eu-1", "h"): Decimal(1),
        ("globex", "eu-1", "min"): Decimal(15),
        ("initech", "sim-1", "min"): Decimal(-5),
    }
    assert [r.simulated for r in rows] == [False, False, False, True]
    assert by(
        usage(operator_reader(books), REAL, by=["workload"], filter=Filter(meter="cpu_minutes")).rows, "workload"
    ) == {("tools",): Decimal("0.25")}


def test_a_dimension_groups_by_its_values_and_by_its_absence(books: Warehouse) -> None:
    rows = usage(
        operator_reader(books),
        REAL,
        by=["dimensions.pod", "tenant", "dimensions.node"],
        filter=Filter(meter="gpu_minutes", cluster="eu-1"),
    )
    assert [(r.dimensions, r.tenant, r.unit, r.quantity) for r in rows.rows] == [
        ({"pod": "", "node": ""}, "globex", "h", Decimal(1)),
        ({"pod": "", "node": ""}, "globex", "min", Decimal(15)),
        ({"pod": "p-1", "node": "n1"}, "acme", "min", Decimal(60)),
        ({"pod": "p-2", "node": ""}, "acme", "min", Decimal("30.5")),
    ]


def test_the_last_minute_of_an_hour_belongs_to_that_hour(books: Warehouse) -> None:
    """`[22:00, 23:00)` ends where the next hour begins."""
    rows = usage(operator_reader(books), REAL, bucket="hour", filter=Filter(meter="gpu_minutes")).rows
    assert [(r.hour, r.unit, r.quantity) for r in rows] == [
        ("2026-10-31T22:00:00Z", "min", Decimal("105.5")),
        ("2026-10-31T23:00:00Z", "h", Decimal(1)),
        ("2026-10-31T23:00:00Z", "min", Decimal(-5)),
    ]
    assert usage(
        operator_reader(books), Period(REAL.start, REAL.start + MS_PER_HOUR), filter=Filter(meter="gpu_minutes")
    ).rows[0].quantity == Decimal("105.5")


def test_usage_is_grouped_by_day_and_month(books: Warehouse) -> None:
    assert {r.day for r in usage(operator_reader(books), REAL, bucket="day").rows} == {"2026-10-31"}
    assert {r.month for r in usage(operator_reader(books), REAL, bucket="month").rows} == {"2026-10"}


def test_a_row_that_spans_buckets_counts_in_the_bucket_of_its_end(warehouse: Warehouse) -> None:
    start = epoch_ms("2026-09-30T23:00:00Z")
    seed.lay_usage(
        warehouse,
        [("c", "w", UsageRow(meter="m", unit="u", quantity="10", t0_ms=start, t1_ms=start + 2 * MS_PER_HOUR))],
    )
    rows = usage(operator_reader(warehouse), Period(0, seed.END_MS), bucket="month").rows
    assert [(r.month, r.quantity) for r in rows] == [("2026-10", Decimal(10))]


def test_pages_follow_each_other(books: Warehouse) -> None:
    all_rows = usage(operator_reader(books), REAL, by=["tenant", "dimensions.pod"], bucket="hour").rows
    rows, cursor = [], None
    while True:
        page = usage(
            operator_reader(books),
            REAL,
            by=["tenant", "dimensions.pod"],
            bucket="hour",
            page=PageRequest(limit=2, cursor=cursor),
        )
        rows += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert rows == all_rows and len(all_rows) > 6


def test_large_sums_are_exact(warehouse: Warehouse) -> None:
    largest = "9" * 20 + "." + "9" * 12
    rows = [
        ("c", "w", UsageRow(meter="m", unit="u", quantity=q, t0_ms=1_000, t1_ms=1_000))
        for q in (largest, largest, "0.000000000001")
    ]
    seed.lay_usage(warehouse, rows)
    (row,) = usage(operator_reader(warehouse), Period(0, seed.END_MS)).rows
    assert str(row.quantity) == "199999999999999999999.999999999999"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"by": ["model"]}, "by"),
        ({"by": ["dimensions."]}, "by"),
        ({"by": [f"dimensions.{n}" for n in range(6)]}, "by"),
        ({"bucket": "decade"}, "bucket"),
        ({"limit": 0}, "limit"),
        ({"cursor": "bm8"}, "cursor"),
    ],
)
def test_an_invalid_query_is_refused_by_name(books: Warehouse, params: dict, field: str) -> None:
    with pytest.raises(BadQuery) as caught:
        page = PageRequest(**{name: params.pop(name) for name in ("limit", "cursor") if name in params})
        usage(operator_reader(books), REAL, **params, page=page)
    assert caught.value.field == field
