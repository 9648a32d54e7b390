"""Run:ai as a source: each workload's window on the log once, through all failures; and the producer as a user runs
it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import UsageBatch
from contracts.settings import Settings
from producers.api import PollResult, WorkloadBatch
from producers.runai import meters, windows
from producers.runai.metrics import RunAiMetrics
from producers.runai.plugin import RunAiConfig, api_of, source_of
from producers.runai.windows import RunAiCheckpoint
from producers.runtime import poll_loop
from producers.runtime.config import load
from producers.runtime.delivery import Delivery
from producers.runtime.event_sequence import Sequencer, event_of
from producers.runtime.poll_loop import PollLoop
from producers.runtime.runner import run
from producers.runtime.spool import Spool
from tests.producers.runai.stand_in import (
    CLUSTER,
    MINUTE_MS,
    SECRET,
    START,
    ApiObject,
    ApiRequest,
    FakeRunAi,
    Fault,
    Reply,
    times,
)
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock

CONFIG: dict[str, Any] = {
    "url": "https://acme.run.ai", "app_id": "app-1", "app_secret": SECRET, "concurrency": 1, "metrics_offset_s": 30,
    "workload_metrics": ("GPU_ALLOCATION", "CPU_USAGE_CORES"),
}  # fmt: skip
EVERY = 12 + 1
"""Rows of a workload's window, of all metrics: workload minutes are made from the running pods."""


class SourceRun:
    """A source with its clock and its checkpoint, step by step."""

    def __init__(self, standin: FakeRunAi, **more: Any) -> None:
        self.standin, self.time, self.registry = standin, FakeClock(now_ms=START, epoch_ms=0), CollectorRegistry()
        config = RunAiConfig(**CONFIG | more)
        self.api = api_of(config, self.time, standin.transport())
        self.source = source_of(Settings(cluster="here"), config, self.api, RunAiMetrics(self.registry))
        self.mark: bytes | None = windows.encode_checkpoint(RunAiCheckpoint(START))
        self.steps: list[PollResult] = []

    def step(self) -> PollResult:
        collected = self.source.collect(self.mark, self.time)
        self.mark = collected.checkpoint
        self.steps.append(collected)
        return collected

    def at(self, minutes: float) -> None:
        self.time.now_ms = START + round(minutes * MINUTE_MS)

    def rows(self) -> list[tuple[str, str, str, int]]:
        """(workload's id, meter, quantity, end in minutes) of all steps."""
        return [
            (batch.dimensions[n]["runai_workload_id"], batch.meter[n], batch.quantity[n], _minute(batch.t1_ms[n]))
            for step in self.steps
            for batch in map(usage, step.batches)
            for n in range(len(batch))
        ]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"wattlog_producer_runai_{name}", labels)

    @property
    def failed(self) -> list[str]:
        assert self.mark is not None
        return [u.workload_id for u in windows.decode_checkpoint(self.mark).failed]


def _minute(t_ms: Any) -> int:
    return (int(t_ms) - START) // MINUTE_MS


def usage(batch: WorkloadBatch) -> UsageBatch:
    assert isinstance(batch.batch, UsageBatch)
    batch.batch.check()
    return batch.batch


def of(workload: str, reply: Reply) -> Fault:
    return lambda request: reply if request.about_metrics and f"/{workload}/" in request.path else None


# -- windows -----------------------------------------------------------------------------------------------------------


def test_a_new_source_begins_now_and_makes_no_call() -> None:
    run = SourceRun(FakeRunAi())
    run.mark = None
    assert run.step().batches == []
    assert run.standin.requests == []
    assert windows.decode_checkpoint(run.mark or b"").read_ms == START - MINUTE_MS  # Less the offset.


def test_a_window_becomes_rows_of_its_workloads() -> None:
    run = SourceRun(FakeRunAi(workloads=2))
    run.at(1.5)
    by_workload = {m.workload: (m.cluster, usage(m)) for m in run.step().batches}
    assert by_workload.keys() == {"job-0", "job-1"}
    cluster, batch = by_workload["job-0"]
    assert cluster == "east"
    assert dict(zip(batch.meter, batch.quantity, strict=True)) == {
        "gpu_allocation_minutes": "2", "cpu_usage_core_minutes": "2",
    }  # fmt: skip
    assert batch.event_ms == START + MINUTE_MS
    assert set(batch.origin) == {f"runai://acme.run.ai/{CLUSTER}"}
    assert batch.dimensions[0]["namespace"] == "runai-proj-1"


