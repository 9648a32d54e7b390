"""Spans of real client libraries, recorded in November 2026 against a stand-in for an OpenAI server, texts removed.

A call used 100 prompt tokens, of them 30 cached, and 20 completion tokens; the second step of an agent 150, 96 and 7;
an embedding 8. Each library is right if exactly the calls that report tokens count, with what they report.
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

BODIES = Path(__file__).parent / "bodies"
LATER_MS = 2**62
CALL, FIRST, SECOND, EMBEDDING = (100, 30, 20), (100, 30, 20), (150, 96, 7), (8, 0, 0)
UNCACHED = (100, 0, 20)
ESTIMATED = (8, 0, 4)
"""LiteLLM's own count of a stream without usage."""
LIBRARIES = {
    "litellm": ([CALL, CALL, ESTIMATED], {}),
    "openinference": ([CALL, CALL, CALL, EMBEDDING], {}),
    "traceloop": ([CALL, CALL, CALL, EMBEDDING], {}),
    "openai_v2": ([UNCACHED, UNCACHED, EMBEDDING], {}),
    "pydantic": ([FIRST, SECOND], {"tool_calls": 1, "agent_calls": 1}),
    "pydantic_old": ([FIRST, SECOND], {"tool_calls": 1, "agent_calls": 1}),
    "vercel_4": ([UNCACHED, (150, 0, 7)], {"tool_calls": 1}),
    "vercel_5": ([UNCACHED, (150, 0, 7)], {"tool_calls": 1}),
    "vercel_6": ([FIRST, SECOND], {"tool_calls": 1}),
    "vercel_7": ([FIRST, SECOND], {"tool_calls": 1, "agent_calls": 1}),
}
"""By library: its calls as (prompt, cached, completion), and its other usage. openai_v2 and Vercel 4 and 5 report no
cached tokens."""
WITHOUT_USAGE = {"openinference": 1, "traceloop": 1, "openai_v2": 1}
"""Streams whose client did not ask for usage: refused, for nobody knows their tokens."""


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


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_call_of_a_client_library_counts_once_with_its_tokens(library: str) -> None:
    calls, usage = LIBRARIES[library]
    result = read(body(library), DeduplicationWindow())
    rows = [call.row for call in result.calls if isinstance(call, InferenceCall)]
    assert tokens(result) == sorted(calls)
    assert {row.model for row in rows} <= {"llama", "emb"}
    assert {row.tenant for row in rows} == {"acme"}
    assert Counter(call.row.meter for call in result.calls if isinstance(call, AgentUsage)) == usage
    assert len(result.refused) == WITHOUT_USAGE.get(library, 0)
    assert all("stream_options.include_usage" in reason for reason in result.refused)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_batch_of_a_client_library_that_is_sent_again_counts_nothing(library: str) -> None:
    recent = DeduplicationWindow()
    read(body(library), recent)
    assert read(body(library), recent).calls == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_spans_of_a_client_library_in_messages_of_their_own_count_alike(library: str) -> None:
    recent = DeduplicationWindow()
    results = []
    for message in single_spans(body(library)):
        with suppress(BadInput):
            results.append(read(message, recent))
    assert tokens(*results) == sorted(LIBRARIES[library][0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_spans_of_a_client_library_whose_parents_are_unknown_count_alike(library: str) -> None:
    message = json.loads(body(library))
    for resource_spans in message["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                span.pop("parentSpanId", None)
    assert tokens(read(json.dumps(message).encode(), DeduplicationWindow())) == sorted(LIBRARIES[library][0])
