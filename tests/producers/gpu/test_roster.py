"""GPUs that appear or leave while an agent runs: bound like the others, named once, and without invented energy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.settings import Settings
from producers.api import GpuSensor
from producers.bindings.apportion import Binding, GpuShares
from producers.bindings.plugin import holders
from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.exporter_formats import DCGM
from producers.gpu.readings import GpuReading
from producers.gpu.roster import LEFT_MS, GpuRoster
from producers.gpu.zeusd.sensor import ZeusdSensor
from producers.runtime.agent import Agent
from producers.runtime.delivery import Delivery
from producers.runtime.runner import open_environment
from producers.runtime.spool import Spool
from tests.producers.gpu.zeusd.test_sensor import Daemon
from tests.producers.runtime.test_agent import NODE, Gpus, rows
from tests.support.brokers import FakeBroker
from tests.support.clocks import FakeClock

UJ_PER_MS = 300_000
MINUTE_MS = 60_000


class Node:
    """A node whose settings bind all of its GPUs to `chat`, with an agent that runs until `end_ms`."""

    def __init__(self, folder: Path) -> None:
        self.time, self.log = FakeClock(), FakeBroker()
        self._folder = folder

    def run(self, sensor: GpuSensor, end_ms: int) -> Agent:
        self.time.end_ms = end_ms
        roster = GpuRoster(sensor.discover() if hasattr(sensor, "discover") else ["a"])
        settings = Settings(workload="chat", node="n1")
        with (
            open_environment(settings, threading.Event(), {}) as environment,
            closing(Spool(self._folder / "spool.db")) as spool,
        ):
            delivery = Delivery(spool, self.log)
            agent = Agent(NODE, sensor, delivery, self.time, dict, checkpoints=spool.checkpoints(), roster=roster)
            agent._bindings = holders(environment, sensor, roster, agent.metrics.refusals).current
            agent.run()
        return agent

    def energy(self) -> dict[tuple[str, str], list[tuple[int, int, int]]]:
        """Return (start, end, energy) of the rows by (workload, GPU), adjacent rows joined."""
        joined: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        for workload, gpu, t0, t1, uj in sorted(rows(self.log.stored)):
            spans = joined.setdefault((workload, gpu), [])
            if spans and spans[-1][1] == t0:
                spans[-1] = (spans[-1][0], t1, spans[-1][2] + uj)
            else:
                spans.append((t0, t1, uj))
        return joined


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.chdir(tmp_path)
    yield Node(tmp_path)


def test_a_gpu_that_appears_is_bound_from_its_first_reading(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    gpus = Gpus("a", "b")
    gpus.alter = lambda r: r if r.gpu_uuid == "a" or r.monotonic_ms >= 5_000 else None
    agent = node.run(gpus, 10_000)
    assert node.energy() == {
        ("chat", "a"): [(0, 10_000, 10_000 * UJ_PER_MS)], ("chat", "b"): [(5_000, 10_000, 5_000 * UJ_PER_MS)],
    }  # fmt: skip
    assert caplog.text.count("b (H100) appeared") == 1
    assert agent.metrics.gpus_appeared._value.get() == 1  # prometheus_client has no public read of one counter


def absent(first_ms: int, last_ms: int, change: Callable[[GpuReading], GpuReading] = lambda r: r) -> Gpus:
    """Return GPUs of which `b` is not read in the time between; `change` is applied to its readings."""
    gpus = Gpus("a", "b")

    def alter(reading: GpuReading) -> GpuReading | None:
        if reading.gpu_uuid == "a":
            return reading
        return None if first_ms <= reading.monotonic_ms < last_ms else change(reading)

    gpus.alter = alter
    return gpus


def test_a_gpu_that_left_is_named_once_and_its_return_is_a_new_start(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    agent = node.run(absent(10_000, 10 * MINUTE_MS), 11 * MINUTE_MS)
    assert node.energy()["chat", "b"] == [(0, 9_000, 9_000 * UJ_PER_MS), (600_000, 660_000, 60_000 * UJ_PER_MS)]
    assert [m for r in caplog.records if (m := r.getMessage()).startswith("b ")] == [
        "b left: nothing has read it for some time; if it returns, it begins anew",
        "b (H100) appeared: it is metered from now on",
    ]
    assert agent.metrics.gpus_left._value.get() == 1
    assert node.energy()["chat", "a"] == [(0, 660_000, 660_000 * UJ_PER_MS)]


def test_a_gpu_that_returns_by_watts_adds_no_energy_of_its_absence(node: Node) -> None:
    node.run(absent(10_000, 10 * MINUTE_MS, lambda r: replace(r, counter_mj=None)), 11 * MINUTE_MS)
    assert node.energy()["chat", "b"] == [(0, 9_000, 9_000 * UJ_PER_MS), (600_000, 660_000, 60_000 * UJ_PER_MS)]


def test_the_last_interval_of_a_gpu_that_left_is_sent(node: Node) -> None:
    """Its counter has stood for a minute when it leaves: the watts of that minute are its last interval."""
    watts = (300.0, 301.0)

    def stand(reading: GpuReading) -> GpuReading:
        n = reading.monotonic_ms // 1000
        return replace(reading, counter_mj=1_000 + 300 * min(reading.monotonic_ms, 5_000), watts=watts[n % 2])

    node.run(absent(65_000, 10 * MINUTE_MS, stand), 5 * MINUTE_MS)
    [(t0, t1, energy_uj)] = node.energy()["chat", "b"]
    assert (t0, t1) == (0, 64_000)
    assert energy_uj == pytest.approx(64_000 * UJ_PER_MS, rel=0.005)


def test_a_short_absence_is_bridged_by_the_counter(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.run(absent(10_000, 100_000), 120_000)
    assert node.energy()["chat", "b"] == [(0, 120_000, 120_000 * UJ_PER_MS)]
    assert "left" not in caplog.text


def test_the_next_run_does_not_continue_a_gpu_that_left(node: Node) -> None:
    node.run(absent(10_000, 1 << 60), 5 * MINUTE_MS)
    node.time.now_ms = 10 * MINUTE_MS
    node.run(Gpus("a", "b"), 11 * MINUTE_MS)
    assert node.energy()["chat", "b"] == [(0, 9_000, 9_000 * UJ_PER_MS), (600_000, 660_000, 60_000 * UJ_PER_MS)]


def test_a_gpu_that_left_while_no_agent_ran_is_named(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.run(Gpus("a", "b"), 10_000)
    node.time.now_ms = 20_000
    node.run(Gpus("a"), 5 * MINUTE_MS)
    assert caplog.text.count("b left") == 1


def test_a_sample_that_fails_as_a_whole_shows_nothing_of_any_gpu() -> None:
    roster = GpuRoster(["a", "b"])
    a = GpuReading("a", "H100", 0, 0)
    assert roster.note([a], 0).left == ()
    assert roster.note([a], LEFT_MS - 1).left == ()
    assert roster.note([a, replace(a, gpu_uuid="b")], LEFT_MS).left == ()
    assert roster.note([a], 10 * LEFT_MS).left == ()
    assert roster.note([a], 11 * LEFT_MS) == ((), ("b",))
    assert (roster.uuids, roster.changed.is_set()) == (("a",), True)


def test_a_gpu_of_an_exporters_page_is_absent_for_several_of_its_periods_before_it_left() -> None:
    roster = GpuRoster(["a", "b"])
    a = GpuReading("a", "H100", 0, 0, period_ms=60_000)
    assert [roster.note([a], minutes * MINUTE_MS).left for minutes in range(4)] == [(), (), (), ("b",)]


def test_the_first_interval_belongs_to_the_holder_that_is_known_at_its_end(tmp_path: Path) -> None:
    time, log, gpus = FakeClock(8_000), FakeBroker(), Gpus("a", "b")
    gpus.alter = lambda r: r if r.gpu_uuid == "a" or r.monotonic_ms >= 5_000 else None

    def now() -> Mapping[str, Binding | GpuShares]:  # The thread that reads bindings answers a second later.
        return {"a": Binding("chat"), **({"b": Binding("code")} if time.now_ms >= 6_000 else {})}

    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE, gpus, Delivery(spool, log), time, now).run()
    assert {r[0] for r in rows(log.stored) if r[1] == "b"} == {"code"}


# As far as each source can show it.


def test_a_gpu_that_appears_on_an_exporters_page_is_bound(node: Node) -> None:
    def page() -> str:
        now_ms = node.time.now_ms
        uuids: Sequence[str] = ("GPU-a", "GPU-b") if now_ms >= 5_000 else ("GPU-a",)
        name = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
        return "".join(f'{name}{{UUID="{uuid}",modelName="H100"}} {1_000 + 300 * now_ms}\n' for uuid in uuids)

    node.run(ExporterSensor(DCGM, page), 10_000)
    assert node.energy()["chat", "GPU-b"] == [(5_000, 10_000, 5_000 * UJ_PER_MS)]
    assert {workload for workload, _ in node.energy()} == {"chat"}


def test_a_gpu_of_a_zeusd_that_started_again_is_bound(node: Node) -> None:
    daemon = Daemon({"gpus": [{"id": 0, "cumulative_energy_available": True}], "cpus": []})

    class Growing(dict[int, int]):
        def __getitem__(self, index: int) -> int:
            return 1_000 + 300 * node.time.now_ms

    daemon.energy_mj, daemon.power_mw = Growing({0: 0, 1: 0}), {0: 300_000, 1: 300_000}
    client = daemon.client()
    discover = client.discover

    def discover_now() -> object:
        if node.time.now_ms >= 30_000:
            daemon.discovery = {"gpus": [{"id": n, "cumulative_energy_available": True} for n in (0, 1)], "cpus": []}
        return discover()

    client.discover = discover_now  # type: ignore[method-assign,assignment]
    node.run(ZeusdSensor(client, "n1"), 70_000)
    assert node.energy() == {
        ("chat", "zeusd-n1-0"): [(0, 70_000, 70_000 * UJ_PER_MS)],
        ("chat", "zeusd-n1-1"): [(60_000, 70_000, 10_000 * UJ_PER_MS)],
    }
