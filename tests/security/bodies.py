"""Bodies that are small to send and were costly to parse, by name: route, content type, body and why it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PROTOBUF, JSON, LINES = "application/x-protobuf", "application/json", "application/x-ndjson"
TRACES, METRICS, LOGS = "/v1/traces", "/v1/metrics", "/v1/logs"
LITELLM, REQUESTS, EVENTS = "/litellm", "/v1/requests", "/api/v1/events"
MANY = 100_000
"""Items of a body: far beyond what one may hold."""


class CostlyBody(NamedTuple):
    """A body, where it is sent, and a word of the refusal; "" for one that is read, cheaply."""

    route: str
    content_type: str
    body: bytes
    refusal: str


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """Return a field of protobuf that holds a message or a text."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def export(items: bytes) -> bytes:
    """Return an OTLP export of one resource and one scope with these items."""
    return field(1, field(2, items))


def otlp_json(resources: str, scopes: str, items: str, one: str, count: int = MANY) -> bytes:
    """Return an OTLP export in JSON with an item many times."""
    return f'{{"{resources}":[{{"{scopes}":[{{"{items}":[{",".join([one] * count)}]}}]}}]}}'.encode()


def array(one: bytes, count: int = MANY) -> bytes:
    """Return a JSON array of a value many times."""
    return b"[" + b",".join([one] * count) + b"]"


_EMPTY_ITEM = field(2, b"")
_ATTRIBUTE = field(1, b"k") + field(2, field(1, b"v"))
_POINTS = field(1, b"claude_code.token.usage") + field(7, field(1, b"") * MANY + b"\x10\x01\x18\x01")
_DEEP_VALUE = b""
for _ in range(2_000):
    _DEEP_VALUE = field(5, field(1, _DEEP_VALUE))

COSTLY: Mapping[str, CostlyBody] = {
    "empty spans": CostlyBody(TRACES, PROTOBUF, export(_EMPTY_ITEM * MANY), "items"),
    "empty resources": CostlyBody(TRACES, PROTOBUF, field(1, b"") * MANY, "items"),
    "empty scopes": CostlyBody(TRACES, PROTOBUF, field(1, field(2, b"") * MANY), "items"),
    "empty spans behind a malformed one": CostlyBody(
        TRACES, PROTOBUF, export(field(2, b"\xff") + _EMPTY_ITEM * MANY), "items"
    ),
    "empty spans behind a group": CostlyBody(TRACES, PROTOBUF, b"\x0b\x0c" + export(_EMPTY_ITEM * MANY), "items"),
    "empty metrics": CostlyBody(METRICS, PROTOBUF, export(_EMPTY_ITEM * MANY), "items"),
    "empty points": CostlyBody(METRICS, PROTOBUF, export(field(2, _POINTS)), "data points"),
    "empty records": CostlyBody(LOGS, PROTOBUF, export(_EMPTY_ITEM * MANY), "items"),
    "empty attributes": CostlyBody(TRACES, PROTOBUF, export(field(2, field(9, b"") * 1_100_000)), "values"),
    "empty events": CostlyBody(TRACES, PROTOBUF, export(field(2, field(11, b"") * 1_100_000)), "values"),
    "empty values in a value": CostlyBody(
        LOGS, PROTOBUF, export(field(2, field(6, field(2, field(5, field(1, b"") * 1_100_000))))), "values"
    ),
    "a value nested deeply": CostlyBody(TRACES, PROTOBUF, export(field(2, field(9, field(2, _DEEP_VALUE)))), ""),
    "one resource of many attributes": CostlyBody(
        LOGS, PROTOBUF, field(1, field(1, field(1, _ATTRIBUTE) * 3_000) + field(2, _EMPTY_ITEM * 10_000)), ""
    ),
    "one malformed resource of many records": CostlyBody(
        LOGS, PROTOBUF, field(1, field(1, field(1, b"\x0a\x01\xff")) + field(2, _EMPTY_ITEM * 10_000)), "cannot be read"
    ),
    "empty spans in JSON": CostlyBody(
        TRACES, JSON, otlp_json("resourceSpans", "scopeSpans", "spans", "{}"), "spans at once"
    ),
    "numbers as spans": CostlyBody(
        TRACES, JSON, otlp_json("resourceSpans", "scopeSpans", "spans", "1"), "spans at once"
    ),
    "empty metrics in JSON": CostlyBody(
        METRICS, JSON, otlp_json("resourceMetrics", "scopeMetrics", "metrics", "{}"), "metrics at once"
    ),
    "empty records in JSON": CostlyBody(
        LOGS, JSON, otlp_json("resourceLogs", "scopeLogs", "logRecords", "{}"), "logRecords at once"
    ),
    "empty payloads": CostlyBody(LITELLM, JSON, array(b"{}"), "payloads at once"),
    "lines of empty payloads": CostlyBody(LITELLM, LINES, b"{}\n" * MANY, "payloads at once"),
    "empty values": CostlyBody(LITELLM, JSON, array(b"[]", 1_100_000), "values"),
    "lines without end": CostlyBody(REQUESTS, LINES, b"0\n" * 1_100_000, "values"),
    "empty requests": CostlyBody(REQUESTS, JSON, array(b"{}"), "at once"),
    "fields without end": CostlyBody(
        REQUESTS, JSON, b"{" + b",".join(b'"%d":0' % n for n in range(1_100_000)) + b"}", "values"
    ),
    "empty events of CloudEvents": CostlyBody(EVENTS, JSON, array(b"{}", 1_100_000), "values"),
    "brackets without end": CostlyBody(EVENTS, JSON, b"[" * 1_100_000, "values"),
    "brackets that close": CostlyBody(LITELLM, JSON, b"[" * MANY + b"]" * MANY, "object"),
    "escapes without end": CostlyBody(LITELLM, JSON, b'["' + b"\\" * 2_000_001, "no JSON"),
    "escaped quotes and commas": CostlyBody(LITELLM, JSON, b'["' + b'\\",' * 1_100_000 + b'"]', "payload"),
    "surrogates without end": CostlyBody(LITELLM, JSON, b'["' + b"\\ud800" * MANY + b'"]', "payload"),
    "a number of many digits": CostlyBody(EVENTS, JSON, b'{"data":{"a":' + b"9" * 1_000_000 + b"}}", "no JSON"),
    "a fraction of many digits": CostlyBody(EVENTS, JSON, b'{"data":{"a":0.' + b"9" * 1_000_000 + b"}}", ""),
    "a great exponent": CostlyBody(
        EVENTS, JSON, b'{"id":"1","source":"s","type":"sum","data":{"value":1e999999999}}', "value"
    ),
    "a great exponent in a text": CostlyBody(
        EVENTS, JSON, b'{"id":"1","source":"s","type":"sum","data":{"value":"1e999999999"}}', "value"
    ),
    "a time of many digits": CostlyBody(
        LITELLM, JSON, b'{"id":"1","model":"m","endTime":"' + b"9" * 1_000_000 + b'"}', "endTime"
    ),
    "counts of great exponents": CostlyBody(
        REQUESTS, JSON,
        b'{"id":"1","model":"m","tenant":"t","start":1793491250,"duration_ms":"1E+100000000","prompt_tokens":"1e9999999"}',
        "duration_ms",
    ),
}  # fmt: skip
