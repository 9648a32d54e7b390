"""Spans of real client libraries, recorded in November 2026 against a stand-in for an OpenAI server, texts removed.

A call used 100 prompt tokens, of them 30 cached, and 20 completion tokens; the second step of an agent 150, 96 and 7;
an embedding 8. Each library is right if exactly the calls that report tokens count, with what they report.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

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


def read(library: str, recent: DeduplicationWindow) -> SpanCalls:
    body = (BODIES / f"{library}.json").read_bytes()
    return GenAIReader(SpanRules()).read_message(body, recent, LATER_MS, json=True)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_call_of_a_client_library_counts_once_with_its_tokens(library: str) -> None:
    calls, usage = LIBRARIES[library]
    result = read(library, DeduplicationWindow())
    rows = [call.row for call in result.calls if isinstance(call, InferenceCall)]
    assert sorted((row.prompt_tokens, row.cached_tokens, row.completion_tokens) for row in rows) == sorted(calls)
    assert {row.model for row in rows} <= {"llama", "emb"}
    assert {row.tenant for row in rows} == {"acme"}
    assert Counter(call.row.meter for call in result.calls if isinstance(call, AgentUsage)) == usage
    assert len(result.refused) == WITHOUT_USAGE.get(library, 0)
    assert all("stream_options.include_usage" in reason for reason in result.refused)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_batch_of_a_client_library_that_is_sent_again_counts_nothing(library: str) -> None:
    recent = DeduplicationWindow()
    read(library, recent)
    assert read(library, recent).calls == []
