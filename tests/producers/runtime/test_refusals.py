"""The frame's part of a refusal: an exception of a source costs one read or item, is counted, and logged in bounds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from contracts.errors import Unavailable
from contracts.events import UsageBatch
from producers.api import PollResult, WorkloadBatch
from producers.gpu.readings import GpuReading
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.refusals import MAX_LOGGED, WINDOW_MS, ItemRefusal, RefusalReport, read_each
from tests.producers.conformance import ERRORS, joules, poll, refusals, sample
from tests.support.clocks import T0, FakeClock

errors = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)


class Steps:
    """A polled source that gives one unit a step, and runs `fault` on the result of each."""

    kind, every_ms = "steps", 1_000

    def __init__(self, name: str, fault: Callable[[int, PollResult], Any] = lambda step, result: result) -> None:
        self.name, self._fault, self._step = name, fault, 0

    def collect(self, checkpoint: bytes | None, clock: Clock, /) -> PollResult:
        self._step += 1
        row = UsageRow("steps", "1", "1", T0, T0, "acme", event_id=str(self._step))
        batch = WorkloadBatch("c", self.name, usage_batch([row], 0))
        result: PollResult = self._fault(self._step, PollResult([batch], str(self._step).encode()))
        return result


def _steps(bad: Steps, folder: Path) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Poll a bad source beside a good one; return the workload of each row, and the refusals."""
    log, metrics = poll([bad, Steps("good")], folder, FakeClock(4_500))
    rows = [e.workload for e in log.stored if isinstance(e.batch, UsageBatch) for _ in e.batch.quantity]
    return rows, dict(refusals(metrics))


@errors
def test_a_source_that_raises_anything_is_read_again_and_costs_no_other(error: Exception, tmp_path: Path) -> None:
    def fault(step: int, result: PollResult) -> PollResult:
        if step == 2:
            raise error
        return result

    rows, counts = _steps(Steps("bad", fault), tmp_path)
    assert (rows.count("bad"), rows.count("good")) == (4, 5)
    assert counts == {("bad", type(error).__name__): 1}


RESULTS: dict[str, Callable[[PollResult], Any]] = {
    "none": lambda result: None,
    "no batches": lambda result: result._replace(batches=None),
    "a batch that is none": lambda result: result._replace(batches=[None]),
    "a cluster that is no text": lambda result: result._replace(batches=[result.batches[0]._replace(cluster=5)]),
    "a workload of surrogates": lambda result: result._replace(batches=[result.batches[0]._replace(workload="\ud800")]),
    "a workload without end": lambda result: result._replace(batches=[result.batches[0]._replace(workload="x" * 999)]),
    "a checkpoint that is no bytes": lambda result: result._replace(checkpoint=object()),
    "columns of different lengths": lambda result: result._replace(
        batches=[WorkloadBatch("c", "bad", UsageBatch(**_uneven(result.batches[0].batch)))]
    ),
}


def _uneven(batch: Any) -> dict[str, Any]:
    return {**{name: getattr(batch, name) for name in batch.__dataclass_fields__}, "meter": ("a", "b")}


@pytest.mark.parametrize("change", RESULTS.values(), ids=RESULTS)
def test_a_result_that_is_none_costs_no_other(change: Callable[[PollResult], Any], tmp_path: Path) -> None:
    rows, counts = _steps(Steps("bad", lambda step, result: change(result) if step == 2 else result), tmp_path)
    assert (rows.count("bad"), rows.count("good")) == (4, 5)
    assert sum(counts.values()) == 1


class Gpus:
    """A sensor of two GPUs whose counters grow by 300 J a second; `fault` runs before each sample."""

    kind = "gpus"

    def __init__(self, fault: Callable[[int], None], bad: GpuReading | None = None) -> None:
        self._fault, self._bad, self._sample = fault, bad, 0

    def discover(self) -> Sequence[str]:
        return ["a", "b"]

    def readings(self, clock: Clock, /) -> Sequence[GpuReading]:
        self._sample += 1
        self._fault(self._sample)
        now_ms = clock.monotonic_ms()
        good = [GpuReading(gpu, "H100", clock.wall_ms(), now_ms, 300 * now_ms, 300.0) for gpu in self.discover()]
        return good if self._bad is None else [self._bad, *good]


@errors
def test_a_sensor_that_raises_anything_loses_no_joule(error: Exception, tmp_path: Path) -> None:
    def fault(number: int) -> None:
        if number == 3:
            raise error

    log, metrics = sample(Gpus(fault), tmp_path, FakeClock(6_000))
    assert joules(log) == 2 * 6 * 300
    assert refusals(metrics) == {("gpus", type(error).__name__): 1}


BAD_READINGS: Sequence[Any] = (
    GpuReading("x" * 300, "H100", T0, 0, 1, 1.0), GpuReading("", "H100", T0, 0, 1, 1.0),
    GpuReading("x", "H\x00100", T0, 0, 1, 1.0), GpuReading("\ud800", "H100", T0, 0, 1, 1.0),
    GpuReading("x", "H100", T0, 0, 1, "many"), GpuReading("x", "H100", None, None, 1, 1.0),  # type: ignore[arg-type]
    GpuReading("x", "H100", 10**20, 0, 1, 1.0), GpuReading("x", "H100", -1, 0, 1, 1.0), 5, object(),
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD_READINGS)
def test_a_reading_that_is_none_costs_no_other_gpu(bad: GpuReading, tmp_path: Path) -> None:
    log, metrics = sample(Gpus(lambda number: None, bad), tmp_path, FakeClock(6_000))
    assert joules(log) == 2 * 6 * 300
    assert sum(refusals(metrics).values()) >= 6


def test_an_outage_is_no_fault_of_an_item() -> None:
    def read(item: int) -> int:
        raise Unavailable("away", "wait")

    with pytest.raises(Unavailable):
        list(read_each([("1", 1)], read, []))


def test_refusals_are_counted_without_bound_and_logged_at_a_bounded_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = CollectorRegistry()
    report = RefusalReport(metrics)
    for second in range(120):
        report.add("a", [ItemRefusal(f"line {second}-{n}") for n in range(100)], 1_000 * second)
    assert refusals(metrics) == {("a", "invalid"): 12_000}
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "left out: line" in line]) == 2 * MAX_LOGGED
    assert f"a: {6_000 - MAX_LOGGED} more like these" in lines
    assert WINDOW_MS == 60_000


def test_a_refusal_like_the_one_before_it_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    report = RefusalReport(CollectorRegistry())
    for second in range(120):
        report.add("a", [ItemRefusal("away")], 1_000 * second, outcome="tried again")
    assert caplog.text.count("a: tried again: away") == 2
