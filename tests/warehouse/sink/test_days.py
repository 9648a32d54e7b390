"""Days follow their hours as hours follow the ledger: the data of a month's bill."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import Unavailable
from contracts.rows import Table, keys, tombstones
from tests.support.ledger_rows import FIRST_FINAL, HOUR, WINDOW_MS, row, rows
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse
from warehouse.ledger.purge import purge_clusters
from warehouse.migrate import migrate
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
DAY = HOUR
"""The day's start: HOUR is a midnight."""


@pytest.fixture
def sink(warehouse: Warehouse) -> Sink:
    return Sink(warehouse)


def days(warehouse: Warehouse, *more: str) -> list[tuple[Any, ...]]:
    """(day in days from DAY, tenant, active_uj) and `more` columns of each."""
    columns = ", ".join(["toUnixTimestamp64Milli(day) AS at_ms", "tenant", "active_uj", *more])
    rows = warehouse.query(f"SELECT {columns} FROM ledger_day FINAL ORDER BY day, tenant")
    return [((r["at_ms"] - DAY) // DAY_MS, *list(r.values())[1:]) for r in rows]


def store(sink: Sink, *windows: dict[str, Any]) -> None:
    """Store final windows, and compute their hours (and so days)."""
    sink.write("ledger", rows("ledger", *windows))
    sink.refresh_hours([w.get("window_start", HOUR) for w in windows], ["eu"], ["chat"])


def gone(version: int, **values: Any) -> Table:
    return tombstones("ledger", keys("ledger", row("ledger", **values)), log_id="log", log_partition=0, version=version)


def test_a_day_sums_its_hours(warehouse: Warehouse, sink: Sink) -> None:
    store(
        sink,
        {"active_uj": 5, "method": 2, "revision": 3},
        {"active_uj": 7, "window_start": DAY + 23 * HOUR_MS},
        {"active_uj": 9, "window_start": DAY + DAY_MS},
        {"active_uj": 1, "tenant": "other"},
    )
    assert days(warehouse, "windows", "method", "revision") == [
        (0, "acme", 12, 2, 2, 3), (0, "other", 1, 1, 0, 0), (1, "acme", 9, 1, 0, 0)
    ]  # fmt: skip


def test_a_window_that_is_restated_after_its_day_was_computed_changes_the_day(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5}, {"active_uj": 7, "window_start": DAY + 5 * HOUR_MS})
    store(sink, {"active_uj": 6, "version": FIRST_FINAL + 1, "revision": 1})
    assert days(warehouse, "revision") == [(0, "acme", 13, 1)]


def test_every_change_of_a_day_raises_its_version(warehouse: Warehouse, sink: Sink) -> None:
    versions, later = [], DAY + 5 * HOUR_MS
    for change in (
        row("ledger", active_uj=1),
        row("ledger", active_uj=2, window_start=later),
        row("ledger", active_uj=3, version=FIRST_FINAL + 1),
        gone(FIRST_FINAL + 1, window_start=later),
        row("ledger", active_uj=4, window_start=later, version=FIRST_FINAL + 2),
    ):
        sink.write("ledger", change)
        sink.refresh_hours([DAY, later], ["eu"], ["chat"])
        warehouse.command("OPTIMIZE TABLE ledger_hour FINAL")  # Merges make no difference.
        versions += [entry[3] for entry in days(warehouse, "version")]
    assert versions == sorted(set(versions))
    assert len(versions) == 5


def test_a_key_that_a_restatement_removes_leaves_the_day_and_may_return(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5}, {"tenant": "gone", "active_uj": 6})
    sink.write("ledger", gone(FIRST_FINAL + 1, tenant="gone"))
    sink.refresh_hours([DAY], ["eu"], ["chat"])
    assert days(warehouse) == [(0, "acme", 5)]
    store(sink, {"tenant": "gone", "active_uj": 8, "version": FIRST_FINAL + 2})
    assert days(warehouse) == [(0, "acme", 5), (0, "gone", 8)]


def test_a_day_without_hours_is_cleared_and_the_same_hours_restore_it(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5})
    before = days(warehouse, "version")
    warehouse.command("TRUNCATE TABLE ledger_hour")
    for _ in range(2):
        sink.refresh_days([DAY], ["eu"], ["chat"])
        assert days(warehouse) == []
    sink.refresh_hours([DAY], ["eu"], ["chat"])
    assert days(warehouse, "version") == before


def test_a_day_computed_from_an_older_state_never_wins(warehouse: Warehouse, sink: Sink) -> None:
    """A worker that lost its partition read before its successor's hours, and stores after them."""
    store(sink, {"active_uj": 5})
    stale = warehouse.query("SELECT * FROM ledger_day FINAL")
    store(sink, {"active_uj": 7, "window_start": DAY + HOUR_MS})
    warehouse.insert_rows("ledger_day", stale)
    assert days(warehouse) == [(0, "acme", 12)]


def test_other_workloads_and_days_are_unchanged(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5})
    sink.write("ledger", rows("ledger", {"workload": "code", "active_uj": 1}, {"window_start": DAY + DAY_MS}))
    sink.refresh_hours([DAY], ["eu"], ["chat"])
    assert days(warehouse, "workload") == [(0, "acme", 5, "chat")]


