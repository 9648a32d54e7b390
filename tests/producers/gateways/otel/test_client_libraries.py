"""Spans of real client libraries, recorded by `python -m tests.clients --record` in November 2026, texts removed.

Each library is right if exactly the calls that report tokens count, with what they report (`tests/clients/table.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.gateways.calls import AgentUsage, InferenceCall
from producers.gateways.otel.genai import GenAIReader, SpanCalls, SpanRules
from producers.runtime.deduplication import DeduplicationWindow
from tests.clients.table import CLIENTS

BODIES = Path(__file__).parent / "bodies"
LATER_MS = 2**62


def body(library: str) -> bytes:
    return (BODIES / f"{library}.json").read_bytes()


def read(message: bytes, recent: DeduplicationWindow) -> SpanCalls:
    return GenAIReader(SpanRules()).read_message(message, recent, LATER_MS, json=True)


def tokens(*results: SpanCalls) -> list[tuple[int, int, int]]:
    rows = [call.row for result in results for call in result.calls if isinstance(call, InferenceCall)]
    return sorted((row.prompt_tokens, row.cached_tokens, row.completion_tokens) for row in rows)


def single_spans(message: bytes) -> list[bytes]:
    """Return messages of one span each, in the order in which the spans ended."""
    messages = []
    for resource_spans in json.loads(message)["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                scopes = [{**scope_spans, "spans": [span]}]
                ended = int(span["endTimeUnixNano"]), -int(span["startTimeUnixNano"])
                messages.append((ended, {"resourceSpans": [{**resource_spans, "scopeSpans": scopes}]}))
    return [json.dumps(one).encode() for _, one in sorted(messages, key=lambda pair: pair[0])]


@pytest.mark.parametrize("library", CLIENTS)
def test_every_call_of_a_client_library_counts_once_with_its_tokens(library: str) -> None:
    client = CLIENTS[library]
    result = read(body(library), DeduplicationWindow())
    rows = [call.row for call in result.calls if isinstance(call, InferenceCall)]
    assert tokens(result) == sorted(client.calls)
    assert {row.model.removeprefix("openai/") for row in rows} <= {"llama", "emb"}
    assert {row.tenant for row in rows} == {"acme"}
    assert Counter(call.row.meter for call in result.calls if isinstance(call, AgentUsage)) == client.usage
    assert len(result.refused) == client.refused
    assert all("stream_options.include_usage" in reason for reason in result.refused)


@pytest.mark.parametrize("library", CLIENTS)
def test_a_batch_of_a_client_library_that_is_sent_again_counts_nothing(library: str) -> None:
    recent = DeduplicationWindow()
    read(body(library), recent)
    assert read(body(library), recent).calls == []


@pytest.mark.parametrize("library", CLIENTS)
def test_spans_of_a_client_library_in_messages_of_their_own_count_alike(library: str) -> None:
    recent = DeduplicationWindow()
    results = []
    for message in single_spans(body(library)):
        with suppress(BadInput):
            results.append(read(message, recent))
    assert tokens(*results) == sorted(CLIENTS[library].calls)


@pytest.mark.parametrize("library", CLIENTS)
def test_spans_of_a_client_library_whose_parents_are_unknown_count_alike(library: str) -> None:
    message = json.loads(body(library))
    for resource_spans in message["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                span.pop("parentSpanId", None)
    assert tokens(read(json.dumps(message).encode(), DeduplicationWindow())) == sorted(CLIENTS[library].calls)
