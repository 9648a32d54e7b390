"""Payloads as LiteLLM and OpenTelemetry document them, with prompts in every place that may hold one."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

T0 = 1_700_000_000_000
SECRET = "the-patient-has-a-rash"
"""Stands for a prompt or an answer: it must not be in any output."""
NS = 1_000_000
TRACE = "5b8efff798038103d269b633813fc60c"


# -- LiteLLM -----------------------------------------------------------------------------------------------------------


_calls = count(1)


def payload(**more: Any) -> dict[str, Any]:
    """A standard logging payload of LiteLLM 1.8x; `...` leaves a field out. Its call id is of its own."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 30}}
    fields = {
        "id": "chatcmpl-1", "trace_id": "tr-1", "litellm_call_id": f"call {next(_calls)}",
        "call_type": "acompletion", "stream": True,
        "response_cost": 0.0, "status": "success", "status_fields": {"llm_api_status": "success"},
        "custom_llm_provider": "hosted_vllm", "total_tokens": 120, "prompt_tokens": 100, "completion_tokens": 20,
        "startTime": T0 / 1000, "endTime": T0 / 1000 + 3.0, "completionStartTime": T0 / 1000 + 0.5,
        "response_time": 0.5, "model": "llama-3.1-8b", "model_id": "d0c1", "model_group": "chat",
        "api_base": "http://10.0.0.5:8000/v1", "cache_hit": None, "cache_key": None, "saved_cache_cost": 0.0,
        "request_tags": [SECRET], "end_user": "globex", "requester_ip_address": "10.1.1.1",
        "messages": [{"role": "user", "content": SECRET}],
        "response": {"id": "chatcmpl-1", "choices": [{"message": {"content": SECRET}}], "usage": usage},
        "error_str": None, "error_information": {"error_code": "", "error_class": "", "error_message": SECRET},
        "model_parameters": {"temperature": 0.2, "tools": [SECRET]},
        "hidden_params": {"model_id": "d0c1", "api_base": "http://10.0.0.5:8000/v1", "response_cost": "0.0"},
        "model_map_information": {"model_map_key": "llama", "model_map_value": None},
        "metadata": {
            "user_api_key_hash": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
            "user_api_key_alias": "acme-prod", "user_api_key_team_id": "team-7", "user_api_key_team_alias": "Acme",
            "user_api_key_org_id": None, "user_api_key_user_id": "u1", "user_api_key_end_user_id": "globex",
            "requester_metadata": {"session_id": "s-1", "step": "plan", "note": SECRET},
            "usage_object": usage, "prompt_management_metadata": {"prompt_variables": {"x": SECRET}},
        },
    }  # fmt: skip
    return {name: value for name, value in (fields | more).items() if value is not ...}


# -- OpenTelemetry -----------------------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "llama",
    "gen_ai.response.model": "llama-3.1-8b", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.cache_read.input_tokens": 30, "gen_ai.conversation.id": "conv-1", "server.address": "10.0.0.5",
    "server.port": 8000, "gen_ai.response.time_to_first_chunk": 0.5, "wattlog.tenant": "acme",
    "gen_ai.input.messages": [SECRET], "gen_ai.prompt": SECRET, "gen_ai.system_instructions": SECRET,
}  # fmt: skip


def span(attributes: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A span as both encodings can be made of; `...` leaves an attribute out."""
    present = {k: v for k, v in (CHAT | (attributes or {})).items() if v is not ...}
    return {
        "trace": TRACE, "id": "eee19b7ec3c1b174", "parent": "", "kind": 3, "start": T0 * NS, "end": (T0 + 3_000) * NS,
        "status": 0, "attributes": present, "events": [("gen_ai.content.prompt", T0 * NS)],
    } | more  # fmt: skip


def as_json(spans: list[dict[str, Any]], resource: dict[str, Any] | None = None, scope: str = "lib") -> bytes:
    """An ExportTraceServiceRequest in OTLP's JSON."""
    return json.dumps({"resourceSpans": [{
        "resource": {"attributes": [_pair(k, v) for k, v in (resource or {}).items()], "droppedAttributesCount": 0},
        "scopeSpans": [{"scope": {"name": scope, "version": "1"}, "spans": [{
            "traceId": s["trace"], "spanId": s["id"], "parentSpanId": s["parent"], "name": SECRET, "kind": s["kind"],
            "startTimeUnixNano": str(s["start"]), "endTimeUnixNano": str(s["end"]), "traceState": "",
            "attributes": [_pair(k, v) for k, v in s["attributes"].items()],
            "events": [
                {"name": n, "timeUnixNano": str(t), "attributes": [_pair("gen_ai.prompt", SECRET)]}
                for n, t in s["events"]
            ],
            "status": {"code": s["status"], "message": SECRET},
        } for s in spans]}],
    }]}).encode()  # fmt: skip


def as_protobuf(spans: list[dict[str, Any]], resource: dict[str, Any] | None = None, scope: str = "lib") -> bytes:
    """An ExportTraceServiceRequest in protobuf."""
    scope_spans = ScopeSpans(spans=[_span(s) for s in spans])
    scope_spans.scope.name = scope
    resource_spans = ResourceSpans(scope_spans=[scope_spans])
    resource_spans.resource.attributes.extend(_proto_pair(k, v) for k, v in (resource or {}).items())
    return ExportTraceServiceRequest(resource_spans=[resource_spans]).SerializeToString()


def _span(s: dict[str, Any]) -> Span:
    return Span(
        trace_id=bytes.fromhex(s["trace"]), span_id=bytes.fromhex(s["id"]), parent_span_id=bytes.fromhex(s["parent"]),
        name=SECRET, kind=s["kind"], start_time_unix_nano=s["start"], end_time_unix_nano=s["end"],
        attributes=[_proto_pair(k, v) for k, v in s["attributes"].items()], status=Status(code=s["status"]),
        events=[Span.Event(name=n, time_unix_nano=t) for n, t in s["events"]],
    )  # fmt: skip


def _pair(name: str, value: Any) -> dict[str, Any]:
    return {"key": name, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [_value(v) for v in value]}}
        case dict():
            return {"kvlistValue": {"values": [_pair(k, v) for k, v in value.items()]}}
        case _:
            return {"stringValue": value}


def _proto_pair(name: str, value: Any) -> KeyValue:
    return KeyValue(key=name, value=_proto(value))


def _proto(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[_proto(v) for v in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=[_proto_pair(k, v) for k, v in value.items()]))
        case _:
            return AnyValue(string_value=value)