def test_a_refresh_cut_off_between_hours_and_days_is_completed_by_the_next(warehouse: Warehouse, sink: Sink) -> None:
    """The checkpoint names the hour as due until both are there: the audit waits for it, and a successor refreshes
    both.
    """
    store(sink, {"active_uj": 5})
    warehouse.insert("marks", row("marks", final_end=DAY + HOUR_MS, state=f'{{"hours": [{DAY}]}}'))
    warehouse.command("RENAME TABLE ledger_day TO away")
    with pytest.raises(Unavailable, match="ledger_day"):
        store(sink, {"active_uj": 7, "window_start": DAY + WINDOW_MS})
    warehouse.command("RENAME TABLE away TO ledger_day")
    assert days(warehouse) == [(0, "acme", 5)]
    report = audit(operator_reader(warehouse))
    assert (report.hour_residual_uj, report.day_residual_uj, report.restating, report.restating_uj) == (0, 0, 1, 7)
    late = audit(operator_reader(warehouse), patience_s=5, wait=lambda _: None)  # Unchanged at the second read.
    assert (late.restating, late.day_residual_uj) == (0, 7)
    sink.refresh_hours_of("log", 0, [DAY])
    assert days(warehouse) == [(0, "acme", 12)]


@pytest.mark.parametrize(
    ("change", "residual_uj", "counts"),
    [({"active_uj": 6}, 1, 0), ({"requests": 1}, 0, 1), ({"deleted": 1}, 5, 0)],
)
def test_a_day_that_differs_from_its_hours_is_a_residual(
    warehouse: Warehouse, sink: Sink, change: dict[str, Any], residual_uj: int, counts: int
) -> None:
    store(sink, {"active_uj": 5})
    (day,) = warehouse.query("SELECT * FROM ledger_day FINAL")
    warehouse.insert_rows("ledger_day", [day | change | {"version": 2**63}])
    report = audit(operator_reader(warehouse))
    assert not report.balanced
    assert (report.day_residual_uj, report.day_residual_counts, report.hour_residual_uj) == (residual_uj, counts, 0)


@pytest.mark.parametrize("table", ["ledger_hour", "ledger_day"])
@pytest.mark.parametrize("column", ["hour_uj", "quarter_uj"])
def test_energy_by_slot_that_differs_from_its_sum_is_a_residual(
    warehouse: Warehouse, sink: Sink, table: str, column: str
) -> None:
    store(sink, {"active_uj": 5})
    (row,) = warehouse.query(f"SELECT * FROM {table} FINAL")
    if column in row:
        slots = [*row[column][:-1], row[column][-1] + 3]
        warehouse.insert_rows(table, [row | {column: slots, "version": row["version"]}])
        report = audit(operator_reader(warehouse))
        assert report.day_residual_uj + report.hour_residual_uj == 3


def test_a_days_slots_are_the_energy_of_its_windows(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5, "idle_uj": 1}, {"active_uj": 7, "window_start": DAY + 5 * HOUR_MS + 900_000})
    (day,) = warehouse.query("SELECT hour_uj, quarter_uj FROM ledger_day FINAL")
    assert {no: uj for no, uj in enumerate(day["hour_uj"]) if uj} == {0: 6, 5: 7}
    assert {no: uj for no, uj in enumerate(day["quarter_uj"]) if uj} == {0: 6, 21: 7}
    assert (len(day["hour_uj"]), len(day["quarter_uj"])) == (24, 96)


def test_quarters_are_unknown_where_a_window_reaches_over_their_end(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5, "window_start": DAY + 890_000, "window_ms": 20_000})
    (day,) = warehouse.query("SELECT hour_uj, quarter_uj FROM ledger_day FINAL")
    assert (day["hour_uj"][0], day["quarter_uj"]) == (5, [])


def test_an_hour_is_audited_with_its_whole_day(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5}, {"active_uj": 7, "window_start": DAY + 5 * HOUR_MS})
    assert (
        audit(operator_reader(warehouse), Period(DAY + 5 * HOUR_MS, DAY + 6 * HOUR_MS)).days,
        audit(operator_reader(warehouse)).days,
    ) == (1, 1)
    (day,) = warehouse.query("SELECT * FROM ledger_day FINAL")
    warehouse.insert_rows("ledger_day", [day | {"active_uj": 13, "version": 2**63}])
    assert audit(operator_reader(warehouse), Period(DAY + 5 * HOUR_MS, DAY + 6 * HOUR_MS)).day_residual_uj == 1


def test_a_day_whose_hours_are_missing_is_a_residual(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5})
    for table in ("ledger", "ledger_hour"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    assert audit(operator_reader(warehouse)).day_residual_uj == 5


def test_a_deleted_cluster_leaves_its_days(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5})
    sink.write("ledger", row("ledger", cluster="us", active_uj=6))
    sink.refresh_hours([DAY], ["us"], ["chat"])
    purge_clusters(warehouse, ["eu"])
    assert days(warehouse, "cluster") == [(0, "acme", 6, "us")]


def test_an_earlier_warehouse_gets_the_days_of_its_hours(warehouse: Warehouse, sink: Sink) -> None:
    store(sink, {"active_uj": 5}, {"active_uj": 7, "window_start": DAY + 5 * HOUR_MS}, {"tenant": "gone"})
    sink.write("ledger", gone(FIRST_FINAL + 1, tenant="gone"))
    sink.refresh_hours([DAY], ["eu"], ["chat"])
    expected = days(warehouse, "windows", "version")
    warehouse.command("DROP TABLE ledger_day")
    # The migrations after it that add columns to days are applied again, too: each may be repeated.
    again = "name = '0005_days' OR name >= '0008'"
    warehouse.command(f"ALTER TABLE migrations DELETE WHERE {again} SETTINGS mutations_sync = 1")
    assert migrate(warehouse)[0] == "0005_days"
    assert days(warehouse, "windows", "version") == expected
    store(sink, {"active_uj": 8, "version": FIRST_FINAL + 1})
    assert days(warehouse) == [(0, "acme", 15)]