def test_a_window_is_read_after_its_samples_have_arrived() -> None:
    run = SourceRun(FakeRunAi())
    run.at(1.499)
    assert run.step().batches == []
    assert run.standin.requests == []


def test_at_most_nine_metrics_are_requested_at_once() -> None:
    run = SourceRun(
        FakeRunAi(), workload_metrics=tuple(meters.WORKLOAD), pod_metrics=tuple(meters.POD), resource="both"
    )
    run.standin.pods = {"p0": ApiObject("p0", "pod-0", born_ms=START - 1, workload="w0")}
    run.standin.value = lambda metric, name, t_ms: 0.5
    run.at(1.5)
    run.step()
    metric_lists = [a.params["metricType"].split(",") for a in run.standin.metric_calls()]
    assert [len(metrics) for metrics in metric_lists] == [9, 3, 9, 9, 1]
    assert len({meter for _, meter, _, _ in run.rows()}) == EVERY + len(meters.POD)


def test_a_call_covers_the_window_with_a_sample_per_scrape() -> None:
    run = SourceRun(FakeRunAi())
    run.at(1.5)
    run.step()
    [call] = run.standin.metric_calls()
    assert call.path == "/api/v1/workloads/w0/metrics"
    assert call.params == {
        "metricType": "GPU_ALLOCATION,CPU_USAGE_CORES", "start": "2023-11-14T22:13:00Z", "end": "2023-11-14T22:14:00Z",
        "numberOfSamples": "4",
    }  # fmt: skip


def test_missed_windows_are_read_oldest_first_and_a_bounded_number_per_poll() -> None:
    run = SourceRun(FakeRunAi(), max_windows=3)
    run.at(5.6)
    assert [run.step().more for _ in range(3)] == [True, True, False]
    assert [end for *_, end in run.rows()] == [1, 1, 2, 2, 3, 3]
    assert run.value("behind_seconds") == pytest.approx(60 * 1.6)
    assert [run.step().more for _ in range(2)] == [True, False]
    assert [end for *_, end in run.rows()][6:] == [4, 4, 5, 5]


def test_missed_windows_without_workloads_are_passed() -> None:
    run = SourceRun(FakeRunAi(workloads=0))
    run.at(4.6)
    assert [run.step().more for _ in range(4)] == [True, True, True, False]


def test_windows_that_are_too_old_are_skipped_and_reported() -> None:
    run = SourceRun(FakeRunAi(), give_up_s=120)
    run.at(5.6)
    refusals = run.step().refused
    assert "nothing was read from 2023-11-14T22:13:00Z to 2023-11-14T22:16:00Z" in refusals[0]
    assert [end for *_, end in run.rows()] == [4, 4]


def test_a_cron_schedule_makes_windows_of_its_own_lengths() -> None:
    run = SourceRun(FakeRunAi(), schedule="0 0,20 * * * *", metrics_offset_s=0)
    run.mark = windows.encode_checkpoint(RunAiCheckpoint(START - 13 * MINUTE_MS))  # 22:00
    run.at(60)
    while run.step().more:
        pass
    assert [(q, end) for _, meter, q, end in run.rows() if meter.startswith("gpu")] == [("40", 7), ("80", 47)]


def test_a_workload_is_metered_for_its_part_of_each_window() -> None:
    run = SourceRun(FakeRunAi())
    run.standin.workloads["w0"].born_ms = START + 30_001
    run.standin.workloads["w0"].end_ms = START + 90_000
    run.at(2.5)
    run.step()
    run.step()
    assert [q for _, meter, q, _ in run.rows() if meter.startswith("gpu")] == ["1", "1"]
    assert run.value("missing_samples_total", metric="GPU_ALLOCATION") == 4


# -- tenants and names -------------------------------------------------------------------------------------------------


def test_tenants_are_projects_unless_a_table_maps_them() -> None:
    standin = FakeRunAi(workloads=2)
    standin.workloads["w1"].project = "proj-2"
    run = SourceRun(standin, tenants={"proj-2": "acme"})
    run.at(1.5)
    assert {t for m in run.step().batches for t in usage(m).tenant} == {"proj-1", "acme"}


