"""Kinds of sources: those that report on a clock, and those that pass on calls alone."""

from __future__ import annotations

import pytest

from contracts.source_kinds import passes_on_calls_only
from contracts.topics import TOKENS
from producers import registry
from producers.api import Kind, WorkloadBatch
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.event_sequence import source_of
from producers.runtime.receiver.messages import unnumbered_messages


@pytest.mark.parametrize("route", registry.names(Kind.ROUTE))
def test_each_route_of_a_receiver_passes_on_calls_only(route: str) -> None:
    row = RequestRow(
        tenant="acme", model="llama", request_id="r1", t_start_ms=1, t_first_ms=2, t_end_ms=3, prompt_tokens=4,
        cached_tokens=0, completion_tokens=5,
    )  # fmt: skip
    batch = token_batch([row], 0)
    [message] = unnumbered_messages(route, "n1", [WorkloadBatch("eu", "chat", batch, "n1")])
    assert message.topic == TOKENS
    assert passes_on_calls_only(dict(message.headers)["ce_source"].decode())


@pytest.mark.parametrize(
    ("kind", "node"), [("litellm", "/var/lib/wattlog/calls"), ("litellm", "calls"), ("otel", "otlp_spans")]
)
def test_a_reader_of_written_calls_passes_on_calls_only(kind: str, node: str) -> None:
    assert passes_on_calls_only(source_of(kind, "eu", node, "chat"))


@pytest.mark.parametrize("kind", ["nvml", "exporter", "zeusd", "accesslog", "servers", *registry.names(Kind.SERVER)])
def test_agents_and_readers_of_pages_and_logs_report_on_a_clock(kind: str) -> None:
    assert not passes_on_calls_only(source_of(kind, "eu", "http://gateway:4000/metrics", "chat"))
