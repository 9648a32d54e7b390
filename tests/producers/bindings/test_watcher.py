"""The watcher of bindings: sources in order, in a thread that cannot delay a sample, and never by a guess."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import PowerBatch, UsageBatch
from contracts.settings import Settings
from producers import registry
from producers.api import BindingSource, Kind
from producers.bindings.apportion import Binding, BindingShare
from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    GpuBoard,
    SourceAbsent,
    WorkloadHolder,
)
from producers.bindings.metrics import BindingMetrics
from producers.bindings.plugin import holders
from producers.bindings.watcher import BindingReader, BindingWatcher, describe_shares
from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.exporter_formats import DCGM
from producers.gpu.nvml import sensor
from producers.gpu.readings import GpuReading
from producers.gpu.roster import GpuRoster
from producers.runtime.refusals import RefusalReport
from producers.runtime.runner import open_environment, run
from tests.producers.bindings.kubernetes.stand_ins import (
    TOKEN,
    FakeApi,
    FakeKubelet,
    api,
    kubelet,
    pod,
    resources,
)
from tests.producers.frame import findings
from tests.support.event_log import read_events
from tests.support.waiting import HANG_S, wait_until

A = "GPU-11111111-2222-3333-4444-555555555555"
B = "GPU-66666666-2222-3333-4444-555555555555"
NOBODY = Binding("~n1")
CHAT, CODE = (
    WorkloadHolder("chat", "acme", "kubernetes", rule="label"),
    WorkloadHolder("code", "acme", "processes", rule="rule 1"),
)


class ScriptedSource:
    """A source whose answer the test sets."""

    def __init__(self, name: str, answer: Callable[[], ClaimReport]) -> None:
        self.name, self.answer = name, answer
        self.requests: list[Sequence[str]] = []

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        self.requests.append([b.uuid for b in topology])
        return self.answer()


def fails(error: Exception) -> Callable[..., ClaimReport]:
    def reply(*_: object) -> ClaimReport:
        raise error

    return reply


def claims(**held: WorkloadHolder | None) -> Callable[[], ClaimReport]:
    return lambda: ClaimReport([DeviceClaim({"a": A, "b": B}[name], holder) for name, holder in held.items()])


class Node:
    """A binding reader with its metrics and a clock of its own."""

    def __init__(self, *sources: BindingSource, keep_ms: int = 60_000) -> None:
        self.registry = CollectorRegistry()
        self.metrics = BindingMetrics(self.registry)
        self.now_ms = 0
        self.reader = BindingReader(
            lambda: (GpuBoard(A), GpuBoard(B)), sources, NOBODY, keep_ms=keep_ms, metrics=self.metrics,
            refusals=RefusalReport(self.registry),
        )  # fmt: skip

    def workloads(self, now_ms: int) -> dict[str, str]:
        return {gpu: h[0].binding.workload for gpu, h in self.reader.read(now_ms).shares.items()}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"wattlog_producer_{name}", labels)


GONE = Unavailable("the kubelet is away", "wait")


def test_each_source_gets_the_gpus_that_earlier_sources_left() -> None:
    first, second = ScriptedSource("kubernetes", claims(a=CHAT)), ScriptedSource("processes", claims(a=CODE, b=CODE))
    assert Node(first, second).workloads(0) == {A: "chat", B: "code"}
    assert second.requests == [[B]]


def test_a_gpu_with_an_unknown_holder_is_not_passed_to_the_next_source() -> None:
    node = Node(ScriptedSource("kubernetes", claims(a=None)), ScriptedSource("settings", claims(a=CODE, b=CODE)))
    assert node.workloads(0) == {A: "~n1", B: "code"}


def test_a_silent_source_keeps_its_last_answer_for_a_while_and_no_other_replaces_it() -> None:
    first, second = ScriptedSource("kubernetes", claims(a=CHAT)), ScriptedSource("settings", claims(a=CODE, b=CODE))
    node = Node(first, second, keep_ms=60_000)
    node.workloads(0)
    first.answer = fails(GONE)
    assert node.workloads(60_000) == {A: "chat", B: "code"}
    assert node.workloads(60_001) == {}
    assert node.metric("held_gpus", state="unallocated") == 2
    assert node.metric("binding_failures_total", source="kubernetes") == 2
    first.answer = claims(a=CHAT)
    assert node.workloads(70_000) == {A: "chat", B: "code"}


def test_a_source_that_never_answered_binds_nothing_and_blocks_the_next() -> None:
    assert (
        Node(ScriptedSource("kubernetes", fails(GONE)), ScriptedSource("settings", claims(a=CODE))).workloads(0) == {}
    )


def test_a_source_that_never_existed_is_skipped_but_not_one_that_did() -> None:
    absent = ScriptedSource("kubernetes", fails(SourceAbsent("no socket", "mount it")))
    node = Node(absent, ScriptedSource("settings", claims(a=CODE)), keep_ms=60_000)
    assert node.workloads(0) == {A: "code"}
    absent.answer = claims(a=CHAT)
    node.workloads(10_000)
    absent.answer = fails(SourceAbsent("no socket", "the kubelet is restarting"))
    assert node.workloads(20_000) == {A: "chat"}
    assert node.workloads(80_000) == {}


def test_metrics_count_bound_shared_and_unallocated_gpus_and_problems() -> None:
    def reply() -> ClaimReport:
        shared = [DeviceClaim(A, CHAT, "0"), DeviceClaim(A, CODE, "1"), DeviceClaim("GPU-z", CHAT)]
        return ClaimReport(shared, [BindingWarning("no_tenant", "x has no tenant")])

    node = Node(ScriptedSource("kubernetes", reply))
    node.workloads(0)
    assert [node.metric("held_gpus", state=s) for s in ("bound", "shared", "unallocated")] == [0, 1, 1]
    kinds = ("no_tenant", "unknown_device", "conflict")
    assert [node.metric("binding_oddities", kind=kind) for kind in kinds] == [1, 1, 0]


def test_each_change_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = ScriptedSource("kubernetes", lambda: ClaimReport([DeviceClaim("GPU-z", CHAT)]))
    node = Node(source)
    for now_ms in (0, 10_000, 20_000):
        node.workloads(now_ms)
    assert sum("GPU-z" in r.getMessage() for r in caplog.records) == 1
    source.answer = claims(a=CHAT)
    node.workloads(30_000)
    node.workloads(40_000)
    assert sum("no longer so" in r.getMessage() for r in caplog.records) == 1
    assert sum(f"{A}: chat (kubernetes, label, idle paid by acme)" in r.getMessage() for r in caplog.records) == 1


def test_a_binding_is_described_with_shares_and_reasons() -> None:
    where = (("source", "kubernetes"), ("namespace", "s"), ("pod", "p"), ("container", "main"), ("rule", "label"))
    assert describe_shares(None) == "unallocated"
    assert describe_shares((BindingShare(Binding("chat"), 1, where), BindingShare(NOBODY, 6))) == (
        "shared: chat 1/7 (kubernetes, s/p/main, label); ~n1 6/7 (unallocated)"
    )


# In a thread.


@contextmanager
def watching(node: Node, every_ms: int = 5, first_s: float = 5.0) -> Iterator[BindingWatcher]:
    with BindingWatcher(
        node.reader, lambda: node.now_ms, every_ms=every_ms, keep_ms=60_000, metrics=node.metrics, first_s=first_s
    ) as bindings:
        yield bindings


def test_the_first_interval_has_its_holder_and_later_changes_are_seen() -> None:
    source = ScriptedSource("kubernetes", claims(a=CHAT))
    with watching(Node(source)) as bindings:
        assert bindings()[A] == (CHAT.share(),)
        source.answer = claims(a=CODE)
        wait_until(lambda: bindings()[A] == (CODE.share(),))


def test_a_gpu_that_appears_is_looked_for_at_once() -> None:
    roster, source = GpuRoster([A]), ScriptedSource("kubernetes", claims(a=CHAT))
    node = Node(source)
    node.reader._list_boards = lambda: [GpuBoard(uuid) for uuid in roster.uuids]
    with BindingWatcher(
        node.reader, lambda: 0, every_ms=1_000_000, keep_ms=60_000, metrics=node.metrics, changed=roster.changed
    ) as bindings:
        source.answer = claims(a=CHAT, b=CODE)
        roster.note([GpuReading(A, "H100", 0, 0), GpuReading(B, "H100", 0, 0)], 0)
        wait_until(lambda: B in bindings())


def test_a_source_that_hangs_delays_no_sample_and_its_gpus_become_unallocated() -> None:
    let_go, hung = threading.Event(), threading.Event()
    source = ScriptedSource("kubernetes", claims(a=CHAT))
    node = Node(source)

    def hang() -> ClaimReport:
        hung.set()
        let_go.wait(HANG_S)
        return claims(a=CODE)()

    with watching(node) as bindings:
        source.answer = hang
        assert hung.wait(HANG_S)
        node.now_ms = 60_000
        assert bindings()[A] == (CHAT.share(),)
        node.now_ms = 61_000
        assert bindings() == {}
        assert node.metric("held_gpus", state="unallocated") == 2
        assert node.metric("binding_age_seconds") == 61
        let_go.set()
        wait_until(lambda: A in bindings())


def test_the_agent_does_not_wait_long_for_a_first_read_that_hangs() -> None:
    let_go = threading.Event()

    def hang() -> ClaimReport:
        let_go.wait(HANG_S)
        return ClaimReport()

    with watching(Node(ScriptedSource("kubernetes", hang)), first_s=0.05) as bindings:
        assert bindings() == {}
        let_go.set()


FAULTS = [RuntimeError("a fault"), RecursionError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), KeyError("gpu")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_source_that_raises_any_error_keeps_its_last_answer(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    first = ScriptedSource("kubernetes", claims(a=CHAT))
    node = Node(first, ScriptedSource("settings", claims(a=CODE, b=CODE)), keep_ms=60_000)
    node.workloads(0)
    first.answer = fails(fault)
    assert node.workloads(60_000) == {A: "chat", B: "code"}
    assert node.workloads(60_001) == {}
    assert node.metric("binding_failures_total", source="kubernetes") == 2
    assert node.metric("refused_total", source="kubernetes", reason=type(fault).__name__) == 2
    assert caplog.text.count(type(fault).__name__) == 1


def test_boards_that_cannot_be_listed_are_those_of_the_last_read() -> None:
    node = Node(ScriptedSource("kubernetes", claims(a=CHAT)))
    node.workloads(0)

    def lost() -> Sequence[GpuBoard]:
        raise RuntimeError("a fault")

    node.reader._list_boards = lost
    assert node.workloads(10_000) == {A: "chat"}
    assert node.metric("binding_failures_total", source="topology") == 1


def test_an_internal_error_ends_neither_the_thread_nor_the_agent(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ScriptedSource("kubernetes", claims(a=CHAT))
    node = Node(source)
    with monkeypatch.context() as patch:
        patch.setattr("producers.bindings.watcher.resolve_claims", fails(RuntimeError("a fault")))
        with watching(node) as bindings:
            assert bindings() == {}
            patch.undo()
            wait_until(lambda: A in bindings())
    assert (node.metric("binding_failures_total", source="look") or 0) >= 1
    assert "a reading failed" in caplog.text


# Configuration.


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeKubelet, FakeApi]]:
    """A node of Kubernetes, and the variables with its addresses."""

    def no_driver() -> None:
        raise Unavailable("there is no driver", "install it")

    monkeypatch.setattr(sensor, "load_nvml", no_driver)
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    with kubelet(tmp_path / "kubelet.sock") as fake, api() as server:
        for name, value in {
            "SOURCE": "kubernetes", "KUBELET": str(fake.socket), "API": server.url, "TOKEN": str(tmp_path / "token"),
            "EVERY_S": "1",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"WATTLOG_BINDINGS_{name}", value)
        fake.answer = resources(
            ("s", "chat-0", {"main": {"nvidia.com/gpu.shared": [f"{A}::0"]}}),
            ("s", "code-0", {"main": {"nvidia.com/gpu.shared": [f"{A}::1"]}}),
        )
        server.pods = {"n1": [
            pod("s", "chat-0", {"wattlog.io/workload": "chat", "wattlog.io/tenant": "acme"}),
            pod("s", "code-0", {"wattlog.io/workload": "code", "wattlog.io/tenant": "globex"}),
        ]}  # fmt: skip
        yield fake, server


def seen_by_an_agent(settings: Settings, gpus: list[str]) -> Any:
    with open_environment(settings.model_copy(update={"node": "n1"}), threading.Event(), {}) as environment:
        shares = holders(
            environment, ExporterSensor(DCGM, lambda: ""), GpuRoster(gpus), RefusalReport(CollectorRegistry())
        ).current()
        return {gpu: [(s.binding.workload, s.binding.owner, s.weight) for s in share] for gpu, share in shares.items()}


def test_an_agent_sees_the_pods_that_share_a_gpu(node: tuple[FakeKubelet, FakeApi]) -> None:
    assert seen_by_an_agent(Settings(), [A, B]) == {A: [("chat", "acme", 1), ("code", "globex", 1)]}


def test_an_agent_starts_even_if_the_kubelet_refuses(node: tuple[FakeKubelet, FakeApi]) -> None:
    node[0].refuses = grpc.StatusCode.UNAVAILABLE
    assert seen_by_an_agent(Settings(), [A, B]) == {}


def test_the_settings_bind_every_gpu_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert seen_by_an_agent(Settings(workload="chat", owner="acme"), [A, B]) == {
        A: [("chat", "acme", 1)], B: [("chat", "acme", 1)],
    }  # fmt: skip
    assert seen_by_an_agent(Settings(), [A, B]) == {}


@pytest.mark.parametrize("wrong", [{"workload": "~n1"}, {"workload": "chat", "owner": "__idle__"}])
def test_settings_with_an_invalid_name_are_refused(
    wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSetting):
        seen_by_an_agent(Settings(**wrong), [A])  # type: ignore[arg-type]


PAGE = "".join(
    f'DCGM_FI_DEV_POWER_USAGE{{gpu="{n}",UUID="{gpu}",modelName="H100"}} 300\n' for n, gpu in enumerate((A, B))
)


def test_doctor_shows_the_holder_of_each_gpu_and_the_reason(
    node: tuple[FakeKubelet, FakeApi], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLOG_EXPORTER_URL", serve(lambda: (200, PAGE)))
    assert findings("bindings", Settings(node="n1")) == [
        (A, "shared: chat 1/2 (kubernetes, s/chat-0/main, label, idle paid by acme); "
            "code 1/2 (kubernetes, s/code-0/main, label, idle paid by globex)"),
        (B, "unallocated"),
    ]  # fmt: skip


def test_an_exporters_page_names_gpus_as_device_plugins_do(
    node: tuple[FakeKubelet, FakeApi], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.replace('gpu="0"', 'gpu="0",device="nvidia0"').replace('gpu="1"', 'gpu="1",device="nvidia1"')
    monkeypatch.setenv("WATTLOG_EXPORTER_URL", serve(lambda: (200, page)))
    node[0].answer = resources(
        ("s", "chat-0", {"main": {"nvidia.com/gpu": ["nvidia1/vgpu0"]}}),
        ("s", "code-0", {"main": {"nvidia.com/gpu": ["0", "nvidia7"]}}),
    )
    lines = findings("bindings", Settings(node="n1"))
    assert [str(state).partition(" ")[0] for _, state in lines[:2]] == ["code", "chat"]
    [(kind, warning)] = lines[2:]
    assert (kind, "code holds nvidia7, which is no GPU that is visible here" in str(warning)) == (
        "unknown_device",
        True,
    )


def test_doctor_shows_a_failure(node: tuple[FakeKubelet, FakeApi], serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_EXPORTER_URL", serve(lambda: (200, PAGE)))
    node[1].status = 403
    lines = dict(findings("bindings", Settings(node="n1")))
    assert lines[A] == "~n1 (unallocated)"
    assert "nothing is known of it" in str(lines["unknown_holder"])
    node[0].refuses = grpc.StatusCode.INTERNAL
    assert isinstance(dict(findings("bindings", Settings(node="n1")))["kubernetes"], Unavailable)


def test_the_producer_sends_shared_energy_and_the_record_of_holders(
    node: tuple[FakeKubelet, FakeApi], serve: Any, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = itertools.count()

    def page() -> tuple[int, str]:
        counter = 1_000 + 300 * next(reads)
        return 200, f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",UUID="{A}",modelName="H100"}} {counter}\n'

    monkeypatch.setenv("WATTLOG_EXPORTER_URL", serve(page))
    stop = threading.Event()
    settings = Settings(
        data=tmp_path, kafka_bootstrap=broker, cluster="east", node="n1", sample_hz=10, publish_ms=200
    )  # fmt: skip
    thread = threading.Thread(target=run, args=("exporter", settings, stop))
    thread.start()
    wait_until(lambda: next(reads) > 20 or not thread.is_alive())
    stop.set()
    thread.join()
    events = read_events(settings, topics.POWER, topics.USAGE)
    energy, held_ms, spans = Counter[str](), Counter[str](), Counter[str]()
    for event in events:
        if isinstance(event.batch, PowerBatch):
            energy[event.workload] += int(event.batch.energy_uj.sum())
        elif isinstance(event.batch, UsageBatch) and set(event.batch.meter) == {"gpu_held_seconds"}:
            held_ms[event.workload] += sum(round(1000 * float(q)) for q in event.batch.quantity)
            spans[event.workload] += len(event.batch)
            assert {d["share"] for d in event.batch.dimensions} == {"1/2"}
    assert energy["chat"] == energy["code"] > 0
    assert energy.keys() == held_ms.keys() == {"chat", "code"}
    assert (
        abs(held_ms["chat"] - held_ms["code"]) <= spans["chat"] == spans["code"]
    )  # Of an odd span, one has 1 ms more.


def test_doctor_reports_a_node_without_gpus(node: tuple[FakeKubelet, FakeApi]) -> None:
    [(where, error)] = findings("bindings", Settings(node="n1"))
    assert where == "kubernetes"
    assert str(error).startswith("No GPU is metered here: ")
    assert [name for name in registry.names(Kind.GPU) if f"{name}: " not in str(error)] == []


def test_doctor_is_silent_where_only_the_settings_bind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert findings("bindings", Settings()) == []
