"""Any trace of agents, tools and calls, by several instrumentations: each call counts once, in whatever messages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.gateways.calls import InferenceCall
from producers.gateways.otel.genai import GenAIReader, SpanRules
from producers.gateways.otel.spans import CLIENT, INTERNAL, Span
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import NS, T0, TRACE

Counts = tuple[int, int, int]
"""Prompt, cached and completion tokens."""


def genai(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": completion, "gen_ai.usage.cache_read.input_tokens": cached,
    }  # fmt: skip


def openinference(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": prompt,
        "llm.token_count.completion": completion, "llm.token_count.total": prompt + completion,
        "llm.token_count.prompt_details.cache_read": cached,
    }  # fmt: skip


def vercel(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m", "ai.usage.inputTokens": prompt,
        "ai.usage.outputTokens": completion, "ai.usage.cachedInputTokens": cached,
    }  # fmt: skip


class Trace:
    """A trace at random: its spans and the counts of its calls."""

    def __init__(self, random: Random) -> None:
        self.spans: list[Span] = []
        self.calls: list[Counts] = []
        self._random, self._now_ns, self._ids = random, T0 * NS, 0
        for _ in range(random.randint(1, 2)):
            self._agent("", 0)

    def _tick(self) -> int:
        self._now_ns += self._random.randint(1, 50) * NS
        return self._now_ns

    def _id(self) -> str:
        self._ids += 1
        return f"{self._ids:016x}"

    def _add(self, id_: str, parent: str, start: int, end: int, attributes: dict[str, Any]) -> None:
        kind = CLIENT if "gen_ai.usage.input_tokens" in attributes else INTERNAL
        self.spans.append(
            Span(
                trace_id=TRACE, span_id=id_, parent_id=parent, kind=kind, start_ns=start, end_ns=end, failed=False,
                scope="lib", attributes=attributes, resource={}, event_ns=0,
            )
        )  # fmt: skip

    def _call(self, parent: str) -> list[Counts]:
        """A call that one to three spans report, each within the other."""
        prompt = self._random.randint(20, 5_000)
        counts = (prompt, self._random.choice([0, self._random.randint(1, prompt - 1)]), self._random.randint(1, 500))
        self.calls.append(counts)
        depth = self._random.randint(1, 3)
        ids, starts = [parent, *(self._id() for _ in range(depth))], [self._tick() for _ in range(depth)]
        ends = [self._tick() for _ in range(depth)][::-1]
        for n in range(depth):
            report = self._random.choice([genai, openinference, vercel])
            self._add(ids[n + 1], ids[n], starts[n], ends[n], report(*counts))
        return [counts]

    def _agent(self, parent: str, level: int) -> list[Counts]:
        """An agent or a workflow that may sum its calls, those of its tools and of agents within."""
        id_, start, inner = self._id(), self._tick(), list[Counts]()
        for _ in range(self._random.randint(1, 4)):
            step = self._random.choice(["call", "call", "tool", "agent"])
            if step == "call" or level == 2:
                inner += self._call(id_)
            elif step == "agent":
                inner += self._agent(id_, level + 1)
            else:
                tool, tool_start = self._id(), self._tick()
                inner += self._agent(tool, level + 1) if self._random.random() < 0.5 else []
                self._add(tool, id_, tool_start, self._tick(), {"gen_ai.operation.name": "execute_tool"})
        sums = genai(*(sum(many) for many in zip(*inner, strict=True))) if inner else genai(0, 0, 0)
        attributes = sums if self._random.random() < 0.7 else {}
        operation = self._random.choice(["invoke_agent", "invoke_workflow"])
        self._add(id_, parent, start, self._tick(), {**attributes, "gen_ai.operation.name": operation})
        return inner


def counted(messages: Sequence[Sequence[Span]]) -> list[Counts]:
    reader, recent = GenAIReader(SpanRules()), DeduplicationWindow()
    results = [reader.read(message, recent, 2**62) for message in messages]
    assert not any(result.refused for result in results)
    rows = [call.row for result in results for call in result.calls if isinstance(call, InferenceCall)]
    return sorted((row.prompt_tokens, row.cached_tokens, row.completion_tokens) for row in rows)


def messages_of(spans: Sequence[Span], sizes: str, random: Random) -> list[list[Span]]:
    """The spans in one message in any order, or in several in the order in which they ended."""
    if sizes == "one":
        return [random.sample(spans, len(spans))]
    ended, messages = sorted(spans, key=lambda span: span.end_ns), list[list[Span]]()
    while ended:
        size = 1 if sizes == "single" else random.randint(1, 4)
        messages.append(ended[:size])
        ended = ended[size:]
    return messages


@pytest.mark.parametrize("sizes", ["one", "single", "few"])
@given(seed=st.integers(0, 2**32))
def test_each_call_of_any_trace_counts_once(sizes: str, seed: int) -> None:
    random = Random(seed)
    trace = Trace(random)
    assert counted(messages_of(trace.spans, sizes, random)) == sorted(trace.calls)


@pytest.mark.parametrize("sizes", ["one", "single", "few"])
@given(seed=st.integers(0, 2**32))
def test_each_call_counts_once_though_a_filter_drops_the_spans_without_tokens(sizes: str, seed: int) -> None:
    random = Random(seed)
    trace = Trace(random)
    spans = [
        span for span in trace.spans
        if any("oken" in name for name in span.attributes) or random.random() < 0.4
    ]  # fmt: skip
    assert counted(messages_of(spans, sizes, random)) == sorted(trace.calls)