def test_a_pod_bears_the_department_of_its_workload() -> None:
    run = SourceRun(FakeRunAi(), resource="pods", tenant_by="department")
    run.standin.pods = {"p0": ApiObject("p0", "pod-0", born_ms=START - 1, workload="w0")}
    run.at(1.5)
    [sent_batch] = run.step().batches
    batch = usage(sent_batch)
    assert (sent_batch.workload, set(batch.tenant)) == ("job-0", {"dep-1"})
    assert {(d["pod"], d["pod_id"], d["node"]) for d in batch.dimensions} == {("pod-0", "p0", "node-1")}
    assert sorted(d["gpu"] for d in batch.dimensions if "gpu" in d) == ["0", "0", "1", "1"]


def test_a_pod_of_an_unlisted_workload_is_named_by_its_own_fields() -> None:
    run = SourceRun(FakeRunAi(workloads=0), resource="pods")
    run.standin.pods = {"p0": ApiObject("p0", "pod-0", born_ms=START - 1, workload="w9")}
    run.at(1.5)
    [batch] = run.step().batches
    assert (batch.workload, set(usage(batch).tenant)) == ("of-the-pod", {"proj-1"})


def test_a_filter_of_workloads_applies_to_their_pods() -> None:
    run = SourceRun(FakeRunAi(), resource="pods", filter=("projectName==proj-1",))
    run.standin.pods = {w: ApiObject(w, w, born_ms=START - 1, workload=w) for w in ("w0", "w9")}
    run.at(1.5)
    assert {m.workload for m in run.step().batches} == {"job-0"}


def test_a_cluster_has_its_name_in_run_ai_or_the_configured_one() -> None:
    for more, expected in (({}, "east"), ({"cluster": "mine"}, "mine")):
        run = SourceRun(FakeRunAi(), **more)
        run.at(1.5)
        assert {m.cluster for m in run.step().batches} == {expected}


def test_cluster_ids_replace_names_that_may_not_be_read() -> None:
    run = SourceRun(FakeRunAi())
    run.standin.fault = times(9, Reply(403), lambda request: request.path == "/api/v1/clusters")
    run.at(1.5)
    assert {m.cluster for m in run.step().batches} == {CLUSTER}


def test_a_window_waits_while_cluster_names_cannot_be_read() -> None:
    run = SourceRun(FakeRunAi())
    run.standin.fault = times(9, Reply(500), lambda request: request.path == "/api/v1/clusters")
    run.at(1.5)
    with pytest.raises(Unavailable):
        run.step()


def test_an_invalid_id_is_refused_and_used_in_no_address() -> None:
    standin = FakeRunAi()
    standin.workloads["../token"] = ApiObject("../token", "evil", born_ms=START - 1)
    run = SourceRun(standin)
    run.at(1.5)
    assert "'evil'" in run.step().refused[0]
    assert [a.path for a in standin.metric_calls()] == ["/api/v1/workloads/w0/metrics"]


def test_a_workload_of_many_pods_is_sent_in_messages_within_the_brokers_limit() -> None:
    run = SourceRun(FakeRunAi(), resource="pods", pod_metrics=tuple(meters.POD))
    pods = (ApiObject(f"p{n}", "ä" * 250, born_ms=START - 1, workload="w0", project="ö" * 250) for n in range(40))
    run.standin.pods = {p.id: p for p in pods}
    run.standin.value = lambda metric, name, t_ms: 0.5123456789
    run.at(1.5)
    batches = run.step().batches
    sizes = [len(codec.encode(event_of(Sequencer(1), "s", m.cluster, m.workload, m.batch))[1]) for m in batches]
    assert len(sizes) > 1
    assert max(sizes) < 1_000_000 // 2
    of_a_pod = sum(2 if metric.endswith("_PER_GPU") else 1 for metric in meters.POD)
    assert len({i for m in batches for i in usage(m).event_id}) == 40 * of_a_pod


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failed_workload_delays_no_other_and_is_reported_and_read_again() -> None:
    run = SourceRun(FakeRunAi(workloads=3))
    run.standin.fault = of("w1", Reply(500))
    run.at(1.5)
    step = run.step()
    assert {m.workload for m in step.batches} == {"job-0", "job-2"}
    assert "workload 'job-1' (w1) of east, 2023-11-14T22:13:00Z to 2023-11-14T22:14:00Z" in step.notes[0]
    assert "answers 500" in step.notes[0]
    assert (run.failed, run.value("failed_workloads")) == (["w1"], 1)
    assert run.value("failures_total", reason="status_500") == 1
    run.standin.fault = lambda request: None
    run.at(2.55)
    again = run.step()
    assert [(m.workload, m.batch.event_ms) for m in again.batches] == [("job-1", START + MINUTE_MS)]
    assert again.more  # The next window is due too.
    assert (run.failed, run.value("failed_workloads")) == ([], 0)


