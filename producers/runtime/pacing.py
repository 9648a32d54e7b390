"""Loop of event streams: sends each event when the clock reaches its time, until a signal says stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from contracts.events import Event, PowerBatch
from contracts.units import joules
from producers.api import Environment, EventStream
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.clock import Clock
from producers.runtime.metrics_server import serve_metrics
from producers.runtime.publisher import Publisher, kafka_config

log = logging.getLogger(__name__)


class EventSink(Protocol):
    """Destination of a paced stream: a `producers.runtime.publisher.Publisher`."""

    def send(self, event: Event) -> object: ...
    def poll(self, timeout_s: float = 0.0) -> None: ...


def run_event_stream(stream: EventStream, environment: Environment, kafka: Mapping[str, object]) -> None:
    """Send a stream's events as they come due, until `stop`. Raises Unavailable when events could not be sent.

    Arguments: `backfill_ms` is how long ago the stream begins; `speed` is the pace until it reaches the present.
    """
    settings, clock = environment.settings, environment.clock
    start_ms = clock.wall_ms() // 1000 * 1000 - environment.arguments.get("backfill_ms", 0)
    metrics = AgentMetrics(environment.metrics)
    serve_metrics(settings, environment.metrics)
    with Publisher({**kafka_config(settings), **kafka}) as sink:
        pace(stream, sink, clock, start_ms, speed=environment.arguments.get("speed", 1.0), metrics=metrics)


def pace(
    stream: EventStream,
    sink: EventSink,
    clock: Clock,
    start_ms: int,
    *,
    speed: float = 1.0,
    duration_ms: int | None = None,
    metrics: AgentMetrics | None = None,
) -> int:
    """Send events at `speed` times real time, but none before the wall clock reaches its event time.

    An event from the future would be refused. Return the number of events sent. Ends early when the clock's wait says
    stop.
    """
    begin_ms = clock.monotonic_ms()
    sent = 0
    for event in stream.events(start_ms, duration_ms):
        event_ms = event.batch.event_ms
        while True:
            early_ms = begin_ms + (event_ms - start_ms) / speed - clock.monotonic_ms()
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
