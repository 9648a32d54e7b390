"""OpenTelemetry's spans: which are requests, which of several for one call counts, and no prompt in the output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from producers.gateways.calls import AgentUsage, InferenceCall, batches, group_by_workload
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.otel.genai import GenAIReader, SpanCalls, SpanRules
from producers.gateways.otel.otlp import is_json
from producers.gateways.otel.token_names import ATTRIBUTES
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import DeduplicationWindow
from tests.producers.gateways.payloads import CHAT, NS, SECRET, T0, TRACE, as_json, as_protobuf, span

NOW = T0 + 60_000
Encode = Callable[..., bytes]
both = pytest.mark.parametrize("encode", [as_json, as_protobuf])


def read(body: bytes, recent: DeduplicationWindow | None = None, **rules: Any) -> SpanCalls:
    genai = GenAIReader(SpanRules(**rules))
    return genai.read_message(body, DeduplicationWindow() if recent is None else recent, NOW, json=is_json(body))


def row(attributes: dict[str, Any] | None = None, resource: dict[str, Any] | None = None, **more: Any) -> RequestRow:
    """The one request of a span."""
    result = read(as_protobuf([span(attributes, **more)], resource))
    assert not result.refused, result.refused
    [call] = result.calls
    assert isinstance(call, InferenceCall)
    return call.row


def counted(result: SpanCalls) -> list[str]:
    return [call.identities[0].rpartition("/")[2] for call in result.calls]


# -- maps --------------------------------------------------------------------------------------------------------------

NO_COUNTS = dict.fromkeys((name for name in CHAT if name.startswith("gen_ai.usage.")), ...)
MAPS: dict[str, dict[str, Any]] = {
    "a map of a convention": {"gen_ai.usage": {"input_tokens": 100, "output_tokens": 20}},
    "nested": {"gen_ai": {"usage": {"input_tokens": 100, "output_tokens": 20, "cache_read": {"input_tokens": 30}}}},
    "details": {"gen_ai.usage": {"input_tokens": 100, "output_tokens": 20, "details": {"cache_read_tokens": 30}}},
    "OpenInference": {"llm.token_count": {"prompt": 100, "completion": 20, "prompt_details": {"cache_read": 30}}},
    "OpenInference, from the root": {"llm": {"token_count": {"prompt": 100, "completion": 20, "total": 120}}},
    "OpenAI's names": {
        "gen_ai.usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 30}}
    },
    "Vercel": {"ai.usage": {"inputTokens": "100", "outputTokens": 20.0, "cachedInputTokens": 30}},
    "traceloop": {"llm.usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}},
    "Langfuse": {"langfuse.observation.usage_details": {"input": 70, "input_cached_tokens": 30, "output": 20}},
    "Langfuse, from the root": {"langfuse": {"observation": {"usage_details": {"input": 100, "output": 20}}}},
    "beside an attribute": {"gen_ai.usage.input_tokens": 100, "gen_ai.usage": {"input_tokens": 7, "output_tokens": 20}},
    "with texts": {"gen_ai.usage": {"note": SECRET * 9, "input_tokens": 100, "list": [1], "output_tokens": 20}},
    "as a text": {"gen_ai.usage": '{"input_tokens": 100, "output_tokens": 20}'},
}


@both
@pytest.mark.parametrize("attributes", MAPS.values(), ids=MAPS)
def test_counts_in_maps_are_read_by_the_names_that_they_have_together(
    encode: Encode, attributes: dict[str, Any]
) -> None:
    result = read(encode([span({**NO_COUNTS, **attributes})]))
    [call] = result.calls
    assert isinstance(call, InferenceCall)
    row = call.row
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) in ((100, 0, 20), (100, 30, 20))
    assert row.cached_tokens == (30 if "30" in str(attributes) else 0)
    assert SECRET not in repr(result)


@both
def test_a_map_that_is_wide_or_deep_is_read_to_a_bound_and_spoils_nothing(encode: Encode) -> None:
    deep: dict[str, Any] = {"input_tokens": 7}
    for _ in range(20):
        deep = {"more": deep}
    wide = {f"x{n}": n for n in range(5_000)}
    for attributes in ({"gen_ai.usage": deep}, {"llm": wide}, {"gen_ai": {"usage": wide}}, {"gen_ai.usage": {"": 1}}):
        [call] = read(encode([span(attributes)])).calls
        assert (call.row.prompt_tokens, call.row.completion_tokens) == (100, 20)  # type: ignore[union-attr]


@both
def test_a_count_in_a_map_that_is_none_is_refused_by_name(encode: Encode) -> None:
    [text] = read(encode([span({**NO_COUNTS, "gen_ai.usage": {"input_tokens": -1, "output_tokens": 2}})])).refused
    assert "prompt_tokens" in text or "input_tokens" in text


# -- a span ------------------------------------------------------------------------------------------------------------


@both
def test_a_span_is_a_request(encode: Encode) -> None:
    result = read(encode([span()], {"service.name": "shop"}))
    assert result.refused == []
    [call] = result.calls
    assert call.row == RequestRow(
        tenant="acme",
        model="llama-3.1-8b",
        request_id=f"{TRACE}/eee19b7ec3c1b174",
        t_start_ms=T0,
        t_first_ms=T0 + 500,
        t_end_ms=T0 + 3_000,
        prompt_tokens=100,
        cached_tokens=30,
        completion_tokens=20,
        status="ok",
        session_id="conv-1",
        trace_id=TRACE,
        api_base="10.0.0.5:8000",
        route="shop",
        application="shop",
        provider="openai",
        endpoint="chat",
        sender="otel",
    )


def test_kinds_of_tokens_and_breakdowns_are_columns() -> None:
    request = row(
        {"gen_ai.usage.cache_creation.input_tokens": 10, "gen_ai.usage.reasoning.output_tokens": 5,
         "llm.token_count.prompt_details.audio": 3, "gen_ai.usage.details.accepted_prediction_tokens": 2,
         "gen_ai.latency.time_in_queue": 0.25, "wattlog.feature": "summary", "wattlog.priority": "batch",
         "user.id": "ada"},
        {"service.name": "shop", "cloud.region": "eu-1"},
    )  # fmt: skip
    assert (request.cache_write_tokens, request.reasoning_tokens, request.audio_prompt_tokens) == (10, 5, 3)
    assert (request.accepted_prediction_tokens, request.queue_ms) == (2, 250)
    assert (request.application, request.feature, request.region, request.priority, request.user) == (
        "shop", "summary", "eu-1", "batch", "ada",
    )  # fmt: skip


NO_COUNTS: dict[str, Any] = {
    "gen_ai.usage.input_tokens": ..., "gen_ai.usage.output_tokens": ..., "gen_ai.usage.cache_read.input_tokens": ...,
}  # fmt: skip
OLD = {"gen_ai.usage.input_tokens": ..., "gen_ai.usage.output_tokens": ..., "gen_ai.usage.cache_read.input_tokens": ...}


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 8}, (7, 0, 8)),
        ({"llm.usage.prompt_tokens": 7, "llm.usage.completion_tokens": 8}, (7, 0, 8)),
        ({"gen_ai.usage.input_tokens": 7, "gen_ai.operation.name": "embeddings"}, (7, 0, 0)),
        ({"gen_ai.usage.input_tokens": 7.0, "gen_ai.usage.output_tokens": 8.0}, (7, 0, 8)),  # a double, as in JS
        ({"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 8,
          "gen_ai.usage.cache_read_input_tokens": 5}, (7, 5, 8)),
    ],
)  # fmt: skip
def test_counts_have_old_and_new_names(attributes: dict[str, Any], tokens: tuple[int, int, int]) -> None:
    request = row(OLD | attributes)
    assert (request.prompt_tokens, request.cached_tokens, request.completion_tokens) == tokens


@pytest.mark.parametrize(
    "written", ["gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"]
)
def test_an_input_without_its_cached_part_is_completed(written: str) -> None:
    request = row({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 90, written: 5})
    assert (request.prompt_tokens, request.cached_tokens) == (105, 90)


@pytest.mark.parametrize(
    ("attributes", "more", "first_ms"),
    [
        ({"gen_ai.response.time_to_first_chunk": ..., "gen_ai.latency.time_to_first_token": 0.25}, {}, T0 + 250),
        ({"gen_ai.response.time_to_first_chunk": ...}, {"events": [("gen_ai.first_token", (T0 + 40) * NS)]}, T0 + 40),
        ({"gen_ai.response.time_to_first_chunk": ...}, {}, 0),
        ({"gen_ai.response.time_to_first_chunk": 10.0}, {}, 0),  # after its end: unknown
        ({"gen_ai.response.time_to_first_chunk": "soon"}, {}, 0),
    ],
)
@both
def test_the_first_token_is_an_attribute_or_an_event(
    encode: Encode, attributes: dict[str, Any], more: dict[str, Any], first_ms: int
) -> None:
    [call] = read(encode([span(attributes, **more)])).calls
    assert isinstance(call, InferenceCall)
    assert call.row.t_first_ms == first_ms


def test_strands_writes_the_time_to_the_first_token_in_milliseconds() -> None:
    attributes = {"gen_ai.response.time_to_first_chunk": ..., "gen_ai.server.time_to_first_token": 2}
    for scope, first_ms in (("strands.telemetry.tracer", T0 + 2), ("lib", T0 + 2_000)):
        [call] = read(as_protobuf([span(attributes)], scope=scope)).calls
        assert isinstance(call, InferenceCall) and call.row.t_first_ms == first_ms


@pytest.mark.parametrize(
    ("attributes", "more", "status"),
    [
        ({}, {"status": 2}, "error"), ({"error.type": "timeout"}, {}, "timeout"),
        ({"http.response.status_code": 429}, {}, "429"), ({"http.response.status_code": 200}, {}, "ok"),
        ({}, {"status": 1}, "ok"),
    ],
)  # fmt: skip
def test_a_failure_is_a_status_a_type_or_a_code(attributes: dict[str, Any], more: dict[str, Any], status: str) -> None:
    assert row(attributes, **more).status == status


def test_a_failure_needs_no_counts_and_its_earlier_work_counts() -> None:
    assert row({**OLD, "error.type": "timeout"}).prompt_tokens == 0
    assert row({"error.type": "timeout"}).completion_tokens == 20


def test_the_model_is_the_served_one_and_an_invalid_name_keeps_no_call_off_the_bill() -> None:
    assert row({"gen_ai.response.model": ...}).model == "llama"
    assert row({"gen_ai.response.model": "x" * 300, "gen_ai.request.model": "a\nb"}).model == "unknown"
    assert row({"gen_ai.conversation.id": "s" * 300}).session_id == ""


# -- tenant ------------------------------------------------------------------------------------------------------------


def test_the_tenant_is_on_the_span_an_enclosing_span_or_the_resource() -> None:
    none = {"wattlog.tenant": ...}
    assert row({"wattlog.tenant": "globex"}, {"wattlog.tenant": "acme"}).tenant == "globex"
    assert row(none, {"tenant.id": "acme"}).tenant == "acme"
    gateway = span({"gen_ai.operation.name": "route", "wattlog.tenant": "acme"}, id="aa" * 8, kind=2)
    [call] = read(as_json([span(none, parent="aa" * 8), gateway])).calls
    assert isinstance(call, InferenceCall)
    assert call.row.tenant == "acme"


def test_spans_of_applications_may_be_restricted_to_the_tenant_of_the_resource() -> None:
    [call] = read(as_json([span()], {"k8s.namespace.name": "team-a"}), tenant=["resource:k8s.namespace.name"]).calls
    assert isinstance(call, InferenceCall)
    assert call.row.tenant == "team-a"
    [call] = read(as_json([span({"x": "globex"})], {"x": "acme"}), tenant=["resource:x"]).calls
    assert isinstance(call, InferenceCall)
    assert call.row.tenant == "acme"
    [call] = read(as_json([span({"x": "globex"})], {"x": "acme"}), tenant=["span:x"]).calls
    assert isinstance(call, InferenceCall)
    assert call.row.tenant == "globex"


def test_a_call_without_a_tenant_has_a_bill_of_its_own_or_is_refused() -> None:
    assert row({"wattlog.tenant": ...}).tenant == "unknown"
    result = read(as_json([span({"wattlog.tenant": ...})]), otherwise="")
    assert (result.calls, len(result.refused)) == ([], 1)
    assert "tenant" in result.refused[0]


def test_a_call_without_a_tenant_is_counted_by_reason_and_remarked_with_its_sender() -> None:
    result = read(as_json([span({"wattlog.tenant": ...}), span(id="bb" * 8)], {"service.name": "shop"}))
    assert result.corrected == {"no_tenant": 1}
    assert result.remarks == [
        "spans of 'shop' from otel name no tenant (wattlog.tenant, tenant.id): charged to unknown"
    ]


@pytest.mark.parametrize("name", ["user.id", "enduser.id", "http.request.header.x-tenant", "baggage.tenant"])
def test_attributes_from_clients_are_no_tenant(name: str) -> None:
    assert row({"wattlog.tenant": ..., name: "globex"}).tenant == "unknown"


# -- which spans count -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "more", "why"),
    [
        ({}, {"kind": 2}, "kind"), ({"gen_ai.operation.name": "create_agent"}, {}, "other"),
        ({**OLD, "gen_ai.operation.name": ...}, {}, "other"),
        ({**OLD, "gen_ai.operation.name": "invoke_workflow"}, {}, "other"),
        ({**OLD, "gen_ai.operation.name": "reflect"}, {}, "unknown_operation"),
    ],
)  # fmt: skip
def test_a_span_that_is_no_clients_inference_does_not_count(
    attributes: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    result = read(as_json([span(attributes, **more)]))
    assert (result.calls, result.refused, result.skipped) == ([], [], {why: 1})


def test_server_spans_count_where_configured() -> None:
    vllm = {**OLD, "gen_ai.operation.name": ..., "gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 8}
    assert len(read(as_json([span(vllm, kind=2)]), kinds=["server"]).calls) == 1


@both
def test_a_span_whose_counts_cannot_be_read_is_named_once(encode: Encode) -> None:
    result = read(encode([span({**NO_COUNTS, "gen_ai.operation.name": ..., "acme.tokens_in": 100})]))
    assert (result.calls, dict(result.skipped)) == ([], {"unread_counts": 1})
    assert result.remarks == ["spans from 'lib' have no count that can be read, but acme.tokens_in"]


def test_a_call_without_a_count_that_can_be_read_is_refused_with_those_that_cannot() -> None:
    [refused] = read(as_json([span({**NO_COUNTS, "acme.tokens_in": 100})])).refused
    assert "acme.tokens_in" in refused


def test_a_call_with_a_further_count_that_is_not_read_counts_and_names_it() -> None:
    result = read(as_json([span({"gen_ai.usage.frobnicated_tokens": "7"}), span({"gen_ai.usage.x_tokens": 7}, id=B)]))
    assert len(result.calls) == 2
    assert [remark.rpartition(": ")[2] for remark in result.remarks] == ["gen_ai.usage.x_tokens"]


@pytest.mark.parametrize(
    ("kind", "model", "usage"),
    [("CHAT_MODEL", '"llama"', []), ("LLM", '"llama"', []), ("AGENT", None, ["agent_calls"]), ("TOOL", None, None)],
)
def test_mlflows_spans_are_read_with_their_texts_in_quotes(
    kind: str, model: str | None, usage: list[str] | None
) -> None:
    text = '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, "cache_read_input_tokens": 30}'
    attributes = {
        **NO_COUNTS,
        "gen_ai.operation.name": ...,
        "gen_ai.response.model": ...,
        "gen_ai.request.model": ...,
        "mlflow.spanType": f'"{kind}"',
        "mlflow.llm.model": model or ...,
        "mlflow.chat.tokenUsage": text,
    }
    calls = read(as_json([span(attributes, kind=1)])).calls
    rows = [call.row for call in calls if isinstance(call, InferenceCall)]
    if usage is None:
        assert rows == []
        return
    assert [(r.model, r.prompt_tokens, r.cached_tokens) for r in rows] == [("llama" if model else "unknown", 100, 30)]
    assert [call.row.meter for call in calls if isinstance(call, AgentUsage)] == usage


CLAUDE_CODE: dict[str, Any] = {
    **NO_COUNTS, "gen_ai.operation.name": ..., "gen_ai.provider.name": ..., "gen_ai.response.model": ...,
    "gen_ai.system": "anthropic", "gen_ai.request.model": "claude", "span.type": "llm_request", "model": "claude",
    "input_tokens": 60, "output_tokens": 20, "cache_read_tokens": 30, "cache_creation_tokens": 10, "ttft_ms": 40,
    "gen_ai.response.time_to_first_chunk": ...,
}  # fmt: skip


@both
def test_claude_codes_requests_count_once_below_its_interaction(encode: Encode) -> None:
    interaction = dict.fromkeys(CHAT, ...) | {"span.type": "interaction", "session.id": "s1"}
    tool = dict.fromkeys(CHAT, ...) | {"span.type": "tool", "tool_name": "Bash"}
    waiting = dict.fromkeys(CHAT, ...) | {"span.type": "tool.blocked_on_user"}
    spans = [
        span(interaction, id=A, kind=1, end=(T0 + 9_000) * NS), span(CLAUDE_CODE, id=B, parent=A, kind=1),
        span(tool, id=C, parent=A, kind=1), span(waiting, id="dd" * 8, parent=C, kind=1),
    ]  # fmt: skip
    calls = read(encode(spans, {"tenant.id": "acme"})).calls
    [request] = [call.row for call in calls if isinstance(call, InferenceCall)]
    assert (request.model, request.prompt_tokens, request.cached_tokens, request.cache_write_tokens) == (
        "claude", 100, 30, 10,
    )  # fmt: skip
    assert (request.completion_tokens, request.t_first_ms) == (20, T0 + 40)
    assert sorted(call.row.meter for call in calls if isinstance(call, AgentUsage)) == ["agent_calls", "tool_calls"]


def test_a_total_of_another_program_is_no_call_and_is_named() -> None:
    result = read(as_json([span(dict.fromkeys(CHAT, ...) | {"total_tokens": 5_000}, kind=1)]))
    assert (result.calls, dict(result.skipped)) == ([], {"unread_counts": 1})


def test_openinferences_decisions_count_with_their_model() -> None:
    attributes = {**NO_COUNTS, "gen_ai.operation.name": ..., "openinference.span.kind": "DECISION",
                  "gen_ai.response.model": ..., "gen_ai.request.model": ...,
                  "decision.response.model_name": "judge", "decision.token_count.input": 100,
                  "decision.token_count.output": 3}  # fmt: skip
    request = row(attributes, kind=1)
    assert (request.model, request.prompt_tokens, request.completion_tokens) == ("judge", 100, 3)


def test_instrumentations_can_be_restricted() -> None:
    assert read(as_json([span()], scope="go.opentelemetry.io/obi"), scopes=["lib"]).skipped == {"scope": 1}
    assert len(read(as_json([span()]), scopes=["lib"]).calls) == 1


A, B, C = "aa" * 8, "bb" * 8, "cc" * 8


@both
def test_the_inner_span_of_a_framework_and_its_client_counts(encode: Encode) -> None:
    http = span({"gen_ai.operation.name": ..., **OLD}, id=B, parent=A)  # between the two, without tokens
    result = read(encode([span(id=A), http, span(id=C, parent=B)]))
    assert counted(result) == [C]
    assert result.skipped == {"nested": 1, "other": 1}


@pytest.mark.parametrize(
    ("order", "calls"),
    [((0, 1, 2), 1), ((2, 1, 0), 1), ((1, 0, 2), 1), ((1, 2, 0), 1), ((0, 2, 1), 2), ((2, 0, 1), 2)],
)
def test_spans_in_different_messages_know_the_enclosing_and_the_enclosed_one(
    order: tuple[int, ...], calls: int
) -> None:
    spans, recent = [span(id=A), span(id=B, parent=A), span(id=C, parent=B)], DeduplicationWindow()
    assert sum(len(read(as_json([spans[n]]), recent).calls) for n in order) == calls


def test_two_calls_side_by_side_count_twice_even_if_they_are_alike() -> None:
    agent = span({"gen_ai.operation.name": "invoke_workflow"}, id=A)
    assert counted(read(as_json([agent, span(id=B, parent=A), span(id=C, parent=A)]))) == [B, C]


def test_an_outer_span_with_other_counts_is_a_call_of_its_own() -> None:
    outer = span({"gen_ai.usage.input_tokens": 300, "gen_ai.usage.output_tokens": 50}, id=A)
    assert len(read(as_json([outer, span(id=B, parent=A)])).calls) == 2


def test_a_repeated_span_counts_once() -> None:
    recent = DeduplicationWindow()
    assert len(read(as_json([span()]), recent).calls) == 1
    again = read(as_protobuf([span()]), DeduplicationWindow(recent.dump()))
    assert (again.calls, again.skipped) == ([], {"double": 1})


def test_spans_nested_in_a_circle_are_read() -> None:
    assert len(read(as_json([span(id=A, parent=B), span(id=B, parent=A)])).calls) <= 2


# -- tools and agents --------------------------------------------------------------------------------------------------


@both
def test_a_tool_call_is_usage_with_its_session_trace_and_step(encode: Encode) -> None:
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.agent.name": "clerk",
            "gen_ai.tool.call.arguments": SECRET, **OLD}  # fmt: skip
    [used] = read(encode([span(tool, kind=1)], {"service.name": "shop"})).calls
    assert isinstance(used, AgentUsage)
    assert used.service == "shop"
    assert used.row._asdict() == {
        "meter": "tool_calls", "unit": "1", "quantity": "1", "t0_ms": T0, "t1_ms": T0 + 3_000, "tenant": "acme",
        "origin": "otel", "event_id": f"{TRACE}/eee19b7ec3c1b174", "session_id": "conv-1", "trace_id": TRACE,
        "step": "search", "dimensions": {"tool": "search", "agent": "clerk", "status": "ok"},
    }  # fmt: skip


def test_an_agent_call_is_usage_and_its_summed_tokens_do_not_count() -> None:
    agent_span = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 900}, id=A)
    outer, inner = sorted(
        read(as_json([agent_span, span(id=B, parent=A)])).calls, key=lambda c: isinstance(c, InferenceCall)
    )
    assert outer.row.meter == "agent_calls"  # type: ignore[union-attr]
    assert isinstance(inner, InferenceCall)


# -- malformed spans ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "more", "named"),
    [
        (OLD, {}, "gen_ai.usage.input_tokens"), ({"gen_ai.usage.input_tokens": -1}, {}, "prompt_tokens"),
        ({"gen_ai.usage.output_tokens": "many"}, {}, "completion_tokens"),
        ({"wattlog.tenant": "__idle__"}, {}, "tenant"),
        ({}, {"start": 0}, "startTimeUnixNano"), ({}, {"end": T0 * NS - NS}, "end"), ({}, {"id": ""}, "spanId"),
        ({}, {"end": (NOW + 1) * NS}, "in the future"),
    ],
)  # fmt: skip
@both
def test_an_invalid_span_is_reported_and_the_others_count(
    encode: Encode, attributes: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    recent = DeduplicationWindow()
    result = read(encode([span(attributes, **more), span(id=B)]), recent)
    assert counted(result) == [B]
    assert named in result.refused[0]
    assert not recent.has(f"{TRACE}/eee19b7ec3c1b174")  # corrected, it may be sent again


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xff", b'{"resourceSpans": 1}', b"\n\x05abc"])
def test_an_invalid_message_is_bad_input(body: bytes) -> None:
    with pytest.raises(BadInput, match="is no ExportTraceServiceRequest"):
        read(body)


leaves = st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=4)
names = st.sampled_from([
    "resourceSpans", "resource", "attributes", "scopeSpans", "scope", "spans", "traceId", "spanId", "parentSpanId",
    "kind", "startTimeUnixNano", "endTimeUnixNano", "status", "code", "events", "key", "value", "stringValue",
    "intValue", "gen_ai.usage.input_tokens",
])  # fmt: skip
trees = st.recursive(leaves, lambda c: st.lists(c, max_size=3) | st.dictionaries(names, c, max_size=5), max_leaves=20)


@given(trees.map(lambda v: json.dumps({"resourceSpans": v}).encode()) | st.binary(max_size=60))
def test_any_message_is_read_or_refused(body: bytes) -> None:
    try:
        result = read(body)
    except BadInput:
        return
    check(result)


texts = st.text(max_size=3) | st.text("x", min_size=250, max_size=260)
values = texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
NAMES = sorted({*GenAIReader(SpanRules()).selection.attributes, *(name.name for name in ATTRIBUTES)})
ids = st.sampled_from(["", A, B, C])


told_spans = st.tuples(
    ids, ids, st.dictionaries(st.sampled_from(NAMES), values, max_size=5), st.integers(0, 2**63 - 1), st.integers(0, 5)
)


@given(st.lists(told_spans, max_size=4), st.sampled_from([as_json, as_protobuf]))
def test_any_spans_make_valid_rows(span_fields: list[tuple[Any, ...]], encode: Encode) -> None:
    spans = [span(a, id=i, parent=p, end=end, kind=kind) for i, p, a, end, kind in span_fields]
    check(read(encode(spans)))


def check(result: SpanCalls) -> None:
    for batch in batches(group_by_workload(result.calls, Deployments([], "east"), "otel"), "x"):
        batch.batch.check()
        assert len(batch.workload) <= 253


# -- privacy -----------------------------------------------------------------------------------------------------------


@both
def test_no_part_of_prompts_and_answers_is_in_the_output(encode: Encode) -> None:
    tool = span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": SECRET}, id=B)
    bad = span({"gen_ai.usage.input_tokens": -1, "gen_ai.output.messages": SECRET}, id=C)
    result = read(encode([span(), tool, bad], {"process.command_args": SECRET}))
    assert (len(result.calls), len(result.refused)) == (2, 1)
    items = list(batches(group_by_workload(result.calls, Deployments([], "east"), "otel"), "x"))
    assert SECRET not in repr((result, items))


# -- place -------------------------------------------------------------------------------------------------------------


def test_rules_place_calls_and_unmatched_names_are_reported() -> None:
    rules = [Deployment(workload="chat", model="llama*", api_base="10.0.0.5:*")]
    deployments = Deployments(rules, "east")
    spans = [span(id=A), span({"gen_ai.response.model": "qwen"}, id=B)]
    items = batches(group_by_workload(read(as_json(spans, {"service.name": "shop"})).calls, deployments, "otel"), "x")
    assert [(m.cluster, m.workload) for m in items] == [("east", "chat"), ("east", "unmatched/qwen")]
    route = "model 'qwen', api_base '10.0.0.5:8000', route 'shop'"
    assert deployments.new_notes() == [
        f"no rule of `deployments` names the workload of {route}: its requests show as unmetered"
    ]
