"""Memories of traces: each sender's own, and bounded in all, by what the largest has."""

from __future__ import annotations

from typing import Any

import pytest

from producers.gateways.calls import InferenceCall
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.spans import EMPTY_SPAN, Span
from producers.gateways.otel.trace_memory import TraceMemories
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import CHAT, NS, T0, as_json, as_protobuf, span

A, B, UNKNOWN = "aa" * 8, "bb" * 8, "dd" * 8


def spans(trace: str, count: int) -> list[Span]:
    return [EMPTY_SPAN._replace(trace_id=trace, span_id=str(n)) for n in range(count)]


def counted(memories: TraceMemories, sender: str, one: dict[str, Any]) -> int:
    reader = GenAIReader(SpanRules(), memory=memories.of(sender))
    result = reader.read_message(as_json([one]), DeduplicationWindow(), T0 + 60_000, json=True)
    return sum(isinstance(call, InferenceCall) for call in result.calls)


@pytest.mark.parametrize(("sender", "agents"), [("a", 0), ("b", 1)], ids=["its own", "another's"])
def test_calls_take_the_place_of_an_agent_of_the_same_sender_alone(sender: str, agents: int) -> None:
    memories = TraceMemories()
    call = span(id=B, parent="cc" * 8, start=(T0 + 1_000) * NS, end=(T0 + 2_000) * NS)
    agent = span({"gen_ai.operation.name": "invoke_agent"}, id=A, parent=UNKNOWN)
    assert counted(memories, "a", call) == 1
    assert counted(memories, sender, agent) == agents


def test_beyond_the_bound_the_sender_that_has_most_forgets_its_oldest_traces() -> None:
    memories = TraceMemories(max_entries=100)
    memories.of("small").add_spans(spans("t", 10))
    for n in range(50):
        memories.of("large").add_spans(spans(f"t{n}", 10))
    memories.of("")
    sizes = memories.of("small").size, memories.of("large").size
    assert sizes[0] == 11
    assert 0 < sum(sizes) <= 100


def test_beyond_the_senders_the_one_that_sent_nothing_for_longest_makes_room() -> None:
    memories = TraceMemories(max_senders=2)
    for sender in ("a", "b"):
        memories.of(sender).add_spans(spans("t", 1))
    sizes = [memories.of(sender).size for sender in ("a", "c", "a", "b")]
    assert sizes == [2, 0, 2, 0]


def test_a_trace_that_is_forgotten_leaves_nothing_behind() -> None:
    memory = TraceMemories().of("")
    for n in range(3_000):
        memory.add_spans(spans(f"t{n}", 2))
    assert memory.size == 2_048 * 3


@pytest.mark.parametrize("encode", [as_json, as_protobuf])
def test_a_span_without_id_and_attributes_is_counted_as_another_span(encode: Any) -> None:
    empty = span(dict.fromkeys(CHAT, ...), trace="", id="", events=[])
    reader = GenAIReader(SpanRules())
    body = encode([empty, span(), empty])
    result = reader.read_message(body, DeduplicationWindow(), T0 + 60_000, json=encode is as_json)
    assert (len(result.calls), result.skipped, result.refused) == (1, {"other": 2}, [])
