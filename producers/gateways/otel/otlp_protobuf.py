"""Decodes OTLP's traces in protobuf, with the messages that OpenTelemetry generates (`opentelemetry-proto`). Pure.

The protobuf library refuses a whole message for one text that is not UTF-8. Then the message is taken apart by
hand, down to the spans, and only the malformed ones are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

from contracts.errors import BadInput
from producers.gateways.otel.spans import ERROR, AttributeValue, DecodedSpans, Span, SpanSelection
from producers.runtime.refusals import read_each, refusal

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""


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

    placed = ((f"span {number} of the message in protobuf", item) for number, item in enumerate(_raw_spans(body), 1))
    try:
        spans.extend(read_each(placed, read, refused))
    except ValueError as error:
        refused.append(refusal(error, f"the message after span {len(spans) + len(refused)}"))
    if not spans:
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in protobuf: {why}") from None
    return DecodedSpans(spans, refused)


def _raw_spans(body: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each span with its resource and scope, undecoded. Raises ValueError where the message is malformed."""
    for resource_spans in _submessages(body, 1):
        resource = b"".join(_submessages(resource_spans, 1))
        for scope_spans in _submessages(resource_spans, 2):
            scope = b"".join(_submessages(scope_spans, 1))
            yield from ((resource, scope, span) for span in _submessages(scope_spans, 2))


def _submessages(message: bytes, field: int) -> list[bytes]:
    """Return the submessages (or texts) of one field of a message. Raises ValueError if the message is malformed."""
    values = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            size, at = _varint(message, at)
            if tag >> 3 == field:
                values.append(message[at : at + size])
            at += size
        elif wire_type in (_FIXED32, _FIXED64):
            at += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
    if at > len(message):
        raise ValueError("cut off")
    return values


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset behind it. Raises ValueError if there is none."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no varint")
