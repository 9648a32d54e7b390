"""Nested reports: the innermost counts, and what sums its calls counts where none of them does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from producers.gateways.calls import AgentUsage, InferenceCall
from producers.gateways.otel.genai import GenAIReader, SpanCalls, SpanRules
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import CHAT, NS, T0, as_json, span

NOW = T0 + 60_000
A, B, C, D = "aa" * 8, "bb" * 8, "cc" * 8, "dd" * 8
NONE = dict.fromkeys(CHAT, ...)
AGENT = {"gen_ai.operation.name": "invoke_agent"}
UNTYPED = {"gen_ai.operation.name": ...}


def tokens(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion,
            "gen_ai.usage.cache_read.input_tokens": cached}  # fmt: skip


def during(start_s: float, end_s: float) -> dict[str, int]:
    return {"start": round(T0 + 1_000 * start_s) * NS, "end": round(T0 + 1_000 * end_s) * NS}


def read(spans: Sequence[dict[str, Any]], recent: DeduplicationWindow | None = None, **rules: Any) -> SpanCalls:
    window = DeduplicationWindow() if recent is None else recent
    return GenAIReader(SpanRules(**rules)).read_message(as_json(list(spans)), window, NOW, json=True)


def counted(*messages: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return prompt and completion tokens of the calls that count, of messages in this order."""
    recent = DeduplicationWindow()
    calls = [call for message in messages for call in read(message, recent).calls if isinstance(call, InferenceCall)]
    return sorted((call.row.prompt_tokens, call.row.completion_tokens) for call in calls)


FIRST = span(tokens(100, 20), id=B, parent=A, **during(1, 2))
SECOND = span(tokens(150, 7), id=C, parent=A, **during(3, 4))
CALLS = [(100, 20), (150, 7)]


@pytest.mark.parametrize("wrapper", [AGENT, UNTYPED, {"gen_ai.operation.name": "my_pipeline"}], ids=str)
@pytest.mark.parametrize("summed", [tokens(250, 27), tokens(250, 27, 126)], ids=["", "cached"])
def test_a_wrapper_that_sums_its_calls_does_not_count(wrapper: dict[str, Any], summed: dict[str, Any]) -> None:
    outer = span(wrapper | summed, id=A, **during(0, 5))
    assert counted([FIRST, SECOND, outer]) == counted([outer, SECOND, FIRST]) == CALLS


@pytest.mark.parametrize("wrapper", [AGENT, UNTYPED], ids=["agent", "wrapper"])
def test_a_wrapper_that_arrives_after_its_calls_does_not_count(wrapper: dict[str, Any]) -> None:
    outer = span(wrapper | tokens(250, 27), id=A, **during(0, 5))
    assert counted([FIRST], [SECOND], [outer]) == CALLS
    assert counted([FIRST], [SECOND, outer]) == CALLS


def test_a_step_between_a_call_and_its_agent_may_be_in_any_message() -> None:
    call = span(tokens(100, 20), id=C, parent=B, **during(1, 2))
    step = span(NONE, id=B, parent=A, **during(1, 3))
    agent = span(AGENT | tokens(999, 99), id=A, parent=D, **during(0, 5))
    for messages in ([[call], [step], [agent]], [[call, step], [agent]], [[call], [step, agent]]):
        assert counted(*messages) == [(100, 20)]


@pytest.mark.parametrize("outer", ["", D], ids=["root", "inner"])
def test_a_remote_call_that_arrives_after_its_agent_does_not_count_though_the_spans_between_are_missing(
    outer: str,
) -> None:
    reader, recent = GenAIReader(SpanRules()), DeduplicationWindow()
    agent = span(AGENT | tokens(250, 27), id=A, parent=outer, **during(0, 5))
    late, apart = (span(tokens(100, 20), id=id, parent="ee" * 8, **times)
                   for id, times in ((C, during(1, 2)), (B, during(6, 7))))  # fmt: skip
    results = [reader.read_message(as_json([one]), recent, NOW, json=True) for one in (agent, late, apart)]
    calls = [call for result in results for call in result.calls if isinstance(call, InferenceCall)]
    assert [call.row.prompt_tokens for call in calls] == [250, 100]  # One ran after the agent's end.


def test_an_agents_tokens_count_where_no_call_below_it_does() -> None:
    agent = span(AGENT | tokens(250, 27), id=A)
    result = read([agent])
    assert [type(call) for call in result.calls] == [AgentUsage, InferenceCall]
    tool = span({"gen_ai.operation.name": "execute_tool"} | tokens(9, 9), id=B, parent=A)
    assert counted([tool, agent]) == [(250, 27)]
    server = span(tokens(250, 27), id=B, parent=A, kind=2)
    assert counted([server, agent]) == [(250, 27)]


def test_calls_that_arrive_after_their_agent_was_counted_do_not_count_again() -> None:
    agent = span(AGENT | tokens(250, 27), id=A, **during(0, 5))
    step = span(NONE, id=D, parent=A, **during(1, 3))
    inner = span(tokens(100, 20), id=B, parent=D, **during(1, 2))
    assert counted([agent], [FIRST]) == [(250, 27)]
    assert counted([agent], [step], [inner]) == counted([agent], [inner, step]) == [(250, 27)]


def test_an_agent_within_an_agent_counts_once() -> None:
    inner = span(AGENT | tokens(250, 27), id=B, parent=A, **during(1, 4))
    outer = span(AGENT | tokens(250, 27), id=A, **during(0, 5))
    assert counted([inner, outer]) == counted([inner], [outer]) == [(250, 27)]


