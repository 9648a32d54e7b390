"""One suite over every registered plug-in: malformed, cut, huge, nested, overflowing and wrongly encoded input, and
exceptions of any class. The process continues, good items beside bad ones count exactly, refusals are counted.

Every plug-in declares how it is fed: a page or a body here, or the file of tests that feeds it (`FED_ELSEWHERE`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import InvalidOperation
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contracts.events import PowerBatch, TokenBatch, UsageBatch
from contracts.settings import Settings
from producers import registry
from producers.api import Kind, PollResult, WorkloadBatch
from producers.gpu.exporter.sensor import KNOWN as FORMATS
from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.intervals import GpuReading
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.receiver.routes import open_routes
from producers.runtime.spool import Spool
from producers.servers.scrape import ServedWorkload, ServerSource
from tests.producers.frame import environment, token_counters
from tests.producers.runtime.receiver.listener import event, listening
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock
from tests.support.paths import ROOT

ERRORS: Sequence[Exception] = (
    RuntimeError("a fault"), RecursionError(), MemoryError(), KeyError("x"), OverflowError("too large"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), InvalidOperation(), AssertionError(),
    type("LibraryError", (Exception,), {})("a library's own"), OSError(5, "I/O error"), ZeroDivisionError(),
)  # fmt: skip
BODIES = {
    "empty": b"", "cut": b'{"id": "x", "mod', "encoding": b"\xff\xfe\x00{", "null": b"null", "text": b'"x"',
    "nested": b"[" * 100_000, "object": b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    "overflow": b'{"x":1e99999999999999999999}',
    "nan": b'{"id": NaN}', "huge": b'{"id": ' + b"9" * 5_000 + b"}", "surrogate": b'{"id": "\\ud800"}',
    "lines": b"{}\n" * 1_000, "spans": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"\xff"}]}]}]}',
}  # fmt: skip
PAGES = (
    "", "}{", "\x00\x01", "# TYPE x", "x{a=\"b", "x NaN\n", "x " + "9" * 5_000 + "\n", "x{" + "a=\"" * 10_000,
    "x 1e999\n",
    "process_start_time_seconds NaN\n", "\ud800 1\n",
)  # fmt: skip
SERVER_PAGES = {
    "vllm": ("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
    "sglang": ("sglang:prompt_tokens_total", "sglang:generation_tokens_total"),
    "tgi": ("tgi_request_input_length_sum", "tgi_request_generated_tokens_sum"),
    "trtllm": ("trtllm_prompt_tokens_total", "trtllm_generation_tokens_total"),
    "triton": ("nv_inference_request_success", "nv_inference_request_failure"),
}
"""By server, two counters of a good page."""
_TIMES = {"startTime": 1_793_491_200.0, "endTime": 1_793_491_201.0}
_SPAN_ATTRIBUTES = [
    {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
    {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}},
    {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "4"}},
]
_SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "kind": 3,
    "attributes": _SPAN_ATTRIBUTES,
    "startTimeUnixNano": "1793491200000000000", "endTimeUnixNano": "1793491201000000000",
}  # fmt: skip
GOOD_BODIES = {
    "cloudevents": event(),
    "litellm": {"id": "r", "model": "m", "prompt_tokens": 3, "completion_tokens": 4, **_TIMES},
    "otlp": {"resourceSpans": [{"scopeSpans": [{"spans": [_SPAN]}]}]},
}
"""By route, a body of one good item."""
FED_ELSEWHERE = {
    "nvml": "gpu/nvml/test_sensor.py", "zeusd": "gpu/zeusd/test_sensor.py", "host": "host/test_host.py",
    "accesslog": "gateways/test_malformed.py", "litellm": "gateways/test_malformed.py",
    "otel": "gateways/test_malformed.py", "cgroups": "meters/test_malformed.py", "kubelet": "meters/test_malformed.py",
    "prometheus": "meters/test_malformed.py", "sql": "meters/test_malformed.py", "runai": "runai/test_malformed.py",
    "servers": "common/test_prometheus_text.py", "http": "runtime/receiver/test_server.py",
    "simulated": "simulation", "bindings": "bindings/test_watcher.py", "settings": "bindings/test_watcher.py",
    "kubernetes": "bindings/kubernetes", "slurm": "bindings/processes", "processes": "bindings/processes",
    "mlperf": "recordings/test_malformed.py", "azure": "recordings/test_malformed.py",
    "csv": "recordings/test_malformed.py",
}  # fmt: skip


@pytest.mark.parametrize("entry", registry.BUILT_IN, ids=lambda entry: f"{entry.kind.name}-{entry.name}")
def test_every_plug_in_declares_how_it_is_fed(entry: registry.Entry) -> None:
    if entry.kind is Kind.ROUTE:
        assert entry.name in GOOD_BODIES
    elif entry.kind is Kind.SERVER:
        assert entry.name in SERVER_PAGES
    elif entry.name != "exporter":
        assert (ROOT / "tests" / "producers" / FED_ELSEWHERE[entry.name]).exists()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db")) as spool:
        yield spool


class Steps:
    """A polled source that gives one unit a step, and runs `fault` before a step that fails."""

    kind, every_ms = "steps", 1_000

    def __init__(self, name: str, fault: Callable[[int], None] = lambda step: None) -> None:
        self.name, self._fault, self._step = name, fault, 0

    def collect(self, checkpoint: bytes | None, clock: Clock, /) -> PollResult:
        self._step += 1
        self._fault(self._step)
        row = UsageRow("steps", "1", "1", T0, T0, "acme", event_id=str(self._step))
        return PollResult([WorkloadBatch("c", self.name, usage_batch([row], 0))], str(self._step).encode())


def fails_at(step: int, error: Exception) -> Callable[[int], None]:
    def fault(now: int) -> None:
        if now == step:
            raise error

    return fault


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_source_that_raises_anything_is_read_again_and_costs_no_other(error: Exception, spool: Spool) -> None:
    log, metrics = FakeBroker(), CollectorRegistry()
    sources = [Steps("bad", fails_at(2, error)), Steps("good")]
    PollLoop(sources, Delivery(spool, log), FakeClock(4_500), {}, PollLoopMetrics(metrics)).run()
    rows = [e.workload for e in log.stored if isinstance(e.batch, UsageBatch) for _ in e.batch.quantity]
    assert (rows.count("bad"), rows.count("good")) == (4, 5)
    labels = {"source": "bad", "reason": type(error).__name__}
    assert metrics.get_sample_value("wattlog_producer_refused_total", labels) == 1


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


def joules(log: FakeBroker) -> int:
    return sum(int(e.batch.energy_uj.sum()) for e in log.stored if isinstance(e.batch, PowerBatch)) // 1_000_000


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_sensor_that_raises_anything_loses_no_joule(error: Exception, spool: Spool) -> None:
    log, metrics, clock = FakeBroker(), CollectorRegistry(), FakeClock(6_000)
    node = AgentConfig("c", "n", kind="gpus", boot="b")
    Agent(node, Gpus(fails_at(3, error)), Delivery(spool, log), clock, dict, AgentMetrics(metrics)).run()
    assert joules(log) == 2 * 6 * 300
    labels = {"source": "gpus", "reason": type(error).__name__}
    assert metrics.get_sample_value("wattlog_producer_refused_total", labels) == 1


BAD_READINGS = (
    GpuReading("x" * 300, "H100", T0, 0, 1, 1.0), GpuReading("", "H100", T0, 0, 1, 1.0),
    GpuReading("x", "H\x00100", T0, 0, 1, 1.0), GpuReading("\ud800", "H100", T0, 0, 1, 1.0),
    GpuReading("x", "H100", T0, 0, 1, "many"), GpuReading("x", "H100", None, None, 1, 1.0),  # type: ignore[arg-type]
)  # fmt: skip


@pytest.mark.parametrize("bad", BAD_READINGS)
def test_a_reading_that_is_none_costs_no_other_gpu(bad: GpuReading, spool: Spool) -> None:
    log, metrics = FakeBroker(), CollectorRegistry()
    sensor = Gpus(lambda sample: None, bad)
    Agent(
        AgentConfig("c", "n", kind="gpus"), sensor, Delivery(spool, log), FakeClock(6_000), dict, AgentMetrics(metrics)
    ).run()
    assert joules(log) == 2 * 6 * 300


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("page", PAGES)
def test_a_malformed_page_of_an_exporter_costs_no_joule(name: str, page: str, spool: Spool) -> None:
    form, log = FORMATS[name], FakeBroker()
    clock = FakeClock(6_000)

    def fetch() -> str:
        if clock.now_ms == 3_000:
            return page
        counter = f'{form.counter_mj}{{{form.uuid}="GPU-a"}} {300 * clock.now_ms}\n' if form.counter_mj else ""
        return counter + f'{form.watts[-1]}{{{form.uuid}="GPU-a"}} 300\n'

    Agent(
        AgentConfig("c", "n", kind=name, boot="b"), ExporterSensor(form, fetch), Delivery(spool, log), clock, dict
    ).run()
    assert joules(log) == 6 * 300


@pytest.mark.parametrize("server", registry.names(Kind.SERVER))
@pytest.mark.parametrize("page", PAGES)
def test_a_malformed_page_of_a_server_loses_no_count(server: str, page: str, spool: Spool) -> None:
    counters, log, clock, looks = SERVER_PAGES[server], FakeBroker(), FakeClock(5_500), [0]

    def fetch() -> str:
        looks[0] += 1
        return page if looks[0] == 3 else "".join(f"{name} {10 * looks[0]}\n" for name in counters)

    source = ServerSource(token_counters(server), "http://a", ServedWorkload("c", "w", "acme"), 1_000, fetch)
    PollLoop([source], Delivery(spool, log), clock, {}, PollLoopMetrics(CollectorRegistry())).run()
    batches = [e.batch for e in log.stored if isinstance(e.batch, TokenBatch)]
    prompt, completion, requests = (
        sum(int(column(batch).sum()) for batch in batches if len(batch))
        for column in (
            lambda b: b.prompt_tokens, lambda b: b.completion_tokens,
            lambda b: b.requests if b.requests is not None else np.ones(len(b), np.int64),
        )
    )  # fmt: skip
    assert (requests if server == "triton" else prompt) == (100 if server == "triton" else 50)
    assert completion == (0 if server == "triton" else 50)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("name", registry.names(Kind.ROUTE))
def test_a_malformed_body_is_refused_and_the_next_good_one_counts(name: str, body: bytes, tmp_path: Path) -> None:
    routes = open_routes(environment(Settings(cluster="c1")))
    own = [route for route in routes if route.kind != "cloudevents"]
    kinds = {"cloudevents": "cloudevents", "litellm": "litellm", "otlp": "otlp"}
    [route] = [route for route in routes if route.kind == kinds[name]]
    with listening(tmp_path, intakes=own) as listener:
        for content_type in route.bodies:
            answer = listener.client.post(route.path, content=body, headers={"Content-Type": content_type})
            assert answer.status_code < 500
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
        good = json.dumps(GOOD_BODIES[name]).encode()
        json_type = next(kind for kind in route.bodies if "json" in kind and "batch" not in kind)
        answer = listener.client.post(route.path, content=good, headers={"Content-Type": json_type})
        assert answer.status_code in (200, 202)
        assert sum(len(e.batch) for e in listener.broker.stored) >= 1
