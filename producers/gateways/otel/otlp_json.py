"""Decodes OTLP's traces in JSON, with msgspec. Pure.

OTLP's JSON is not that of protobuf: ids are hexadecimal. msgspec skips whatever the structs below do not name. If it
refuses a message, the message is decoded level by level, and only the malformed spans are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from contracts.errors import BadInput
from producers.common.body_cost import bounded, check_items, check_json
from producers.common.json_text import repair
from producers.gateways.otel.spans import ERROR, AttributeValue, DecodedSpans, Nested, Span, SpanSelection, select
from producers.runtime.refusals import read_each, refusal

SPANS = "spans"


class _KeyValue(msgspec.Struct):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Map(msgspec.Struct):
    values: list[_KeyValue] = []


class _Any(msgspec.Struct):
    stringValue: str | None = None  # noqa: N815, as OTLP spells it
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    kvlistValue: _Map | None = None  # noqa: N815


class _Event(msgspec.Struct):
    name: str = ""
    timeUnixNano: int | str = 0  # noqa: N815


class _Status(msgspec.Struct):
    code: int | str = 0


class _Span(msgspec.Struct):
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    kind: int | str = 0
    startTimeUnixNano: int | str = 0  # noqa: N815
    endTimeUnixNano: int | str = 0  # noqa: N815
    attributes: list[_KeyValue] = []
    events: list[_Event] = []
    status: _Status | None = None


class _Scope(msgspec.Struct):
    name: str = ""


class _ScopeSpans(msgspec.Struct):
    scope: _Scope | None = None
    spans: list[_Span] = []


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] = []


class _ResourceSpans(msgspec.Struct):
    resource: _Resource | None = None
    scopeSpans: list[_ScopeSpans] = []  # noqa: N815


class _Request(msgspec.Struct):
    resourceSpans: list[_ResourceSpans] = []  # noqa: N815


class _RawScopeSpans(msgspec.Struct):
    scope: msgspec.Raw = msgspec.Raw(b"null")
    spans: list[msgspec.Raw] = []


class _RawResourceSpans(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw(b"null")
    scopeSpans: list[msgspec.Raw] = []  # noqa: N815


class _RawRequest(msgspec.Struct):
    resourceSpans: list[msgspec.Raw] = []  # noqa: N815


class _RawResource(msgspec.Struct):
    attributes: list[msgspec.Raw] = []


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_raw_request = msgspec.json.Decoder(_RawRequest).decode
_decode_raw_resource_spans = msgspec.json.Decoder(_RawResourceSpans).decode
_decode_raw_scope_spans = msgspec.json.Decoder(_RawScopeSpans).decode
_decode_resource = msgspec.json.Decoder(_Resource | None).decode
_decode_raw_resource = msgspec.json.Decoder(_RawResource).decode
_decode_pair = msgspec.json.Decoder(_KeyValue).decode
_decode_scope = msgspec.json.Decoder(_Scope | None).decode
_decode_span = msgspec.json.Decoder(_Span).decode
_decode_value = msgspec.json.Decoder(_Any | None).decode
_KINDS = {f"SPAN_KIND_{name}": code for code, name in enumerate(
    ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))}  # fmt: skip
_STATUSES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": ERROR}


def decode(body: bytes, selection: SpanSelection) -> DecodedSpans:
    """Decode a message. Raises BadInput if it is no ExportTraceServiceRequest, or holds too much."""
    check_json(body)
    try:
        request = _decode_request(body)
    except Exception as error:
        return _decode_span_by_span(body, selection, error)
    check_items(sum(len(scope_spans.spans) for part in request.resourceSpans for scope_spans in part.scopeSpans), SPANS)
    spans = []
    for resource_spans in request.resourceSpans:
        resource = _select(resource_spans.resource.attributes if resource_spans.resource else [], selection)
        for scope_spans in resource_spans.scopeSpans:
            scope = scope_spans.scope.name if scope_spans.scope else ""
            spans += [_span(span, scope, resource, selection) for span in scope_spans.spans]
    return DecodedSpans(spans, [])


def _decode_span_by_span(body: bytes, selection: SpanSelection, why: Exception) -> DecodedSpans:
    """Decode each span on its own. Raises BadInput, which quotes `why`, if the message itself is malformed."""
    spans, refused = list[Span](), list[str]()
    try:
        request = _decode_raw_request(repair(body))
    except Exception:
        # A message of msgspec names a place and a type, never the text there.
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in JSON: {why}") from None

    def read(item: tuple[dict[str, AttributeValue], str, msgspec.Raw]) -> Span:
        resource, scope, raw_span = item
        return _span(_decode_span(raw_span), scope, resource, selection)

    items = bounded(_raw_spans(request, selection, refused), SPANS)
    placed = ((f"span {number} of the message in JSON", item) for number, item in enumerate(items, 1))
    spans += read_each(placed, read, refused)
    if not spans:
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in JSON: {why}") from None
    return DecodedSpans(spans, refused)


def _raw_spans(
    request: _RawRequest, selection: SpanSelection, refused: list[str]
) -> Iterator[tuple[dict[str, AttributeValue], str, msgspec.Raw]]:
    """Yield each span, undecoded, with its resource's attributes and its scope. Malformed pieces are refused alone."""
    resources = ((f"resource {number} of the message", raw) for number, raw in enumerate(request.resourceSpans, 1))
    for resource_spans in read_each(resources, _decode_raw_resource_spans, refused):
        attributes = _lenient_resource(resource_spans.resource, selection, refused)
        scopes = ((f"scope {number} of a resource", raw) for number, raw in enumerate(resource_spans.scopeSpans, 1))
        for scope_spans in read_each(scopes, _decode_raw_scope_spans, refused):
            names = list(read_each([("a scope's name", scope_spans.scope)], _decode_scope, refused))
            scope = names[0].name if names and names[0] else ""
            yield from ((attributes, scope, raw_span) for raw_span in scope_spans.spans)


