"""Prometheus metrics of the listener. The label `route` is one of its own routes, never a path from a client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from producers.runtime.refusals import RefusalReport


class ReceiverMetrics:
    """Prometheus metrics of the listener, described in docs/metrics.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wattlog_producer_http_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"wattlog_producer_http_{name}", text, registry=registry)

        self.requests = count("requests", "Requests answered", "route", "status")
        self.rows = count("rows", "Rows that the brokers acknowledged before their request was answered", "route")
        self.rejected = count("rejected", "Requests of which nothing was accepted", "route", "reason")
        self.left_out = count("left_out_rows", "Rows left out of requests that were accepted", "route")
        self.skipped = count("skipped_rows", "Rows of requests that do not count", "route", "why")
        self.corrected = count("corrected_rows", "Rows of requests that count with a value corrected", "route", "why")
        self.in_flight = gauge("in_flight", "Requests being read or waiting for the brokers")
        self.waiting = gauge("waiting_events", "Events on disk that the brokers are not known to have")
        self.resent = count("resent", "Messages that the brokers refused; each is sent again under its own number")
        self.forgotten = count("memory_forgotten", "Times that the sender with most in memory forgot its oldest calls")
        self.memory = gauge("memory_bytes", "Bytes that the memories of all senders take, estimated")
        self.refusals = RefusalReport(registry)
        self.ack_seconds = Histogram(
            "wattlog_producer_http_ack_seconds", "From a request read to its rows acknowledged", registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )  # fmt: skip
