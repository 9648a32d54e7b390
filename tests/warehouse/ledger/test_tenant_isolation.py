"""Every read by a tenant's reader gives only its own rows, for any filter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import FunctionType
from typing import Any

import pytest

from contracts.boundary import Boundary
from contracts.errors import AccessDenied
from tests.support import seeded_ledger as seed
from warehouse.chargeback import chargeback_queries, series
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.latency import latency_queries
from warehouse.ledger import explanation, fleet_groups, ledger_queries, receipts
from warehouse.periods import Period
from warehouse.reader import LedgerReader, operator_reader, tenant_reader
from warehouse.usage import sessions, usage_queries

REAL = Period(seed.REAL_START_MS, seed.END_MS)
OTHERS = {"globex", "initech", "__unallocated__"}
Read = Callable[[LedgerReader, Filter], Any]


def _exported(reader: LedgerReader, filter: Filter) -> list[Any]:
    with chargeback_queries.chargeback_blocks(reader, REAL, ["tenant"], filter) as (total, blocks):
        return [total, *(row for block in blocks for row in block)]


def _first_receipt(reader: LedgerReader, filter: Filter) -> list[Any]:
    row = ledger_queries.requests(reader, REAL, replace(filter, cluster="eu-1")).rows[0]
    return [receipts.receipt(reader, row.request_id, Filter(row.tenant, row.cluster, row.workload, row.model))]


READS: dict[str, Read] = {
    "chargeback": lambda r, f: chargeback_queries.chargeback(r, REAL, ["tenant"], f).rows,
    "chargeback_and_total": lambda r, f: chargeback_queries.chargeback_and_total(r, REAL, ["tenant"], f)[0].rows,
    "chargeback_total": lambda r, f: [chargeback_queries.chargeback_total(r, REAL, f)],
    "chargeback_all": lambda r, f: chargeback_queries.chargeback_all(r, REAL, ["tenant"], f),
    "chargeback_blocks": _exported,
    "clusters_outside": lambda r, f: chargeback_queries.clusters_outside(r, REAL, replace(f, boundary=Boundary.HOST)),
    "efficiency": lambda r, f: chargeback_queries.efficiency(r, REAL, "day", ["tenant"], f).rows,
    "read_measures": lambda r, f: list(series.read_measures(r, REAL, ["kwh"], "tenant", "day", f)["kwh"].points),
    "ledger_rows": lambda r, f: ledger_queries.ledger_rows(r, REAL, f).rows,
    "intervals": lambda r, f: ledger_queries.intervals(r, seed.REAL_START_MS, "eu-1", "chat").rows,
    "requests": lambda r, f: ledger_queries.requests(r, REAL, f).rows,
    "receipt": _first_receipt,
    "latest": lambda r, f: ledger_queries.latest(r, seed.END_MS, f)[1].rows,
    "explain": lambda r, f: [explanation.explain(r, f.tenant or "acme")],
    "latencies": lambda r, f: latency_queries.latencies(r, REAL, ["tenant"], f).rows,
    "usage": lambda r, f: usage_queries.usage(r, REAL, ["tenant"], filter=f).rows,
    "sessions": lambda r, f: sessions.sessions(r, REAL, f).rows,
    "session": lambda r, f: [sessions.session(r, "s-1", f.tenant or "acme")],
}
FOR_OPERATORS: dict[str, Read] = {
    "fleet": lambda r, f: ledger_queries.fleet(r, REAL, f).rows,
    "fleet_groups": lambda r, f: fleet_groups.fleet_groups(r, REAL, ["cluster"], filter=f).rows,
    "grouped_fleet": lambda r, f: fleet_groups.grouped_fleet(r, REAL, ["model"], filter=f).rows,
    "compared_fleet": lambda r, f: fleet_groups.compared_fleet(r, REAL, ["cluster"], "all", filter=f).rows,
    "cluster_silence": lambda r, f: ledger_queries.cluster_silence(
        r, recent_ms=0, known_ms=seed.REAL_START_MS, limit=9
    ),
}
NO_TENANT_FILTER = {"intervals"}
"""Reads without a filter by tenant: only the reader's own tenant narrows them."""


def texts(value: Any) -> Iterator[str]:
    """Yield every text within rows."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from texts(part)
    elif isinstance(value, dict):
        yield from texts(list(value.values()))
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from texts(getattr(value, name))


def test_every_read_is_listed_here() -> None:
    modules = (
        "chargeback.chargeback_queries", "chargeback.series", "latency.latency_queries", "ledger.explanation",
        "ledger.fleet_groups", "ledger.ledger_queries", "ledger.receipts", "usage.sessions", "usage.usage_queries",
    )  # fmt: skip
    reads = {
        name
        for module in map(import_module, (f"warehouse.{m}" for m in modules))
        for name, function in vars(module).items()
        if isinstance(function, FunctionType)
        and function.__module__ == module.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(function).parameters), "") == "reader"
    }
    assert reads == READS.keys() | FOR_OPERATORS.keys()


@pytest.mark.parametrize("name", READS)
def test_a_tenant_reads_only_its_own_rows(books: Warehouse, name: str) -> None:
    mine = READS[name](tenant_reader(books, "acme"), Filter())
    assert mine and not OTHERS & set(texts(mine))
    all_rows = READS[name](operator_reader(books), Filter())
    assert all_rows


@pytest.mark.parametrize("name", sorted(READS.keys() - NO_TENANT_FILTER))
def test_a_filter_for_another_tenant_is_refused(books: Warehouse, name: str) -> None:
    with pytest.raises(AccessDenied, match="own tenant only"):
        READS[name](tenant_reader(books, "acme"), Filter(tenant="globex"))


@pytest.mark.parametrize("name", FOR_OPERATORS)
def test_a_read_over_all_tenants_is_for_operators(books: Warehouse, name: str) -> None:
    with pytest.raises(AccessDenied, match="Only operators"):
        FOR_OPERATORS[name](tenant_reader(books, "acme"), Filter())
    assert FOR_OPERATORS[name](operator_reader(books), Filter())