def _lenient_resource(raw: msgspec.Raw, selection: SpanSelection, refused: list[str]) -> dict[str, AttributeValue]:
    """Return the attributes of a resource, of a malformed one those that can be read."""
    try:
        resource = _decode_resource(raw)
        return _select(resource.attributes if resource else [], selection)
    except Exception as error:
        refused.append(refusal(error, "a resource"))
    pairs = list[_KeyValue]()
    for lenient in read_each([("a resource", raw)], _decode_raw_resource, []):
        pairs += read_each((("an attribute", pair) for pair in lenient.attributes), _decode_pair, [])
    return _select(pairs, selection)


def _span(span: _Span, scope: str, resource: dict[str, AttributeValue], selection: SpanSelection) -> Span:
    events = [_int(event.timeUnixNano) for event in span.events if event.name in selection.events]
    return Span(
        trace_id=span.traceId.lower(),
        span_id=span.spanId.lower(),
        parent_id=(span.parentSpanId or "").lower(),
        kind=_code(span.kind, _KINDS),
        start_ns=_int(span.startTimeUnixNano),
        end_ns=_int(span.endTimeUnixNano),
        failed=span.status is not None and _code(span.status.code, _STATUSES) == ERROR,
        scope=scope,
        attributes=_select(span.attributes, selection),
        resource=resource,
        event_ns=min(events, default=0),
    )


def _select(pairs: list[_KeyValue], selection: SpanSelection) -> dict[str, AttributeValue]:
    return select(((pair.key, partial(_nested, pair.value)) for pair in pairs), selection)


def _nested(raw: msgspec.Raw) -> Nested:
    """Return a value, None for a list or no value."""
    try:
        value: _Any | None = _decode_value(raw)
    except Exception:
        return None
    if value is None:
        return None
    if value.kvlistValue is not None:
        return ((pair.key, _nested(pair.value)) for pair in value.kvlistValue.values)
    number = None if value.intValue is None else _int(value.intValue)
    return _first(number, value.stringValue, value.boolValue, value.doubleValue)


def _first(*values: AttributeValue | None) -> AttributeValue | None:
    return next((value for value in values if value is not None), None)


def _int(value: int | str) -> int:
    """Return a 64-bit integer, which JSON may carry as a text, or -1 for another text.

    No time and no count is negative, so a span with -1 is refused, and no other span.
    """
    if isinstance(value, int):
        return value
    return int(value) if len(value) <= 20 and value.isascii() and value.isdecimal() else -1


def _code(value: int | str, names: Mapping[str, int]) -> int:
    return value if isinstance(value, int) else names.get(value, 0)
