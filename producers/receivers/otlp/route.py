"""The route `/v1/traces`: OpenTelemetry's spans in OTLP over HTTP, read by the rules of `[produce.otel]`.

A sender that got 503, or no answer, sends its spans again. They are recognised by the identities of their calls
(`producers.runtime.deduplication`), which are stored in one transaction with the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from producers.api import ParsedRequest, ReceivedRequest, Reply, Route
from producers.gateways.calls import NO_TENANT, batches, group_by_workload
from producers.gateways.deployments import Deployments
from producers.gateways.otel.genai import ORIGIN, REPORTED, GenAIReader, SpanRules
from producers.gateways.otel.otlp import need_protobuf
from producers.gateways.otel.span_meters import EndpointNames
from producers.gateways.otel.trace_memory import TraceMemories
from producers.gateways.remarks import FirstRemarks
from producers.runtime.deduplication import DeduplicationTrial
from producers.runtime.receiver.sender_memories import memory_name

PATH = "/v1/traces"
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_ERROR_CHARS = 400
"""Characters of the error message in an answer."""
_SCHEMA: Mapping[str, Any] = {
    "type": "object", "description": "OTLP's ExportTraceServiceRequest.",
    "properties": {"resourceSpans": {"type": "array", "items": {"type": "object"}}},
}  # fmt: skip


def otlp_route(rules: SpanRules, deployments: Deployments, ahead_ms: int) -> Route:
    """Return the route. `ahead_ms` is how far in the future a call may end. Raises BadSetting without protobuf."""
    need_protobuf()
    parse = partial(_parse, rules, deployments, ahead_ms, FirstRemarks(), EndpointNames(), TraceMemories())
    return Route(PATH, "otlp", {PROTOBUF: {}, JSON: _SCHEMA}, parse, _reply, 200, grpc_method=METHOD)


def _parse(
    rules: SpanRules, deployments: Deployments, ahead_ms: int, remarks: FirstRemarks,
    endpoints: EndpointNames, memories: TraceMemories, sent: ReceivedRequest, trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    memory = memories.of(memory_name(sent.caller))
    reader = GenAIReader(rules, sent.caller.payer, endpoints, sent.caller.name or ORIGIN, sent.bounds, memory)
    result = reader.read_message(sent.body, trial, sent.now_ms + ahead_ms, json=sent.content_type == JSON)
    workload_batches = list(batches(group_by_workload(result.calls, deployments.within(sent.may_use), ORIGIN), ""))
    notes = [*remarks.new(result.remarks), *deployments.new_notes()]
    return ParsedRequest(workload_batches, result.refused, result.skipped, notes, corrected=result.corrected)


def _reply(sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
    """Return OTLP's ExportTraceServiceResponse with status 200, in the encoding of the request.

    It counts the spans that were refused, and says which do not count or were corrected. Those are not rejected: if
    nothing else is wrong, the count is 0 and the message a warning, as OTLP has it.
    """
    rejected = len(parsed.refused)
    sentences = [*parsed.refused, *(note for note in parsed.notes if note.startswith("spans"))]
    sentences += [
        f"not counted: {parsed.skipped[reason]} ({reason})" for reason in REPORTED if parsed.skipped.get(reason)
    ]
    # Who names no tenant is told so once, by a note: it may be meant.
    sentences += [f"corrected: {count} ({reason})" for reason, count in parsed.corrected.items() if reason != NO_TENANT]
    error = "; ".join(sentences)[:MAX_ERROR_CHARS]
    if sent.content_type == JSON:
        partial_success = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": error}}
        return Reply(200, msgspec.json.encode(partial_success if error else {}), JSON)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    response = ExportTraceServiceResponse()
    if error:
        response.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=rejected, error_message=error))
    return Reply(200, response.SerializeToString(), PROTOBUF)
