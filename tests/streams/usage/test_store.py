"""Usage in the tables: each row once through repeated writes, and the warehouse decides which copy counts."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from contracts import codec
from contracts.errors import Unavailable
from contracts.events import Event
from contracts.rows import Table
from streams.core import usage_batch as core
from streams.retrying_sink import OwnershipLost
from streams.usage.store import UsageStore
from tests.streams.core.test_usage_batch import T0, arrived, batch_of, event, used
from warehouse.audit.completeness import check_producers
from warehouse.audit.report import Audit
from warehouse.client import Warehouse
from warehouse.reader import operator_reader
from warehouse.reference_data.clusters import list_clusters
from warehouse.sink.sink import Sink

LIVE = (
    "SELECT log_partition AS p, log_offset AS o, log_row AS r, quantity AS q FROM usage FINAL ORDER BY p, o, r"
)  # fmt: skip


def store(warehouse: Warehouse, *messages: core.UsageMessage, sink: Sink | None = None) -> None:
    rows = UsageStore(sink or Sink(warehouse), lambda: T0, 1_000)
    asyncio.run(rows.store(batch_of(*messages)))


def live(warehouse: Warehouse) -> list[tuple[int, int, int, Decimal]]:
    return [(r["p"], r["o"], r["r"], r["q"]) for r in warehouse.query(LIVE)]


def copy(quantity: str, partition: int, offset: int, log_ms: int, **more: Any) -> core.UsageMessage:
    """A row with meter id `o`/`e`, at some place of the log."""
    row = used(quantity, origin="o", event_id="e", **more)
    return arrived(event(row, source=f"s{partition}", seq=offset), offset, partition, log_ms)


def test_a_stored_and_uncommitted_batch_is_stored_again_without_change(warehouse: Warehouse) -> None:
    messages = [arrived(event(used("1.5"), used("2", event_id=f"e{n // 2}"), seq=n), offset=n) for n in range(6)]
    store(warehouse, *messages[:4])
    before = live(warehouse)
    store(warehouse, *messages[:4])
    assert live(warehouse) == before
    store(warehouse, *messages[2:])
    assert [row[:3] for row in live(warehouse)] == [
        *[(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 2, 0), (0, 2, 1), (0, 3, 0), (0, 4, 0), (0, 4, 1), (0, 5, 0)]
    ]


def test_a_copy_months_later_with_another_time_and_subject_does_not_count(
    warehouse: Warehouse,
) -> None:
    store(warehouse, copy("1", 0, 0, T0))
    later = used("7", origin="o", event_id="e", t0_ms=T0 - 90 * 86_400_000)
    store(warehouse, arrived(event(later, workload="other", seq=5), 9, 3, T0 + 10**10))
    assert live(warehouse) == [(0, 0, 0, Decimal(1))]


def test_the_first_copy_on_the_log_counts_even_if_it_is_read_last(warehouse: Warehouse) -> None:
    store(warehouse, copy("7", 1, 0, T0 + 5, t0_ms=T0 - 40 * 86_400_000))
    store(warehouse, copy("1", 0, 0, T0))
    store(warehouse, copy("7", 1, 0, T0 + 5, t0_ms=T0 - 40 * 86_400_000))
    assert live(warehouse) == [(0, 0, 0, Decimal(1))]


def test_a_copy_stored_after_its_withdrawal_stays_withdrawn(warehouse: Warehouse) -> None:
    """Another worker stores the first copy while this one is between its query and its write."""
    first, second = copy("1", 0, 0, T0), copy("2", 1, 0, T0 + 1)

    class Slow(Sink):
        def write(self, name: str, table: Table, fence: Any = None) -> None:
            if name == "usage":
                store(warehouse, first)
            super().write(name, table, fence)

    store(warehouse, second, sink=Slow(warehouse))
    assert live(warehouse) == [(0, 0, 0, Decimal(1))]


def test_thousands_of_rows_are_checked_in_several_queries(warehouse: Warehouse) -> None:
    rows = [used(event_id=f"e{n}") for n in range(6_000)]
    store(warehouse, arrived(event(*rows), 0), arrived(event(*rows[3_000:], seq=1), 1))
    assert warehouse.query("SELECT count() AS n, sum(log_offset) AS o FROM usage FINAL") == [{"n": 6_000, "o": 0}]


def test_missing_numbers_are_gaps_in_the_audit_and_duplicates_are_reported(warehouse: Warehouse) -> None:
    store(warehouse, *(arrived(event(used(), seq=n, source="s"), offset=n) for n in (0, 1, 4)))
    store(warehouse, arrived(event(used(), seq=1, source="s"), offset=9))
    report = Audit()
    check_producers(report, operator_reader(warehouse), 0, T0, 20)
    assert (report.producer_runs, report.sequence_gaps, report.duplicates) == (1, 2, 1)
    (gap,) = report.gaps_by_producer
    assert (gap.topic, gap.source, gap.missing, gap.expected, gap.received) == ("wattlog.usage.v1", "s", 2, 5, 3)


def test_the_cluster_of_a_simulated_source_is_marked(warehouse: Warehouse) -> None:
    store(warehouse, arrived(event(used(), source="simulated://c/agents")))
    assert [(c.cluster, c.simulated) for c in list_clusters(warehouse)] == [("c", True)]


class Refusing(Sink):
    """Fail the first calls of each of the writes and queries."""

    def __init__(self, warehouse: Warehouse, times: int) -> None:
        super().__init__(warehouse)
        self._left = dict.fromkeys(("usage_ids", "usage", "usage_events", "first"), times)

    def _refuse(self, name: str) -> None:
        if self._left[name]:
            self._left[name] -= 1
            raise Unavailable("away", "wait")

    def write(self, name: str, table: Table, fence: Any = None) -> None:
        self._refuse(name)
        super().write(name, table, fence)

    def first_copies(self, ids: Any) -> list[dict[str, Any]]:
        self._refuse("first")
        return super().first_copies(ids)


def test_an_absent_warehouse_is_retried(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.retrying_sink.RETRY_FIRST_S", 0.001)
    store(warehouse, copy("1", 0, 0, T0), copy("2", 0, 1, T0), sink=Refusing(warehouse, 2))
    assert live(warehouse) == [(0, 0, 0, Decimal(1))]


def test_a_stop_during_an_outage_drops_the_batch(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.retrying_sink.RETRY_FIRST_S", 0.001)
    rows = UsageStore(Refusing(warehouse, 100), lambda: T0, 1_000, still_owned=lambda: False)
    with pytest.raises(OwnershipLost):
        asyncio.run(rows.store(batch_of(copy("1", 0, 0, T0))))
    assert live(warehouse) == []


def test_extreme_numbers_of_a_producer_count_once(warehouse: Warehouse) -> None:
    headers, value = codec.encode(Event("s", 9_999_999_999_999_999_999, 0, "c", "w", event(used("1")).batch))
    messages = [core.UsageMessage(p, 0, ms, False, headers, value) for p, ms in enumerate((2**63 - 1, -(2**63)))]
    for message in (*messages, *messages):
        store(warehouse, message)
    assert live(warehouse) == [(1, 0, 0, Decimal(1))]


def test_an_event_without_rows_is_recorded(warehouse: Warehouse) -> None:
    store(warehouse, arrived(Event("s", 1, 0, "c", "w", event().batch)))
    assert warehouse.query("SELECT seq FROM usage_events FINAL") == [{"seq": 0}]
