"""Export requests of metrics and logs, as OpenTelemetry's SDKs send them, in both encodings."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint

from tests.producers.gateways.payloads import SECRET
from tests.producers.runtime.receiver.listener import NOW_MS

NS = 1_000_000
START_NS, END_NS = (NOW_MS - 60_000) * NS, (NOW_MS - 1_000) * NS
DELTA, CUMULATIVE = 1, 2
GENAI, CLAUDE = "gen_ai.client.token.usage", "claude_code.token.usage"
RESOURCE = {"service.name": "claude-code", "wattlog.tenant": "acme", "host.name": SECRET}
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in attributes.items()]


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            return AnyValue(string_value=str(value))


def counter(
    tokens: Mapping[str, float], *, name: str = CLAUDE, kind: str = "type", temporality: int = DELTA,
    start: int = START_NS, end: int = END_NS, monotonic: bool = True, **attributes: Any,
) -> Metric:  # fmt: skip
    """A sum with a point for each kind of tokens."""
    metric = Metric(name=name, unit="tokens")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = temporality, monotonic
    for type_, value in tokens.items():
        own = {"model": "claude-sonnet", "session.id": "s1", "user.email": SECRET} | attributes | {kind: type_}
        metric.sum.data_points.append(
            NumberDataPoint(attributes=pairs(own), start_time_unix_nano=start, time_unix_nano=end, as_double=value)
        )
    return metric


def histogram(
    tokens: Mapping[str, tuple[float, int]], *, temporality: int = DELTA, start: int = START_NS, end: int = END_NS,
    **attributes: Any,
) -> Metric:  # fmt: skip
    """A histogram with a point for each kind of tokens: its sum, and its number of values."""
    metric = Metric(name=GENAI, unit="{token}")
    metric.histogram.aggregation_temporality = temporality
    for type_, (total, count) in tokens.items():
        own = {
            "gen_ai.request.model": "llama", "gen_ai.response.model": "llama-3.1-8b", "server.address": "10.0.0.5",
            "server.port": 8000, "gen_ai.operation.name": "chat", "gen_ai.token.type": type_,
        } | attributes  # fmt: skip
        metric.histogram.data_points.append(
            HistogramDataPoint(
                attributes=pairs(own), start_time_unix_nano=start, time_unix_nano=end, sum=total, count=count
            )
        )
    return metric


def metrics(*many: Metric, resource: Mapping[str, Any] = RESOURCE, content_type: str = PROTOBUF) -> bytes:
    request = ExportMetricsServiceRequest()
    item = request.resource_metrics.add()
    item.resource.attributes.extend(pairs(resource))
    scope = item.scope_metrics.add()
    scope.scope.name = "com.anthropic.claude_code"
    scope.metrics.extend(many)
    return request.SerializeToString() if content_type == PROTOBUF else json.dumps(MessageToDict(request)).encode()


API_REQUEST: Mapping[str, Any] = {
    "event.name": "api_request", "event.sequence": 3, "session.id": "s1", "model": "claude-sonnet",
    "input_tokens": "60", "output_tokens": 20, "cache_read_tokens": 30.0, "cache_creation_tokens": "10",
    "cost_usd": "0.01", "duration_ms": "1500", "user.email": SECRET, "request_id": "req_1", "prompt": SECRET,
}  # fmt: skip


def record(
    attributes: Mapping[str, Any] = API_REQUEST, *, body: str = "claude_code.api_request", end: int = END_NS,
    **more: Any,
) -> LogRecord:  # fmt: skip
    present = {name: value for name, value in {**attributes, **more}.items() if value is not ...}
    return LogRecord(
        time_unix_nano=end, body=AnyValue(string_value=body), attributes=pairs(present), trace_id=b"\x5b" * 16,
        span_id=b"\x0e" * 8,
    )  # fmt: skip


def logs(
    *records: LogRecord, resource: Mapping[str, Any] = RESOURCE, content_type: str = PROTOBUF,
    scope: str = "com.anthropic.claude_code.events",
) -> bytes:  # fmt: skip
    request = ExportLogsServiceRequest()
    item = request.resource_logs.add()
    item.resource.attributes.extend(pairs(resource))
    scope_logs = item.scope_logs.add()
    scope_logs.scope.name = scope
    scope_logs.log_records.extend(records)
    if content_type == PROTOBUF:
        return request.SerializeToString()
    message = MessageToDict(request)
    for one in _records(message):
        for name in ("traceId", "spanId"):  # OTLP's JSON has hexadecimal ids, protobuf's has base64.
            one[name] = base64.b64decode(one[name]).hex()
    return json.dumps(message).encode()


def _records(message: Any) -> Sequence[dict[str, Any]]:
    return [
        record
        for resource in message["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
