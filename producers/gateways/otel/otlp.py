"""OTLP's two encodings of traces as spans, with the few attributes that are asked for. Pure.

Of everything else (messages, prompts, tool arguments) nothing is kept; in JSON it is not even decoded into text of its
own. Events are looked at for their names and times only.

protobuf by `opentelemetry-proto`, the messages as OpenTelemetry itself generates them. JSON by msgspec: OTLP's JSON is
not protobuf's (ids are hexadecimal), and it skips what is not named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from contracts.errors import BadInput, BadSetting

MAX_SPANS = 65_536
"""Spans in one message."""
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
ERROR = 2
"""Status of a span that failed."""
Value = str | int | float | bool


class Span(NamedTuple):
    """A span: ids in hexadecimal ("" for none), times in Unix ns, `kind` 1 to 5 (0: not said), of its attributes and
    those of its resource the ones that were asked for, and the time of the first of the events that were."""

    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    failed: bool
    scope: str
    attributes: Mapping[str, Value]
    resource: Mapping[str, Value]
    event_ns: int


class SpanSelection(NamedTuple):
    """Names of attributes and of events that are looked at."""

    attributes: Collection[str]
    events: Collection[str]


def spans(body: bytes, wanted: SpanSelection, *, json: bool) -> list[Span]:
    """The spans of an ExportTraceServiceRequest. Raises BadInput where it is none, or too large."""
    found = list(_json(body, wanted) if json else _protobuf(body, wanted))
    if len(found) > MAX_SPANS:
        raise BadInput("spans", len(found), f"send at most {MAX_SPANS} spans at once")
    return found


def need_protobuf() -> None:
    """Raises BadSetting where the messages of OTLP are not installed: a node's agent has them not."""
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", "otel", f"needs {error.name}: pip install 'wattlog[ingest]'") from None


def is_json(body: bytes) -> bool:
    """Which encoding a message without a header is in: one in protobuf begins with 0x0a."""
    return body[:1] == b"{"


# -- protobuf ----------------------------------------------------------------------------------------------------------


class _Pair(Protocol):
    key: str
    value: Any


def _protobuf(body: bytes, wanted: SpanSelection) -> Iterator[Span]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except (DecodeError, RecursionError) as error:
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in protobuf: {error}") from None
    for resource_spans in request.resource_spans:
        resource = _kept(resource_spans.resource.attributes, wanted)
        for scope_spans in resource_spans.scope_spans:
            for s in scope_spans.spans:
                events = [e.time_unix_nano for e in s.events if e.name in wanted.events]
                yield Span(
                    s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex(), s.kind, s.start_time_unix_nano,
                    s.end_time_unix_nano, s.status.code == ERROR, scope_spans.scope.name, _kept(s.attributes, wanted),
                    resource, min(events, default=0),
                )  # fmt: skip


def _kept(pairs: Collection[_Pair], wanted: SpanSelection) -> dict[str, Value]:
    kept: dict[str, Value] = {}
    for pair in pairs:
        if pair.key in wanted.attributes:
            kind = pair.value.WhichOneof("value")
            if kind in ("string_value", "int_value", "double_value", "bool_value"):
                kept[pair.key] = getattr(pair.value, kind)
    return kept


# -- JSON --------------------------------------------------------------------------------------------------------------


class _Any(msgspec.Struct):
    stringValue: str | None = None  # noqa: N815, as OTLP spells it
    intValue: int | str | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815


class _KeyValue(msgspec.Struct):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"null")


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


_request = msgspec.json.Decoder(_Request).decode
_value = msgspec.json.Decoder(_Any | None).decode
_KINDS = {f"SPAN_KIND_{name}": code for code, name in enumerate(
    ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))}  # fmt: skip
_STATUSES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": ERROR}


def _json(body: bytes, wanted: SpanSelection) -> Iterator[Span]:
    try:
        request = _request(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # What msgspec says names a place and a type, never the text that stands there.
        raise BadInput("body", f"{len(body)} bytes", f"is no ExportTraceServiceRequest in JSON: {error}") from None
    for resource_spans in request.resourceSpans:
        resource = _kept_json(resource_spans.resource.attributes if resource_spans.resource else [], wanted)
        for scope_spans in resource_spans.scopeSpans:
            scope = scope_spans.scope.name if scope_spans.scope else ""
            for s in scope_spans.spans:
                events = [_int(e.timeUnixNano) for e in s.events if e.name in wanted.events]
                yield Span(
                    s.traceId.lower(), s.spanId.lower(), (s.parentSpanId or "").lower(), _code(s.kind, _KINDS),
                    _int(s.startTimeUnixNano), _int(s.endTimeUnixNano),
                    s.status is not None and _code(s.status.code, _STATUSES) == ERROR, scope,
                    _kept_json(s.attributes, wanted), resource, min(events, default=0),
                )  # fmt: skip


def _kept_json(pairs: list[_KeyValue], wanted: SpanSelection) -> dict[str, Value]:
    kept: dict[str, Value] = {}
    for pair in pairs:
        if pair.key not in wanted.attributes:
            continue
        try:
            said = _value(pair.value)
        except msgspec.DecodeError:
            continue  # A list or a map: none of what is asked for is one.
        if said is None:
            continue
        if said.intValue is not None:
            kept[pair.key] = _int(said.intValue)
        elif (value := _first(said.stringValue, said.boolValue, said.doubleValue)) is not None:
            kept[pair.key] = value
    return kept


def _first(*values: Value | None) -> Value | None:
    return next((value for value in values if value is not None), None)


def _int(value: int | str) -> int:
    """A 64-bit integer, which JSON may carry as a text; -1 for what is none: no time and no count is negative, so that
    the span that says it is refused, and no other."""
    if isinstance(value, int):
        return value
    return int(value) if len(value) <= 20 and value.isascii() and value.isdecimal() else -1


def _code(value: int | str, names: Mapping[str, int]) -> int:
    return value if isinstance(value, int) else names.get(value, 0)
