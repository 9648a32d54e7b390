"""Decodes OTLP's traces in protobuf, with the messages that OpenTelemetry generates (`opentelemetry-proto`). Pure.

The protobuf library refuses a whole message for one text that is not UTF-8, or one attribute that is nested too deeply.
Then the message is taken apart by hand, down to the spans. A span that is malformed is read without the attributes,
events and links that are not needed, and refused if that does not help.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Protocol

from contracts.errors import BadInput
from producers.common.body_cost import bounded, check_export
from producers.common.last_result import LastResult
from producers.common.protobuf_wire import otlp_items, submessages, without
from producers.gateways.otel.spans import (
    EMPTY_SPAN,
    ERROR,
    AttributeValue,
    DecodedSpans,
    Nested,
    Span,
    SpanSelection,
    select,
)
from producers.runtime.refusals import read_each, refusal

_RESOURCE_ATTRIBUTES, _NAME, _SPAN_ATTRIBUTES, _EVENTS, _LINKS = 1, 5, 9, 11, 13
"""Fields of a resource and of a span."""
SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})


class _Pair(Protocol):
    key: str
    value: Any


def decode(body: bytes, selection: SpanSelection) -> DecodedSpans:
    """Decode a message. Raises BadInput if it is no ExportTraceServiceRequest, or holds too much."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    check_export(body, ExportTraceServiceRequest.DESCRIPTOR)
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
                if span.span_id or span.attributes or span.events:
                    yield _span(span, scope_spans.scope.name, resource, selection)
                else:
                    yield EMPTY_SPAN


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
    return select(((pair.key, partial(nested, pair.value)) for pair in pairs), selection)


def nested(value: Any) -> Nested:
    """Return the value of an AnyValue."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return ((pair.key, nested(pair.value)) for pair in value.kvlist_value.values)
    result: Nested = getattr(value, kind) if kind in SCALARS else None
    return result


def _decode_span_by_span(body: bytes, selection: SpanSelection, why: Exception) -> DecodedSpans:
    """Decode each span on its own. Raises BadInput, which quotes `why`, if the message itself is malformed."""
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

    spans, refused = list[Span](), list[str]()

    def read_resource(content: bytes) -> dict[str, AttributeValue]:
        return _select(_parse(Resource, content, _RESOURCE_ATTRIBUTES, selection).attributes, selection)

    resources, scopes = LastResult(read_resource), LastResult(InstrumentationScope.FromString)

    def read(item: tuple[bytes, bytes, bytes]) -> Span:
        resource_bytes, scope_bytes, span_bytes = item
        resource, scope = resources.of(resource_bytes), scopes.of(scope_bytes).name
        return _span(_parse(SpanMessage, span_bytes, _SPAN_ATTRIBUTES, selection), scope, resource, selection)

    items = enumerate(bounded(otlp_items(body, refused), "spans"), 1)
    placed = ((f"span {number} of the message in protobuf", item) for number, item in items)
    try:
        spans.extend(read_each(placed, read, refused))
    except ValueError as error:
        refused.append(refusal(error, f"the message after span {len(spans) + len(refused)}"))
    if not spans:
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in protobuf: {why}") from None
    return DecodedSpans(spans, refused)


def _parse(kind: Any, message: bytes, attributes: int, selection: SpanSelection) -> Any:
    """Parse a message whose attributes are in this field; a malformed one without what is not needed of it."""
    try:
        return kind.FromString(message)
    except Exception:
        return kind.FromString(without(message, partial(_is_unneeded, attributes, selection)))


def _is_unneeded(attributes: int, selection: SpanSelection, field: int, content: bytes) -> bool:
    """Return whether a field of a span or resource is an attribute, event, link or name that is not read."""
    is_needed: Callable[[str], bool]
    if field == attributes:
        key, is_needed = 1, selection.has
    elif field == _EVENTS and attributes == _SPAN_ATTRIBUTES:
        key, is_needed = 2, selection.events.__contains__
    else:
        return attributes == _SPAN_ATTRIBUTES and field in (_NAME, _LINKS)
    try:
        return not is_needed(b"".join(submessages(content, key)).decode())
    except ValueError:  # It may be one of these: the span is refused.
        return False
