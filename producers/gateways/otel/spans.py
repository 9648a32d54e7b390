"""Spans of OpenTelemetry, with the few attributes that are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
ERROR = 2
"""Status of a span that failed."""
AttributeValue = str | int | float | bool
MAX_NUMBER_CHARS = 24
"""Characters of a number that is a text."""


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
    """Names of the attributes and events to decode. `may_be_a_count` selects further attributes by their names."""

    attributes: Collection[str]
    events: Collection[str]
    may_be_a_count: Callable[[str], bool] = bool

    def has(self, name: str) -> bool:
        """Return whether an attribute of this name may be needed."""
        return name in self.attributes or self.may_be_a_count(name)

    def keeps(self, name: str, value: AttributeValue) -> bool:
        """Return whether an attribute is kept: of those selected by their names only, numbers."""
        return name in self.attributes or (isinstance(value, int | float) or len(value) <= MAX_NUMBER_CHARS)


class DecodedSpans(NamedTuple):
    """The spans of one message, and the errors of those that could not be decoded."""

    spans: Sequence[Span]
    refused: list[str]
