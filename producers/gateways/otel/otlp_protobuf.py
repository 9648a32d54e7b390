"""Decodes OTLP's traces in protobuf, with the messages that OpenTelemetry generates (`opentelemetry-proto`). Pure.

The protobuf library refuses a whole message for one text that is not UTF-8. Then the message is taken apart by
hand, down to the spans, and only the malformed ones are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

from contracts.errors import BadInput
from producers.common.protobuf_wire import otlp_items
from producers.gateways.otel.spans import ERROR, AttributeValue, DecodedSpans, Span, SpanSelection
from producers.runtime.refusals import read_each, refusal


class _Pair(Protocol):
    key: str
    value: Any


def decode(body: bytes, selection: SpanSelection) -> DecodedSpans:
    """Decode a message. Raises BadInput if it is no ExportTraceServiceRequest."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
        return DecodedSpans(list(_spans(request, selection)), [])
    except Exception as error:
        return _decode_span_by_span(body, selection, error)


def _spans(request: Any, selection: SpanSelection) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        resource = _select(resource_spans.resource.attributes, selection)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, scope_spans.scope.name, resource, selection)


def _span(span: Any, scope: str, resource: dict[str, AttributeValue], selection: SpanSelection) -> Span:
    events = [event.time_unix_nano for event in span.events if event.name in selection.events]
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == ERROR,
        scope=scope,
        attributes=_select(span.attributes, selection),
        resource=resource,
        event_ns=min(events, default=0),
    )


def _select(pairs: Collection[_Pair], selection: SpanSelection) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    for pair in pairs:
        if pair.key in selection.attributes:
            kind = pair.value.WhichOneof("value")
            if kind in ("string_value", "int_value", "double_value", "bool_value"):
                attributes[pair.key] = getattr(pair.value, kind)
    return attributes


def _decode_span_by_span(body: bytes, selection: SpanSelection, why: Exception) -> DecodedSpans:
    """Decode each span on its own. Raises BadInput, which quotes `why`, if the message itself is malformed."""
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

    spans, refused = list[Span](), list[str]()

    def read(item: tuple[bytes, bytes, bytes]) -> Span:
        resource_bytes, scope_bytes, span_bytes = item
        resource = _select(Resource.FromString(resource_bytes).attributes, selection)
        scope = InstrumentationScope.FromString(scope_bytes).name
        return _span(SpanMessage.FromString(span_bytes), scope, resource, selection)

    placed = ((f"span {number} of the message in protobuf", item) for number, item in enumerate(otlp_items(body), 1))
    try:
        spans.extend(read_each(placed, read, refused))
    except ValueError as error:
        refused.append(refusal(error, f"the message after span {len(spans) + len(refused)}"))
    if not spans:
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in protobuf: {why}") from None
    return DecodedSpans(spans, refused)
