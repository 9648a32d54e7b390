"""Missing data is named: producers' sequence numbers, silent producers, GPU time without a measurement."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger_rows import HOUR, WINDOW_MS, rows
from warehouse.audit import conservation as audit_module
from warehouse.audit.completeness import SILENT_MS, Coverage
from warehouse.audit.conservation import audit
from warehouse.audit.findings import GpuGap, SequenceGap, SilentProducer
from warehouse.audit.report import WORST, Audit
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

HOUR_MS = 3_600_000
G1 = ("eu", "n1", "G1")


def store_runs(warehouse: Warehouse, *runs: dict[str, Any]) -> None:
    warehouse.insert("sources", rows("sources", *({"received": 10, "last_seq": 9, **run} for run in runs)))


def covers(warehouse: Warehouse, windows: dict[int, int], start: int = HOUR, **values: Any) -> None:
    """A GPU whose windows (by number from `start`) cover so many milliseconds, and its balanced ledger."""
    many = [{"window_start": start + n * WINDOW_MS, "covered_ms": ms, **values} for n, ms in windows.items()]
    warehouse.insert("gpu_energy", rows("gpu_energy", *many))


# ---- producers ----


def test_runs_whose_numbers_were_taken_are_named_with_numbers_and_times_and_are_not_ok(warehouse: Warehouse) -> None:
    contested = {"contested": 3, "contested_first_seq": 4, "contested_last_seq": 9, "contested_first": HOUR}
    store_runs(
        warehouse,
        {"source": "n1"},
        {"source": "n2", **contested, "contested_last": HOUR + HOUR_MS},
        {"source": "n3", **contested, "contested": 5, "contested_last": HOUR + 1},
    )
    report = audit(operator_reader(warehouse))
    assert (report.contested_messages, report.contested_runs, report.sequence_gaps) == (8, 2, 0)
    assert [(c.source, c.messages, c.first_seq, c.last_seq) for c in report.contested] == [
        ("n3", 5, 4, 9), ("n2", 3, 4, 9),
    ]  # fmt: skip
    assert (report.contested[1].first_event, report.contested[1].last_event) == (HOUR, HOUR + HOUR_MS)
    assert not report.ok
    earlier = audit(operator_reader(warehouse), Period(HOUR - HOUR_MS, HOUR))
    assert (earlier.contested_messages, earlier.contested) == (0, [])


def test_runs_with_gaps_are_named_worst_first_with_expected_and_received_numbers(warehouse: Warehouse) -> None:
    store_runs(
        warehouse,
        {"source": "n1"},
        {"source": "n2", "received": 7, "duplicates": 2},
        {"source": "n3", "received": 1, "epoch": 5},
    )
    report = audit(operator_reader(warehouse))
    assert (report.sequence_gaps, report.runs_with_gaps, report.producer_runs) == (12, 2, 3)
    assert report.gaps_by_producer == [
        SequenceGap(
            missing=9,
            topic="wattlog.power.v1",
            source="n3",
            epoch=5,
            expected=10,
            received=1,
            duplicates=0,
            last_event=HOUR,
        ),
        SequenceGap(
            missing=3,
            topic="wattlog.power.v1",
            source="n2",
            epoch=0,
            expected=10,
            received=7,
            duplicates=2,
            last_event=HOUR,
        ),
    ]
    assert (report.balanced, report.ok) == (True, False)


def test_a_run_that_moved_between_partitions_counts_as_one(warehouse: Warehouse) -> None:
    store_runs(warehouse, {"received": 4, "last_seq": 3}, {"received": 6, "last_seq": 9, "log_partition": 1})
    assert audit(operator_reader(warehouse)).sequence_gaps == 0


def test_the_same_run_on_two_logs_counts_as_two(warehouse: Warehouse) -> None:
    store_runs(warehouse, {}, {"log_id": "another", "received": 9})
    assert audit(operator_reader(warehouse)).sequence_gaps == 1


def test_the_worst_runs_are_named_and_all_are_counted(warehouse: Warehouse) -> None:
    store_runs(warehouse, *({"source": f"n{i}", "received": 9 - i % 3} for i in range(2 * WORST)))
    report = audit(operator_reader(warehouse))
    assert (len(report.gaps_by_producer), report.runs_with_gaps) == (WORST, 2 * WORST)
    assert report.gaps_by_producer[0].missing == 3


def test_a_producer_that_stops_while_others_continue_is_silent(warehouse: Warehouse) -> None:
    end = HOUR + 10 * SILENT_MS
    store_runs(warehouse, {"source": "n1", "last_event": end}, {"source": "n2", "last_event": HOUR})
    report = audit(operator_reader(warehouse))
    assert report.silent == [SilentProducer(HOUR, "wattlog.power.v1", "n2", end)]
    assert (report.silent_producers, report.ok, report.complete) == (1, True, False)


TOKENS = "wattlog.tokens.v1"
CALLS_ONLY = ["requests-tokens://eu/gw/chat", "otlp-tokens://eu/gw/chat", "litellm://eu/%2Fcalls/chat", "otel://eu/t/c"]


@pytest.mark.parametrize("source", CALLS_ONLY)
def test_a_sender_of_calls_without_calls_is_idle_and_not_silent(warehouse: Warehouse, source: str) -> None:
    end = HOUR + 10 * SILENT_MS
    store_runs(
        warehouse,
        {"source": "vllm://eu/http%3A%2F%2Fv/chat", "topic": TOKENS, "last_event": end},
        {"source": source, "topic": TOKENS, "last_event": HOUR},
    )
    report = audit(operator_reader(warehouse))
    assert (report.silent_producers, report.idle_senders, report.complete) == (0, 1, True)
    assert report.idle == [SilentProducer(HOUR, TOKENS, source, end)]


@pytest.mark.parametrize("source", ["accesslog://eu/log/c", "litellm://eu/http%3A%2F%2Fgw%2Fmetrics/chat"])
def test_a_source_that_is_read_on_a_clock_falls_silent_beside_idle_senders(warehouse: Warehouse, source: str) -> None:
    end = HOUR + 10 * SILENT_MS
    store_runs(
        warehouse,
        {"source": CALLS_ONLY[0], "topic": TOKENS, "last_event": end},
        {"source": source, "topic": TOKENS, "last_event": HOUR},
    )
    report = audit(operator_reader(warehouse))
    assert ([one.source for one in report.silent], report.idle_senders, report.complete) == ([source], 0, False)


def test_a_producer_that_was_restarted_is_not_silent_for_its_earlier_run(warehouse: Warehouse) -> None:
    end = HOUR + 10 * SILENT_MS
    store_runs(warehouse, {"epoch": 1, "last_event": HOUR}, {"epoch": 2, "last_event": end})
    assert audit(operator_reader(warehouse)).silent_producers == 0


def test_silence_is_judged_at_the_end_of_the_period(warehouse: Warehouse) -> None:
    end = HOUR + 10 * SILENT_MS
    store_runs(warehouse, {"source": "n1", "last_event": end}, {"source": "n2", "last_event": HOUR})
    assert audit(operator_reader(warehouse), Period(HOUR, HOUR + SILENT_MS)).silent_producers == 0
    assert audit(operator_reader(warehouse), Period(HOUR, HOUR + SILENT_MS + 1)).silent_producers == 1
    assert (
        audit(operator_reader(warehouse), Period(HOUR + 1, end)).silent_producers == 0
    )  # It was silent before the period already.


# ---- GPU time ----


def test_a_gap_is_named_from_the_last_window_to_the_next(warehouse: Warehouse) -> None:
    covers(warehouse, {0: 10_000, 1: 10_000, 7: 10_000, 9: 10_000})
    report = audit(operator_reader(warehouse))
    assert report.gpu_gaps == [
        GpuGap(50_000, HOUR + 20_000, HOUR + 70_000, *G1),
        GpuGap(10_000, HOUR + 80_000, HOUR + 90_000, *G1),
    ]
    assert (report.uncovered_ms, report.gpus, report.gpus_with_gaps) == (60_000, 1, 1)
    assert report.coverage_ratio == pytest.approx(40 / 100)


def test_a_partly_covered_window_is_a_gap_of_its_missing_time(warehouse: Warehouse) -> None:
    covers(warehouse, {0: 1_000, 1: 7_500, 2: 10_000, 3: 1_000})
    report = audit(operator_reader(warehouse))
    assert report.gpu_gaps == [GpuGap(2_500, HOUR + 10_000, HOUR + 20_000, *G1)]
    assert report.uncovered_ms == 2_500


def test_the_least_covered_gpus_are_named_and_all_are_counted(warehouse: Warehouse) -> None:
    for i in range(WORST + 5):
        covers(warehouse, {0: 10_000, i + 2: 10_000}, gpu_uuid=f"G{i:02}")
    report = audit(operator_reader(warehouse))
    assert (report.gpus, report.gpus_with_gaps) == (WORST + 5, WORST + 5)
    assert [g.gpu_uuid for g in report.least_covered] == [f"G{i:02}" for i in range(WORST + 4, 4, -1)]
    assert len(report.gpu_gaps) == WORST
    worst = report.least_covered[0]
    assert (worst.covered_ms, worst.expected_ms, worst.first_window) == (20_000, (WORST + 7) * 10_000, HOUR)


def test_gaps_across_the_steps_of_the_audit_are_named_once(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_hour = HOUR_MS // WINDOW_MS
    covers(warehouse, {0: 10_000, per_hour - 2: 10_000, per_hour - 1: 4_000, per_hour + 3: 10_000, per_hour + 4: 2_000})
    full = audit(operator_reader(warehouse))
    monkeypatch.setattr(audit_module, "SPAN_ROWS", 1)
    assert audit(operator_reader(warehouse)) == full
    assert GpuGap(6_000, HOUR + HOUR_MS - 10_000, HOUR + HOUR_MS, *G1) in full.gpu_gaps
    assert GpuGap(30_000, HOUR + HOUR_MS, HOUR + HOUR_MS + 30_000, *G1) in full.gpu_gaps


def test_a_balanced_ledger_is_complete_only_with_all_gpu_time(warehouse: Warehouse) -> None:
    covers(warehouse, {0: 10_000, 1: 10_000})
    assert audit(operator_reader(warehouse)).complete
    covers(warehouse, {3: 10_000})
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.complete) == (True, False)


def _row(covered: list[int], start: int) -> dict[str, Any]:
    """Expected row of audit_coverage for one GPU whose windows from number `start` on cover this (-1: no row)."""
    at = [(start + i, ms) for i, ms in enumerate(covered) if ms >= 0]
    pairs = pairwise(at)
    return {
        "cluster": "c", "node": "n", "gpu_uuid": "g", "hardware": "H100",
        "first_ms": at[0][0] * 10, "last_ms": at[-1][0] * 10,
        "first_length_ms": 10, "last_length_ms": 10, "covered_ms": sum(ms for _, ms in at),
        "first_covered_ms": at[0][1], "last_covered_ms": at[-1][1],
        "gaps": [(-(b - a - 1) * 10, (a + 1) * 10, b * 10) for (a, _), (b, _) in pairs if b > a + 1],
        "short": [(ms - 10, t * 10, t * 10 + 10) for t, ms in at if ms < 10],
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.lists(st.integers(-1, 10), min_size=2, max_size=30).filter(lambda c: c[0] >= 0 and c[-1] >= 0),
    st.lists(st.integers(1, 29), max_size=4),
)
def test_gaps_sum_to_the_uncovered_time_for_any_steps(covered: list[int], cuts: list[int]) -> None:
    coverage, begin = Coverage(worst=100), 0
    for end in [*sorted({c for c in cuts if c < len(covered)}), len(covered)]:
        if max(covered[begin:end]) >= 0:
            coverage.add(_row(covered[begin:end], begin))
        begin = end
    (gpu,) = coverage.devices()
    inside = sum(10 - max(ms, 0) for ms in covered[1:-1])
    assert gpu.missing_ms == inside
    report = Audit()
    coverage.report(report)
    assert sum(gap.missing_ms for gap in report.gpu_gaps) == inside