def test_a_child_that_outlives_its_parent_is_still_the_inner_one() -> None:
    outer = span(UNTYPED | tokens(100, 20), id=A, **during(0, 0.1))
    assert [call.identities[0][-16:] for call in read([outer, FIRST]).calls] == [B]


@pytest.mark.parametrize("forms", [(tokens(70, 20, 30), tokens(100, 20, 30)), (tokens(70, 20), tokens(100, 20, 30))])
def test_a_report_without_the_cached_part_is_recognised(forms: tuple[dict[str, Any], ...]) -> None:
    outer, inner = span(forms[0], id=A), span(forms[1], id=B, parent=A)
    assert counted([outer, inner]) == [(100, 20)]


def test_a_call_to_whose_prompt_a_gateway_has_added_counts_once_with_the_prompt_that_was_served() -> None:
    gateway = span(tokens(150, 20), id=B, parent=A)
    assert counted([span(tokens(100, 20), id=A), gateway]) == [(150, 20)]
    other = span(tokens(40, 1), id=B, parent=A)
    assert counted([span(tokens(100, 20), id=A), other]) == [(40, 1), (100, 20)]


def test_a_failed_wrapper_without_tokens_is_no_further_request() -> None:
    failed = {**dict.fromkeys(tokens(0, 0), ...), "error.type": "timeout"}
    assert counted([FIRST, span(failed, id=A)]) == [(100, 20)]


# -- parents are missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["", D], ids=["none", "unknown"])
@pytest.mark.parametrize("wrapper", [AGENT, UNTYPED], ids=["agent", "wrapper"])
def test_without_parents_a_sum_is_recognised_by_its_time(wrapper: dict[str, Any], parent: str) -> None:
    first, second = ({**call, "parent": parent} for call in (FIRST, SECOND))
    outer = span(wrapper | tokens(250, 27), id=A, **during(0, 5))
    assert counted([first, second, outer]) == counted([outer, first, second]) == CALLS


def test_without_parents_a_call_within_another_with_the_same_counts_is_the_same() -> None:
    outer, inner = span(tokens(100, 20), id=A, **during(0, 5)), {**FIRST, "parent": ""}
    assert [call.identities[0][-16:] for call in read([outer, inner]).calls] == [B]


def test_an_agent_in_another_trace_or_at_another_time_counts() -> None:
    call = {**FIRST, "parent": ""}
    elsewhere = span(AGENT | tokens(100, 20), id=A, trace="11" * 16, **during(0, 5))
    assert counted([call, elsewhere]) == [(100, 20), (100, 20)]
    later = span(AGENT | tokens(300, 20), id=A, parent=D, **during(3, 5))
    assert counted([call, later]) == [(100, 20), (300, 20)]


def test_calls_at_once_below_one_parent_count_each() -> None:
    calls = [span(tokens(8, 0), id=f"{n:016x}", parent=D, **during(0, 5 - n)) for n in range(3)]
    total = span(tokens(16, 0), id=A, parent=D, **during(0, 5))
    assert counted(calls) == [(8, 0)] * 3
    assert counted([*calls[1:], total]) == [(8, 0), (8, 0), (16, 0)]


def test_the_root_of_a_trace_is_above_every_call_of_it() -> None:
    call = {**FIRST, "parent": D}
    agent = span(AGENT | tokens(900, 90), id=A, **during(0, 5))
    assert counted([call], [agent]) == [(100, 20)]
    below = {**agent, "parent": C}
    assert counted([call], [below]) == [(100, 20), (900, 90)]


# -- what is told ------------------------------------------------------------------------------------------------------


def test_an_unknown_operation_counts_and_is_remarked() -> None:
    result = read([span({"gen_ai.operation.name": "think"})])
    assert len(result.calls) == 1
    assert result.remarks == [
        "spans of operation 'think' from 'lib' carry token counts and count as calls of models; no convention has the "
        "operation"
    ]


@pytest.mark.parametrize(
    ("change", "rules", "reason"),
    [
        ({"kind": 2}, {}, "kind"), ({}, {"scopes": ["x"]}, "scope"), ({}, {"operations": ["embeddings"]}, "operation"),
    ],
)  # fmt: skip
def test_calls_that_the_rules_leave_out_are_remarked(
    change: dict[str, Any], rules: dict[str, Any], reason: str
) -> None:
    result = read([{**span(), **change}, {**span(id=B), **change}], **rules)
    assert (result.calls, result.skipped, len(result.remarks)) == ([], {reason: 2}, 1)


def test_corrected_counts_are_remarked_once() -> None:
    spans = [span(tokens(10, 1, 90), id=id_, trace=id_ * 2) for id_ in (A, B)]
    result = read(spans)
    assert (result.corrected, result.remarks) == (
        {"cached_above_prompt": 2},
        ["spans of operation 'chat' from 'lib' have counts that were corrected: cached_above_prompt"],
    )  # fmt: skip


@pytest.mark.parametrize("operation", ["aget_responses", "retrieve_batch", "call_mcp_tool", "avector_store_search"])
def test_litellms_polls_retrieves_and_tools_are_no_calls(operation: str) -> None:
    poll = span({"gen_ai.operation.name": operation, "litellm.call_id": "1", "llm.request.type": operation})
    assert (read([poll]).calls, read([poll]).skipped) == ([], {"operation": 1})
