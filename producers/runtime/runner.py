"""What `wattlog produce` runs: the adapters, the agent and the publisher put together, until a signal says stop."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.settings import Settings
from contracts.units import joules
from producers.bindings.plugin import record_ms, watched
from producers.gpu.evidence import register_gpu_metrics
from producers.runtime.agent import Agent, Node, Sensor
from producers.runtime.agent_metrics import Metrics
from producers.runtime.clock import Clock, SystemClock, boot_id
from producers.runtime.delivery import Delivery
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Spool
from producers.simulation.events import Faults, SimulatedFleet

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a paced fleet goes: `producers.runtime.publisher.Publisher`."""

    def send(self, event: Event) -> object: ...
    def poll(self, timeout_s: float = 0.0) -> None: ...


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, so that a producer can send what it has and end. The second SIGINT ends it
    at once. Main thread only."""
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not set here: the main thread may be inside stop.wait(), holding the very lock that set() takes.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop


def node_name(settings: Settings) -> str:
    return settings.node or socket.gethostname()


@contextmanager
def outbox(settings: Settings, name: str, config: Mapping[str, object] | None) -> Iterator[tuple[Spool, Delivery]]:
    """A producer's spool under `data`, and what sends from it. Raises Unavailable where another producer has it."""
    path, most = settings.data / "spool" / f"{name}.db", settings.spool_mb * 2**20
    with (
        closing(Spool(path, max_bytes=most)) as spool,
        Publisher({**kafka_config(settings), **(config or {})}) as publisher,
    ):
        yield spool, Delivery(spool, publisher)


def produce_nvml(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Meters this node's GPUs until `stop`. `config` overrides Kafka client properties.

    Raises Unavailable without a driver or GPUs, or when energy could be neither sent nor kept.
    """
    from producers.gpu.nvml.sensor import NvmlSensor

    with closing(NvmlSensor()) as nvml:
        if not nvml.gpus:
            raise Unavailable("NVML sees no GPU on this node", "Try `nvidia-smi`; in a container, give it the GPUs.")
        run_agent(settings, stop, nvml, list(nvml.gpus), "nvml", config)


def run_agent(
    settings: Settings, stop: threading.Event, sensor: Sensor, gpus: Sequence[str], kind: str,
    config: Mapping[str, object] | None,
) -> None:  # fmt: skip
    """One node's agent over a sensor, until `stop`; who holds its GPUs is told by `[produce.bindings]`."""
    sample_ms, held_ms = round(1000 / settings.sample_hz), record_ms()
    name, publish_ms = node_name(settings), settings.publish_ms
    node = Node(settings.cluster, name, sample_ms, publish_ms, kind, boot=boot_id(), held_ms=held_ms)
    clock, registry = SystemClock(stop), CollectorRegistry()
    metrics = Metrics(registry)
    register_gpu_metrics(sensor, registry)
    serve_metrics(settings, registry)
    log.info("%d GPUs of %s/%s", len(gpus), node.cluster, node.node)
    with (
        watched(settings, name, gpus, kind, clock.monotonic_ms, registry) as bindings,
        outbox(settings, kind, config) as (spool, delivery),
    ):
        Agent(node, sensor, delivery, clock, bindings, metrics, spool.marks()).run()


def produce_simulated(
    settings: Settings,
    stop: threading.Event,
    *,
    config: Mapping[str, object] | None = None,
    seed: int = 1,
    backfill_ms: int = 0,
    speed: float = 1.0,
    faults: Faults | None = None,
) -> None:
    """Sends the SIMULATED fleet's events as they come due, until `stop`: from now on, or from `backfill_ms` ago, at
    `speed` times the pace until the present is reached. Raises Unavailable when events could not be sent."""
    clock = SystemClock(stop)
    start_ms = clock.wall_ms() // 1000 * 1000 - backfill_ms
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    serve_metrics(settings, registry)
    with Publisher({**kafka_config(settings), **(config or {})}) as sink:
        pace(SimulatedFleet(seed, faults=faults), sink, clock, start_ms, speed=speed, metrics=metrics)


def pace(
    fleet: SimulatedFleet,
    sink: Sink,
    clock: Clock,
    start_ms: int,
    *,
    speed: float = 1.0,
    duration_ms: int | None = None,
    metrics: Metrics | None = None,
) -> int:
    """Sends a fleet's events, each when the clock has come so far: `speed` times as fast as time goes, but never before
    the wall clock has reached its event time, for nothing may come from the future. Returns how many were sent; ends
    early when the clock's wait says stop."""
    begun_ms = clock.monotonic_ms()
    sent = 0
    for event in fleet.events(start_ms, duration_ms):
        event_ms = event.batch.event_ms
        while True:
            early_ms = begun_ms + (event_ms - start_ms) / speed - clock.monotonic_ms()
            left_ms = max(early_ms, event_ms - clock.wall_ms())
            if left_ms <= 0:
                break
            if clock.wait(min(left_ms, 500) / 1000):
                return sent
            sink.poll()
        sink.send(event)
        sent += 1
        if metrics:
            metrics.events.inc()
            if isinstance(event.batch, PowerBatch):
                metrics.rows.inc(len(event.batch))
                metrics.joules.inc(joules(int(event.batch.energy_uj.sum())))
    return sent


def serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    """A producer's own /metrics, where the settings say so, with what it costs itself: CPU seconds, memory."""
    if settings.metrics_port:
        ProcessCollector(registry=registry)
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
