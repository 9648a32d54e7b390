"""Prometheus metrics of an agent."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from producers.runtime.refusals import RefusalReport


class AgentMetrics:
    """The agent's own Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str) -> Counter:
            return Counter(f"wattlog_producer_{name}", text, registry=registry)

        self.rows = count("rows", "Intervals kept for the broker")
        self.events = count("events", "Events kept for the broker, heartbeats too")
        self.joules = count("joules", "Energy of those intervals")
        self.resets = count("counter_resets", "Energy counters that started anew")
        self.dips = count("counter_dips", "Implausible energy counters that came back in line: each counts once")
        self.differences = count("counter_differences", "Minutes in which a GPU's counter and watts differed by half")
        self.gaps = count("gaps", "Stretches in which nothing measured a GPU")
        self.clock_steps = count("clock_steps", "Times that the wall clock was set back by more than a minute")
        self.gpus_appeared = count("gpus_appeared", "GPUs that appeared while the agent ran")
        self.gpus_left = count("gpus_left", "GPUs that left while the agent ran")
        self.send_errors = count("send_errors", "Messages refused or not acknowledged; they are sent again")
        self.spool_errors = count("spool_errors", "Times that the spool took no more; rows stay in memory, coarser")
        self.sample_errors = count("sample_errors", "Samples in which the sensor failed as a whole")
        self.held_lost = count("held_spans_lost", "Spans of GPUs' holders and watts that were not recorded")
        self.node_joules = count("node_joules", "Energy of the node beside its GPUs that was split over workloads")
        self.node_joules_left_out = count(
            "node_joules_left_out", "Energy of the wall that was left out: its GPUs' was unknown, or greater"
        )
        self.backlog_rows = Gauge(
            "wattlog_producer_backlog_rows", "Intervals that are in memory only", registry=registry
        )
        self.spooled = Gauge(
            "wattlog_producer_spooled_events", "Events that the broker is not known to have", registry=registry
        )
        self.refusals = RefusalReport(registry)
        self.sample_seconds = Histogram(
            "wattlog_producer_sample_seconds", "Time to read all GPUs once", registry=registry
        )