def test_only_the_failed_metrics_are_read_again() -> None:
    run = SourceRun(FakeRunAi(), workload_metrics=tuple(meters.WORKLOAD))
    run.standin.fault = times(4, Reply(500), lambda a: a.about_metrics and "POD_COUNT" in a.params["metricType"])
    run.at(1.5)
    assert len(usage(run.step().batches[0])) == 9
    run.at(2.56)
    assert len(usage(run.step().batches[0])) == EVERY - 9
    assert set(Counter(run.rows()).values()) == {1}


def test_the_missing_part_of_a_partial_answer_is_requested_again() -> None:
    run = SourceRun(FakeRunAi())

    def half(request: ApiRequest) -> Reply | None:
        if request.about_metrics and "GPU_ALLOCATION" in request.params["metricType"]:
            sample = {"value": "2", "timestamp": "2023-11-14T22:14:00Z"}
            return Reply(207, {"measurements": [{"type": "CPU_USAGE_CORES", "labels": None, "values": [sample]}]})
        return None

    run.standin.fault = half
    run.at(1.5)
    run.step()
    assert [meter for _, meter, _, _ in run.rows()] == ["cpu_usage_core_minutes"]
    run.standin.fault = lambda request: None
    run.at(2.56)
    run.step()
    assert [meter for _, meter, _, _ in run.rows()] == ["cpu_usage_core_minutes", "gpu_allocation_minutes"]


def test_a_workload_that_fails_for_too_long_is_given_up_and_reported_by_name() -> None:
    run = SourceRun(FakeRunAi(workloads=2), give_up_s=600)
    run.standin.fault = of("w1", Reply(400, {"message": "no"}))
    run.at(1.5)
    refusals: list[str] = []
    for minute in range(2, 14):
        run.at(minute)
        while (step := run.step()).more:
            refusals += step.refused
        refusals += step.refused
    assert "workload 'job-1' (w1)" in refusals[0]
    assert "given up after" in refusals[0]
    assert run.value("given_up_total") == len(refusals) > 0


def test_a_missing_workload_does_not_block_a_window_even_if_it_is_the_only_one() -> None:
    run = SourceRun(FakeRunAi())
    run.standin.fault = of("w0", Reply(404))
    run.at(1.5)
    run.step()
    assert run.failed == ["w0"]


@pytest.mark.parametrize("reply", [Reply(500), Reply(429), Reply(0, slow=True), Reply(403), Reply(200, b"<html>")])
def test_a_window_without_any_answer_is_read_again_as_a_whole(reply: Reply) -> None:
    run = SourceRun(FakeRunAi(workloads=40))
    run.standin.fault = lambda request: reply if request.about_metrics else None
    run.at(1.5)
    with pytest.raises(Unavailable, match="None of 40"):
        run.step()
    assert len(run.standin.metric_calls()) <= 16 * 4  # The failure limit of a step stops further calls.
    run.standin.fault = lambda request: None
    run.step()
    assert len(run.rows()) == 80


def test_the_number_of_workloads_to_read_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_FAILED", 2)
    run = SourceRun(FakeRunAi(workloads=4))
    run.standin.fault = lambda request: Reply(400) if request.about_metrics and "w0" not in request.path else None
    run.at(1.5)
    with pytest.raises(Unavailable, match="3 of 4 workloads and pods cannot be read"):
        run.step()


def test_missing_workloads_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_FAILED", 2)
    run = SourceRun(FakeRunAi(workloads=4))
    run.standin.fault = lambda request: Reply(404) if request.about_metrics and "w0" not in request.path else None
    run.at(1.5)
    refusals = run.step().refused
    assert len(refusals) == run.value("given_up_total") == 1
    assert "given up after 1 tries" in refusals[0]
    assert len(run.failed) == 2


def test_a_token_that_expires_in_a_window_is_renewed_and_nothing_is_lost() -> None:
    run = SourceRun(FakeRunAi(workloads=4))

    def expire(request: ApiRequest) -> None:
        if request.about_metrics and len(run.standin.metric_calls()) == 2:
            run.standin.expired.add("token-1")

    run.standin.after = expire
    run.at(1.5)
    run.step()
    assert len(run.rows()) == 8
    assert run.standin.tokens == 2


