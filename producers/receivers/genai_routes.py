"""Routes of `wattlog produce http`: OpenTelemetry's spans (`/v1/traces`, OTLP over HTTP) and LiteLLM's `generic_api`.

They are read by the rules of `[produce.otel]` and `[produce.litellm]`. What comes again, because its sender was told
503 or nothing, is known by its names (`producers.runtime.deduplication`), which are kept with what was made of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from contracts.errors import BadInput
from contracts.settings import Settings
from producers.gateways.calls import batches, group_by_workload, max_ahead_ms
from producers.gateways.deployments import Deployments
from producers.gateways.litellm import payloads
from producers.gateways.litellm.callback_folder import ORIGIN as LITELLM
from producers.gateways.litellm.payloads import LiteLLMReader
from producers.gateways.litellm.plugin import LiteLLMConfig
from producers.gateways.otel import genai
from producers.gateways.otel.genai import ORIGIN as OTEL
from producers.gateways.otel.genai import GenAIReader
from producers.gateways.otel.otlp import need_protobuf, spans
from producers.gateways.otel.plugin import OtelConfig
from producers.runtime.config import load
from producers.runtime.deduplication import DOUBLE, Recent, Trial
from producers.runtime.receiver.route import Intake, Parsed, Reply, Sent

log = logging.getLogger(__name__)

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_SAID = 400
"""Characters of an answer's error message."""
_PAYLOAD: Mapping[str, Any] = {
    "type": "object", "description": "LiteLLM's standard logging payload; of it only counts, times and names are read.",
    "required": ["id", "model", "startTime", "endTime", "prompt_tokens", "completion_tokens"],
}  # fmt: skip
_SPANS: Mapping[str, Any] = {
    "type": "object", "description": "OTLP's ExportTraceServiceRequest.",
    "properties": {"resourceSpans": {"type": "array", "items": {"type": "object"}}},
}  # fmt: skip


def genai_intakes(settings: Settings, recent: Recent) -> Sequence[Intake]:
    """Both routes. Raises BadSetting for rules that cannot be used."""
    spans, calls = load(OtelConfig), load(LiteLLMConfig)
    need_protobuf()
    ahead_ms = max_ahead_ms(settings)
    read_spans = partial(_spans, spans.spans, Deployments(spans.deployments, settings.cluster), recent, ahead_ms)
    read_calls = partial(_calls, calls.payload, Deployments(calls.deployments, settings.cluster), recent, ahead_ms)
    return (
        Intake("/v1/traces", "otlp", {PROTOBUF: {}, JSON: _SPANS}, read_spans, exported, 200),
        Intake(
            "/litellm", "litellm", {JSON: {"oneOf": [_PAYLOAD, {"type": "array", "items": _PAYLOAD}]},
                                    "application/x-ndjson": {}}, read_calls,
        ),
    )  # fmt: skip


def _spans(rules: genai.SpanRules, deployments: Deployments, recent: Recent, ahead_ms: int, sent: Sent) -> Parsed:
    trial, genai = Trial(recent), GenAIReader(rules, sent.caller.payer)
    found = spans(sent.body, genai.wanted, json=sent.content_type == JSON)
    told = genai.read(found, trial, sent.now_ms + ahead_ms)
    made = list(batches(group_by_workload(told.calls, deployments, OTEL), ""))
    _tell(deployments)
    return Parsed(made, told.refused, told.skipped, trial.added)


def _calls(rules: payloads.LiteLLMRules, deployments: Deployments, recent: Recent, ahead_ms: int, sent: Sent) -> Parsed:
    trial = Trial(recent)
    told = LiteLLMReader(rules, sent.caller.payer).body(sent.body, trial, sent.now_ms + ahead_ms)
    if told.refused and not told.calls and not told.doubles:
        raise BadInput("body", f"{len(told.refused)} payloads", f"none can be read: {told.refused[0]}")
    made = list(batches(group_by_workload(told.calls, deployments, LITELLM), ""))
    _tell(deployments)
    return Parsed(made, told.refused, {DOUBLE: told.doubles} if told.doubles else {}, trial.added)


def _tell(deployments: Deployments) -> None:
    for unmatched in deployments.new_unmatched():
        log.warning("no rule says who serves %s: its requests show as unmetered", unmatched)


def exported(sent: Sent, parsed: Parsed) -> Reply:
    """OTLP's ExportTraceServiceResponse: 200, in the encoding of the request, with what was left out. A span that does
    not count is none that was refused."""
    rejected, why = len(parsed.refused), "; ".join(parsed.refused)[:MAX_SAID]
    if sent.content_type == JSON:
        partial_success = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}} if rejected else {}
        return Reply(200, msgspec.json.encode(partial_success), JSON)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=rejected, error_message=why))
    return Reply(200, response.SerializeToString(), PROTOBUF)
