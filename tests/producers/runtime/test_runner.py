"""The runner of `wattlog produce`."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from contracts import codec, topics
from contracts.errors import BadSetting
from contracts.events import Event
from contracts.settings import Settings
from producers import registry
from producers.api import Kind
from producers.runtime.pacing import pace
from producers.runtime.publisher import Publisher
from producers.runtime.runner import run, stop_on_signals
from producers.simulation.events import SimulatedFleet, default_spec
from tests.producers.frame import environment
from tests.support.clocks import FakeClock
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

Consume = Callable[..., list[Message]]
NOW = 1_767_614_400_000


class TimedPublisher:
    """Records each event with its time."""

    def __init__(self, time: FakeClock) -> None:
        self.time = time
        self.events: list[tuple[int, Event]] = []

    def send(self, event: Event) -> None:
        self.events.append((self.time.wall_ms(), event))

    def pending(self) -> int:
        return 0

    def poll(self, timeout_s: float = 0.0) -> None: ...
    def close(self, timeout_s: float = 30.0) -> None: ...


def test_events_are_sent_when_they_are_due() -> None:
    time = FakeClock(epoch_ms=NOW)
    sink = TimedPublisher(time)
    sent = pace(SimulatedFleet(1), sink, time, NOW, duration_ms=60_000)
    assert sent == len(sink.events) > 100
    assert all(0 <= at - e.batch.event_ms <= 500 for at, e in sink.events)


def test_a_backfill_runs_fast_up_to_the_present_and_never_past_it() -> None:
    time = FakeClock(epoch_ms=NOW)
    sink = TimedPublisher(time)
    pace(SimulatedFleet(1), sink, time, NOW - 120_000, speed=60, duration_ms=150_000)
    assert all(at >= e.batch.event_ms for at, e in sink.events)
    caught_up = [at for at, e in sink.events if e.batch.event_ms <= NOW - 1000]
    assert max(caught_up) - NOW <= 2_100
    assert 28_000 < time.now_ms < 32_000


def test_a_stop_ends_the_pace_early() -> None:
    time = FakeClock(end_ms=10_000, epoch_ms=NOW)
    assert pace(SimulatedFleet(1), TimedPublisher(time), time, NOW) < 100


def test_a_paced_fleet_is_on_the_log_completely(broker: str, consume: Consume) -> None:
    with Publisher({"bootstrap.servers": broker}) as sink:
        pace(SimulatedFleet(1), sink, FakeClock(epoch_ms=NOW), NOW, duration_ms=60_000)
    sent = {topic: set() for topic in topics.JOINED}  # type: dict[str, set[tuple[str, int]]]
    for event in SimulatedFleet(1).events(NOW, 60_000):
        sent[codec.topic_of(event.batch)].add((event.source, event.seq))
    for topic in topics.JOINED:
        got = [codec.decode(m.headers(), m.value()) for m in consume(topic, len(sent[topic]))]
        assert {(e.source, e.seq) for e in got} == sent[topic]


def test_the_simulated_producer_sends_due_events_and_ends_on_a_stop(broker: str) -> None:
    stop = threading.Event()
    stop.set()
    run("simulated", Settings(kafka_bootstrap=broker), stop, backfill_ms=60_000, speed=math.inf)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    stored = sum(consumer.get_watermark_offsets(TopicPartition(topics.POWER, p), timeout=HANG_S)[1] for p in range(4))
    consumer.close()
    assert stored >= len(default_spec().groups()) * 11


def test_a_signal_sets_the_stop_and_a_second_interrupt_ends_at_once() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = stop_on_signals()
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(HANG_S)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("entry", registry.BUILT_IN, ids=lambda entry: f"{entry.kind.name}-{entry.name}")
def test_every_registered_plug_in_is_of_its_declared_kind(entry: registry.Entry) -> None:
    plugin = registry.get(entry.name, entry.kind)
    assert (plugin.name, plugin.kind) == (entry.name, entry.kind)
    assert plugin.summary
    assert callable(plugin.factory)


def test_every_plug_in_with_options_has_a_check() -> None:
    """The listener's check builds all routes, with their options."""
    checked = {plugin.name for plugin in registry.plugins() if plugin.check}
    of_routes = {plugin.options.name for plugin in registry.plugins(Kind.ROUTE) if plugin.options}
    assert "http" in checked
    assert checked - {"nvml"} == {o.name for o in registry.options()} - (of_routes - checked)


def test_the_registry_refuses_unknown_names() -> None:
    with pytest.raises(BadSetting, match=f"use one of {', '.join(registry.names())}"):
        registry.get("turbine")


def test_the_node_is_the_setting_or_the_hosts_name() -> None:
    assert environment(Settings(node="gpu-07")).node == "gpu-07"
    assert environment(Settings()).node


def test_nvml_without_a_driver_is_unavailable_with_a_hint(tmp_path: Path) -> None:
    """In a process of its own: the library path is the loader's, and other tests may have loaded a stand-in."""
    code = (
        "import threading\n"
        "from contracts.errors import Unavailable\n"
        "from contracts.settings import Settings\n"
        "from producers.runtime.runner import run\n"
        "try:\n"
        "    run('nvml', Settings(kafka_bootstrap='127.0.0.1:1'), threading.Event())\n"
        "except Unavailable as error:\n"
        "    print(error.hint)\n"
    )
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "nvidia-smi" in process.stdout
