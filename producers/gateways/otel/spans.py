"""Spans of OpenTelemetry, with the few attributes that are needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
ERROR = 2
"""Status of a span that failed."""
AttributeValue = str | int | float | bool


class Span(NamedTuple):
    """A span. Ids are hexadecimal ("" for none), times are Unix ns, `kind` is 1 to 5 (0 for none).

    `attributes` and `resource` hold the attributes that were selected, `event_ns` is the time of the first selected
    event (0 for none).
    """

    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    failed: bool
    scope: str
    attributes: Mapping[str, AttributeValue]
    resource: Mapping[str, AttributeValue]
    event_ns: int


class SpanSelection(NamedTuple):
    """Names of the attributes and events to decode."""

    attributes: Collection[str]
    events: Collection[str]


class DecodedSpans(NamedTuple):
    """The spans of one message, and the errors of those that could not be decoded."""

    spans: Sequence[Span]
    refused: list[str]