def test_a_stop_within_a_window_leaves_it_to_the_next_run() -> None:
    run = SourceRun(FakeRunAi(workloads=3))
    run.standin.fault = of("w1", Reply(500))
    run.at(1.5)
    run.time.stopped = True
    with pytest.raises(Unavailable, match="stopped"):
        run.step()
    assert windows.decode_checkpoint(run.mark or b"") == RunAiCheckpoint(START)


def test_identities_do_not_depend_on_run_or_order_of_pages() -> None:
    def ids(page_size: int, born: Callable[[int], int], concurrency: int) -> list[tuple[str, str]]:
        standin = FakeRunAi()
        standin.workloads = {f"w{n}": ApiObject(f"w{n}", f"job-{n}", born_ms=born(n)) for n in range(7)}
        run = SourceRun(standin, page_size=page_size, concurrency=concurrency)
        run.at(1.5)
        batches = [usage(m) for m in run.step().batches]
        return [pair for b in batches for pair in zip(b.event_id, b.quantity, strict=True)]

    first = ids(500, lambda n: START - 100 + n, 1)
    assert len(set(first)) == 14
    assert first == ids(2, lambda n: START - n - 1, 4)


# -- once, through all failures ----------------------------------------------------------------------------------------

BAD = st.sampled_from([
    None, None, None, Reply(500), Reply(429, headers={"Retry-After": "3"}), Reply(503), Reply(401), Reply(404),
    Reply(0, slow=True), Reply(200, b"<html>"), Reply(207, {"measurements": []}),
])  # fmt: skip


@contextmanager
def collecting(path: Path, run: SourceRun, log: FakeBroker) -> Iterator[PollLoop]:
    # As patient with a 404 as with any failure: three of one workload would be enough to give it up.
    with closing(Spool(path)) as spool, patch.object(windows, "MAX_UNIT_TRIES", 99):
        yield PollLoop(
            [run.source],
            Delivery(spool, log),
            run.time,
            spool.checkpoints(),
            poll_loop.PollLoopMetrics(CollectorRegistry()),
        )


HOUR_MS = 60 * MINUTE_MS


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.lists(BAD, max_size=25), st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_each_window_and_metric_of_a_workload_is_on_the_log_once_through_all_failures(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[list[Reply | None], bool, bool]]
) -> None:
    path, log, standin = tmp_path_factory.mktemp("runai") / "spool.db", FakeBroker(), FakeRunAi(workloads=3)
    run = SourceRun(standin, schedule="@every 1h", samples=1)
    begin_ms = START - START % HOUR_MS
    with collecting(path, run, log) as first:
        first.poll_due()
    for script, log.silent, killed in runs:
        replies = iter(script)
        run.time.now_ms += 1_000  # A run's epoch is its start.
        standin.fault = lambda request, replies=replies: next(replies, None)  # type: ignore[misc]
        with collecting(path, run, log) as running:
            for _ in range(3):
                run.time.now_ms += HOUR_MS // 2
                for _ in range(3):
                    running.poll_due()
        if killed:
            log.forget()  # Messages in flight are lost with the process, and their answers too.
    standin.fault, log.silent = lambda request: None, False
    run.time.now_ms += 1_000
    with collecting(path, run, log) as last:
        for _ in range(4):  # Long enough to read again what failed most often.
            run.time.now_ms += HOUR_MS
            for _ in range(10):
                last.poll_due()
    stored = {(e.source, e.epoch, e.seq): e.batch for e in log.stored}  # as a worker sees them
    rows = Counter(
        (b.dimensions[n]["runai_workload_id"], b.meter[n], int(b.t1_ms[n]))
        for b in stored.values()
        if isinstance(b, UsageBatch)
        for n in range(len(b))
    )
    expected = {
        (w, meter, end_ms)
        for w in standin.workloads
        for meter in ("gpu_allocation_minutes", "cpu_usage_core_minutes")
        for end_ms in range(begin_ms + HOUR_MS, run.time.now_ms - 30_000 + 1, HOUR_MS)
    }
    assert set(rows) == expected
    assert set(rows.values()) == {1}


# -- the producer ------------------------------------------------------------------------------------------------------

TOML = """
[produce.runai]
url = "{url}"
app_id = "app-1"
schedule = "@every 1s"
metrics_offset_s = 0
timeout_s = 0.2
"""


