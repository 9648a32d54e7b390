"""Due windows, and the quantities of samples: Run:ai's meters without Run:ai."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from producers.runai import meters, schedule, windows
from producers.runai.normalise import NormalisedRows, RowTerms, TenantRule, normalise, row_id
from producers.runai.responses import RunAiMeasurement, RunAiSample, epoch_ms, stamp
from producers.runai.schedule import CronSchedule, EverySchedule
from producers.runai.windows import ReadUnit, RunAiCheckpoint, RunAiWindow
from producers.runtime.batching import UsageRow, usage_batch
from tests.producers.runai.stand_in import CLUSTER, MINUTE_MS, START, when

TIMES_MS = st.integers(0, 4_000_000_000_000)


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# -- schedule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        ("@every 1m", "2026-03-01T10:08:00"),
        ("@every 1m30s", "2026-03-01T10:07:30"),
        ("@hourly", "2026-03-01T11:00:00"),
        ("@daily", "2026-03-02T00:00:00"),
        ("*/30 * * * * *", "2026-03-01T10:07:30"),
        ("*/5 * * * *", "2026-03-01T10:10:00"),
        ("0 8,18 * * mon-fri", "2026-03-02T08:00:00"),
    ],
)
def test_a_schedule_gives_the_ends_of_windows(text: str, follows: str) -> None:
    assert schedule.parse_schedule(text).following(at("2026-03-01T10:07:01")) == at(follows)


@pytest.mark.parametrize(
    "text", ["", "@every", "@every 0s", "@every 25h", "@every 5", "@every 1.5m", "@reboot", "61 * * * *", "0 0 31 2 *"]
)
def test_an_invalid_schedule_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match="schedule"):
        schedule.parse_schedule(text)


SCHEDULES = st.sampled_from(
    ["@every 1m", "@every 7s", "*/5 * * * *", "*/30 * * * * *", "0 8,18 * * mon-fri", "@weekly"]
)


@given(SCHEDULES, TIMES_MS)
def test_every_instant_is_in_one_window(text: str, t_ms: int) -> None:
    read = schedule.parse_schedule(text)
    start, end = read.latest(t_ms), read.following(t_ms)
    assert start <= t_ms < end
    assert read.following(start) == end
    assert read.latest(end) == end


def test_a_period_is_counted_from_1970_so_that_a_restart_has_the_same_windows() -> None:
    assert EverySchedule(90_000).latest(START + 1) % 90_000 == 0
    assert CronSchedule("* * * * *").latest(START) == START


# -- due windows -------------------------------------------------------------------------------------------------------

MINUTELY = EverySchedule(MINUTE_MS)


def unit(**more: object) -> ReadUnit:
    about = {"project": "proj-1", "department": "dep-1", "type": "Training"}
    read_unit = ReadUnit(
        t0_ms=START,
        t1_ms=START + MINUTE_MS,
        resource="workload",
        cluster_id=CLUSTER,
        cluster="east",
        workload_id="w0",
        workload="job-0",
        metrics=("GPU_ALLOCATION",),
        about=about,
    )
    return msgspec.structs.replace(read_unit, **more)


def test_a_source_begins_with_a_whole_window() -> None:
    mark = windows.first_checkpoint(MINUTELY, START + 90_000, 20_000)
    assert mark.read_ms == START + MINUTE_MS
    assert windows.due_window(mark, MINUTELY, START + 90_000, 20_000) is None


def test_a_window_is_due_once_its_samples_have_arrived() -> None:
    mark = RunAiCheckpoint(START)
    assert windows.due_window(mark, MINUTELY, START + 89_999, 30_000) is None
    assert windows.due_window(mark, MINUTELY, START + 90_000, 30_000) == RunAiWindow(START, START + MINUTE_MS)


def test_the_oldest_window_comes_first() -> None:
    assert windows.due_window(RunAiCheckpoint(START), MINUTELY, START + 10**8, 0) == RunAiWindow(
        START, START + MINUTE_MS
    )


def test_a_window_that_is_too_old_is_skipped_and_reported() -> None:
    now_ms = START + 10 * MINUTE_MS
    mark, left_out = windows.skip_too_old(RunAiCheckpoint(START, (unit(),)), MINUTELY, now_ms, 3 * MINUTE_MS)
    assert mark == RunAiCheckpoint(START + 7 * MINUTE_MS, (unit(),))
    assert left_out == RunAiWindow(START, START + 7 * MINUTE_MS)
    assert windows.skip_too_old(mark, MINUTELY, now_ms, 3 * MINUTE_MS) == (mark, None)


def test_failed_reads_are_repeated_ever_more_seldom_up_to_an_hour() -> None:
    failing, waits = unit(), []
    for _ in range(10):
        failing = windows.retry_later(failing, failing.metrics, "no answer", "away", now_ms=0)
        waits.append(failing.next_ms // 1000)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    assert windows.due_retries([failing], 3_599_999) == []
    assert windows.due_retries([failing], 3_600_000) == [failing]


def test_a_failed_read_is_given_up_when_it_is_too_old() -> None:
    assert windows.expired_units([unit(tries=99)], START + 2 * MINUTE_MS - 1, MINUTE_MS) == []
    assert windows.expired_units([unit(tries=1)], START + 2 * MINUTE_MS, MINUTE_MS) == [unit(tries=1)]


def test_a_read_that_run_ai_answered_three_times_with_not_found_is_given_up() -> None:
    failing = unit()
    for tries in range(1, 4):
        failing = windows.retry_later(failing, failing.metrics, "gone", "status_404", now_ms=0)
        assert bool(windows.expired_units([failing], START, MINUTE_MS)) == (tries == 3)


def test_reads_answered_with_not_found_are_the_first_to_go_when_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(windows, "MAX_FAILED", 2)
    gone, older, away = unit(reason="status_404"), unit(reason="partial", t1_ms=START), unit(reason="away")
    assert windows.make_room((gone, away)) == ((gone, away), [])
    assert windows.make_room((gone, older, away)) == ((gone, away), [older])
    assert windows.make_room((gone, away, away, away)) == ((gone, away, away, away), [])


def test_a_checkpoint_survives_a_round_trip() -> None:
    mark = RunAiCheckpoint(START, (unit(tries=2, why="away"),))
    assert windows.decode_checkpoint(windows.encode_checkpoint(mark)) == mark


@pytest.mark.parametrize(
    "data", [b"junk", windows.encode_checkpoint(RunAiCheckpoint(1, tag=2)), msgspec.msgpack.encode({"read_ms": "x"})]
)
def test_a_checkpoint_of_another_version_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="version"):
        windows.decode_checkpoint(data)


@pytest.mark.parametrize(
    ("span_ms", "setting", "expected"), [(60_000, 0, 4), (60_000, 1, 1), (5_000, 0, 1), (10**9, 0, 1000)]
)
def test_a_window_has_a_sample_per_scrape_by_default(span_ms: int, setting: int, expected: int) -> None:
    assert RunAiWindow(0, span_ms).samples(setting) == expected


# -- quantities --------------------------------------------------------------------------------------------------------

ORIGIN = "runai://acme.run.ai"
TERMS = RowTerms(ORIGIN)


FIRST = RunAiWindow(START, START + MINUTE_MS)


def measured(metric: str, *values: object, window: RunAiWindow = FIRST, gpu: str = "") -> RunAiMeasurement:
    """Values at the ends of equal parts of a window; None: no sample."""
    step = (window.t1_ms - window.t0_ms) // len(values)
    samples = [RunAiSample(str(v), when(window.t0_ms + step * (n + 1))) for n, v in enumerate(values) if v is not None]
    return RunAiMeasurement(metric, {"gpu": gpu} if gpu else None, samples)


def found_of(
    metric: str, *measurements: RunAiMeasurement, terms: RowTerms = TERMS, resource: meters.Resource = "workload"
) -> NormalisedRows:
    return normalise(unit(metrics=(metric,), resource=resource), measurements, terms)


def quantities(rows: NormalisedRows) -> dict[str, str]:
    return {row.meter: row.quantity for row in rows.rows}


@pytest.mark.parametrize(
    ("resource", "metric", "value", "meter", "unit_", "quantity"),
    [
        ("workload", "GPU_ALLOCATION", "1.5", "gpu_allocation_minutes", "min", "1.5"),
        ("workload", "GPU_UTILIZATION", "85", "gpu_usage_minutes", "min", "0.85"),
        ("workload", "CPU_LIMIT_CORES", "96", "cpu_limit_core_minutes", "core.min", "96"),
        ("workload", "GPU_MEMORY_REQUEST_BYTES", "4e10", "gpu_memory_request_gigabyte_minutes", "GB.min", "40"),
        ("workload", "CPU_MEMORY_USAGE_BYTES", "1", "cpu_memory_usage_gigabyte_minutes", "GB.min", "0.000000001"),
        ("pod", "CPU_USAGE_CORES", "0.25", "pod_cpu_usage_core_minutes", "core.min", "0.25"),
        ("pod", "GPU_SM_ACTIVITY_PER_GPU", "0.5", "pod_gpu_device_sm_activity_ratio_minutes", "min", "0.5"),
        ("pod", "GPU_PCIE_RECEIVED_BANDWIDTH_PER_GPU", "1e9", "pod_gpu_device_pcie_received_gigabytes", "GB", "60"),
    ],
)  # fmt: skip
def test_a_gauge_becomes_a_meter_over_its_minutes(
    resource: meters.Resource, metric: str, value: str, meter: str, unit_: str, quantity: str
) -> None:
    [row] = found_of(metric, measured(metric, *[value] * 4), resource=resource).rows
    assert (row.meter, row.unit, row.quantity) == (meter, unit_, quantity)
    assert (row.t0_ms, row.t1_ms) == (START, START + MINUTE_MS)


def test_every_meter_has_a_name_of_its_own() -> None:
    names = [m.meter for table in meters.METERS.values() for m in table.values()]
    assert len(names) == len({*names, meters.WORKLOAD_MINUTES.meter}) - 1


VALUES = st.decimals(0, 10**12, places=3)
SPANS_MS = st.integers(1, 10_000).map(lambda s: 1000 * s)


@given(VALUES, SPANS_MS)
def test_minutes_are_the_value_times_the_duration(value: Decimal, span_ms: int) -> None:
    window = RunAiWindow(START, START + span_ms)
    rows = normalise(
        unit(t1_ms=window.t1_ms), [measured("GPU_ALLOCATION", value, window=window)], replace(TERMS, samples=1)
    )
    assert abs(Decimal(rows.rows[0].quantity) - value * span_ms / 60_000) <= Decimal("1e-12")


@given(st.lists(VALUES, min_size=2, max_size=12))
def test_adjacent_windows_sum_to_the_window_over_both(values: Sequence[Decimal]) -> None:
    values = [*values, values[-1]] if len(values) % 2 else values
    half, step = len(values) // 2, MINUTE_MS
    window = RunAiWindow(START, START + len(values) * step)
    measurement = measured("GPU_ALLOCATION", *values, window=window)

    def minutes(t0_ms: int, t1_ms: int, samples: int) -> Decimal:
        rows = normalise(unit(t0_ms=t0_ms, t1_ms=t1_ms), [measurement], replace(TERMS, samples=samples))
        return Decimal(rows.rows[0].quantity)

    middle_ms = START + half * step
    parts = minutes(START, middle_ms, half) + minutes(middle_ms, window.t1_ms, half)
    assert abs(parts - minutes(*window, len(values))) <= Decimal("2e-12")


def test_several_samples_are_averaged() -> None:
    assert quantities(found_of("GPU_ALLOCATION", measured("GPU_ALLOCATION", 0, 8, 8, 0))) == {
        "gpu_allocation_minutes": "4"
    }


def test_a_workload_is_metered_for_its_part_of_a_window() -> None:
    rows = found_of("GPU_ALLOCATION", measured("GPU_ALLOCATION", None, None, None, 8))
    assert quantities(rows) == {"gpu_allocation_minutes": "2"}
    assert rows.missing == {"GPU_ALLOCATION": 3}


def test_a_single_sample_stands_for_the_whole_window() -> None:
    rows = found_of("GPU_ALLOCATION", measured("GPU_ALLOCATION", 1, 2, 3, 8), terms=replace(TERMS, samples=1))
    assert quantities(rows) == {"gpu_allocation_minutes": "8"}


def test_a_sample_at_the_start_belongs_to_the_window_before() -> None:
    samples = [RunAiSample("7", when(START)), *(RunAiSample("1", when(START + n * 15_000)) for n in range(1, 5))]
    assert quantities(found_of("GPU_ALLOCATION", RunAiMeasurement("GPU_ALLOCATION", None, samples))) == {
        "gpu_allocation_minutes": "1"
    }


@pytest.mark.parametrize(
    "values", [None, [], [RunAiSample("NaN", when(START + 15_000))], [RunAiSample(None, when(START + 1))]]
)
def test_a_window_without_a_sample_has_no_row_instead_of_a_zero(values: list[RunAiSample] | None) -> None:
    rows = found_of("GPU_ALLOCATION", RunAiMeasurement("GPU_ALLOCATION", None, values))
    assert rows == NormalisedRows([], {"GPU_ALLOCATION": 4})


def test_an_unanswered_metric_is_missing_and_reported() -> None:
    assert found_of("GPU_ALLOCATION") == NormalisedRows([], {"GPU_ALLOCATION": 4}, absent=["GPU_ALLOCATION"])


def test_a_measured_zero_is_a_row() -> None:
    assert quantities(found_of("GPU_UTILIZATION", measured("GPU_UTILIZATION", 0, 0, 0, 0))) == {
        "gpu_usage_minutes": "0"
    }


@pytest.mark.parametrize("value", ["-1", "inf", "many", "1e99"])
def test_an_invalid_quantity_is_refused_by_name(value: str) -> None:
    rows = found_of("GPU_ALLOCATION", measured("GPU_ALLOCATION", value, value, value, value))
    assert rows.rows == []
    assert "GPU_ALLOCATION of workload 'job-0' (w0)" in rows.refused[0]


def test_a_share_above_one_is_refused_unless_it_is_a_percentage() -> None:
    metric = "GPU_SM_ACTIVITY_PER_GPU"
    measurement = measured(metric, 43, 43, 43, 43, gpu="0")
    assert found_of(metric, measurement, resource="pod").rows == []
    [row] = found_of(metric, measurement, resource="pod", terms=replace(TERMS, activity="percent")).rows
    assert row.quantity == "0.43"


def test_minutes_of_a_workload_are_those_with_a_running_pod() -> None:
    assert quantities(found_of("RUNNING_POD_COUNT", measured("RUNNING_POD_COUNT", 0, 2, 2, None))) == {
        "workload_running_pod_minutes": "1", "workload_minutes": "0.5",
    }  # fmt: skip


def test_each_gpu_has_a_row_that_names_it() -> None:
    metric = "GPU_UTILIZATION_PER_GPU"
    measurements = [measured(metric, 100, 100, 100, 100, gpu="0"), measured(metric, 50, 50, 50, 50, gpu="1")]
    rows = found_of(metric, *measurements, resource="pod").rows
    assert {r.dimensions["gpu"]: r.quantity for r in rows} == {"0": "1", "1": "0.5"}
    assert len({r.event_id for r in rows}) == 2


def test_indistinguishable_measurements_count_once_and_are_reported() -> None:
    metric = "GPU_UTILIZATION_PER_GPU"
    rows = found_of(metric, *[measured(metric, 1, 1, 1, 1, gpu="0")] * 2, resource="pod")
    assert len(rows.rows) == 1
    assert "same labels" in rows.refused[0]


def test_a_row_has_tenant_workload_and_dimensions() -> None:
    [row] = found_of("GPU_ALLOCATION", measured("GPU_ALLOCATION", 1, 1, 1, 1)).rows
    assert (row.tenant, row.origin) == ("proj-1", f"{ORIGIN}/{CLUSTER}")
    assert dict(row.dimensions) == {
        "runai_workload_id": "w0", "project": "proj-1", "department": "dep-1", "type": "Training",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "tenant"),
    [
        (TenantRule(), "proj-1"),
        (TenantRule(by="department"), "dep-1"),
        (TenantRule(tenants={"proj-1": "acme"}), "acme"),
        (TenantRule(tenants={"proj-2": "acme"}, other="rest"), "rest"),
        (TenantRule(tenants={"proj-1": "__idle__"}), ""),
    ],
)
def test_the_tenant_is_the_project_or_the_configured_one(rule: TenantRule, tenant: str) -> None:
    assert rule.tenant({"project": "proj-1", "department": "dep-1"}) == tenant


def test_rows_without_a_project_have_no_tenant() -> None:
    assert TenantRule(by="department").tenant({"project": "proj-1"}) == ""


TEXTS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=40)
PARTS = st.tuples(TEXTS, TEXTS, TEXTS, st.sampled_from(list(meters.POD)), st.dictionaries(TEXTS, TEXTS, max_size=3))


@given(PARTS, PARTS)
def test_rows_have_distinct_and_stable_identities(
    one: tuple[str, str, str, str, dict[str, str]], other: tuple[str, str, str, str, dict[str, str]]
) -> None:
    def of(parts: tuple[str, str, str, str, dict[str, str]], **more: object) -> str:
        cluster, workload, pod, metric, labels = parts
        return row_id(unit(cluster_id=cluster, workload_id=workload, pod_id=pod, **more), metric, labels)

    assert (of(one) == of(other)) == (one == other)
    assert of(one) == of((*one[:4], dict(reversed(one[4].items()))), tries=3, why="away", about={})
    assert of(one) != of(one, t1_ms=START + 1)
    assert len(of(one)) <= 253


def test_rows_are_valid_for_any_names_in_run_ai() -> None:
    measurement = measured("GPU_UTILIZATION_PER_GPU", 1, 1, 1, 1, gpu="x" * 500)
    read_unit = unit(
        resource="pod", metrics=("GPU_UTILIZATION_PER_GPU",), about={"project": "p", "pod": "a"}, workload_id="w" * 300
    )
    rows: list[UsageRow] = normalise(
        msgspec.structs.replace(read_unit, workload_id="w" * 200), [measurement], TERMS
    ).rows
    usage_batch(rows, START).check()


@pytest.mark.parametrize(
    "text", ["2023-06-06 12:09:18.211", "2023-06-06T12:09:18.211Z", "2023-06-06T14:09:18.211+02:00"]
)
def test_all_of_run_ais_time_formats_are_read(text: str) -> None:
    assert epoch_ms(text) == at("2023-06-06T12:09:18.211")
    assert epoch_ms("soon") is None


def test_times_are_written_in_run_ais_format() -> None:
    assert stamp(at("2023-06-06T12:09:18")) == "2023-06-06T12:09:18Z"
    assert stamp(at("2023-06-06T12:09:18.211")) == "2023-06-06T12:09:18.211Z"