@pytest.fixture
def standin() -> FakeRunAi:
    standin = FakeRunAi(workloads=3)
    for workload in standin.workloads.values():
        workload.born_ms = 0
    return standin


@pytest.fixture
def settings(standin: FakeRunAi, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    with standin.listening() as url:
        (tmp_path / "wattlog.toml").write_text(TOML.format(url=url))
        monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
        monkeypatch.setenv("WATTLOG_RUNAI_APP_SECRET", SECRET)
        yield Settings(data=tmp_path / "data", kafka_bootstrap=broker, cluster="here")


def test_run_ais_measurements_are_on_the_log_in_spite_of_its_faults(
    settings: Settings, standin: FakeRunAi, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bad = iter([Reply(500), Reply(0, slow=True), Reply(401), Reply(429, headers={"Retry-After": "0"}), Reply(502)])
    standin.fault = lambda request: next(bad, None) if request.about_metrics else None
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    rows: Counter[tuple[str, str, str]] = Counter()
    minutes: Counter[str] = Counter()
    stop = threading.Event()
    thread = threading.Thread(target=run, args=("runai", settings, stop))
    thread.start()
    while len({(w, t1) for w, _, t1 in rows}) < 6:
        assert thread.is_alive()
        if not consumer.assignment():
            consumer.assign([TopicPartition(topics.USAGE, p, 0) for p in range(4)])
        for m in consumer.consume(10, timeout=0.1):
            event = codec.decode(m.headers(), m.value())
            assert isinstance(event.batch, UsageBatch)
            assert event.cluster == "east"
            b = event.batch
            rows.update((event.workload, b.meter[n], str(b.t1_ms[n])) for n in range(len(b)))
            minutes.update({event.workload: len(b)})
    stop.set()
    thread.join()
    consumer.close()
    assert set(rows.values()) == {1}
    assert {meter for _, meter, _ in rows} == {m.meter for m in (*meters.WORKLOAD.values(), meters.WORKLOAD_MINUTES)}
    assert SECRET not in caplog.text
    assert "token-1" not in caplog.text


def test_doctor_shows_the_workloads_of_run_ai_or_the_failure(
    settings: Settings, standin: FakeRunAi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_finding() -> tuple[str, str]:
        [finding] = [
            f for f in islice(run_checks(settings), 2) if f.check == "runai"
        ]  # The remaining checks need the broker.
        return finding.state, finding.says

    state, text = read_finding()
    assert state == "ok"
    assert "3 workloads that may have pods, of east" in text
    standin.fault = times(1, Reply(403), lambda request: request.path == "/api/v1/clusters")
    assert "names may not be read" in read_finding()[1]
    monkeypatch.setenv("WATTLOG_RUNAI_APP_SECRET", "wrong")
    state, text = read_finding()
    assert state == "failed"
    assert "answers 401" in text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("url = 'acme.run.ai'", "produce.runai.url"),
        ("url = 'https://u:pw@acme.run.ai'", "leave user and password out"),
        ("schedule = '@reboot'", "produce.runai.schedule"),
        ("workload_metrics = ['GPU_UTILISATION']", "use some of GPU_ALLOCATION"),
        ("pod_metrics = ['POD_COUNT']", "use some of GPU_UTILIZATION"),
        ("tenants = { a = '__idle__' }", "Wattlog's own"),
        ("cluster = 'a/b'", "produce.runai.cluster"),
        ("filter = ['projectName']", "produce.runai.filter.0"),
        ("page_size = 501", "produce.runai.page_size: 501"),
        ("app_secret = 12345", "produce.runai.app_secret: '(not shown)'"),
    ],
)
def test_a_wrong_option_is_named_with_its_place_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    (tmp_path / "wattlog.toml").write_text(f"[produce.runai]\n{text}")
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    with pytest.raises(BadSetting) as error:
        load(RunAiConfig)
    assert named in str(error.value)
    assert "u:pw" not in str(error.value)


@pytest.mark.parametrize("lacks", ["url", "app_id", "app_secret"])
def test_a_missing_required_option_is_named(lacks: str) -> None:
    config = RunAiConfig(**{name: value for name, value in CONFIG.items() if name != lacks})
    with pytest.raises(BadSetting, match=f"produce.runai.{lacks}"):
        api_of(config, FakeClock(now_ms=START, epoch_ms=0))
