"""Spans of OpenTelemetry, with the few attributes that are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
ERROR = 2
"""Status of a span that failed."""
AttributeValue = str | int | float | bool
Nested = AttributeValue | Iterable[tuple[str, "Nested"]] | None
"""A value of an attribute: a scalar, the pairs of a map, or None for a list or nothing."""
MAX_MAP_VALUES, MAX_MAP_DEPTH = 256, 4
"""Values of a map that are read, and maps within maps."""
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


EMPTY_SPAN = Span("", "", "", 0, 0, 0, failed=False, scope="", attributes={}, resource={}, event_ns=0)
"""Stands for each span without an id, attributes and events: nothing is said of it, and nothing is inside it."""


class SpanSelection(NamedTuple):
    """Names of the attributes and events to decode. `may_be_a_count` selects further attributes by their names.

    A map of `maps` (`gen_ai.usage`) is read as the attributes of its names (`gen_ai.usage.input_tokens`), one of
    `objects` as a text in JSON.
    """

    attributes: Collection[str]
    events: Collection[str]
    may_be_a_count: Callable[[str], bool] = bool
    maps: Set[str] = frozenset()
    objects: Set[str] = frozenset()

    def has(self, name: str) -> bool:
        """Return whether an attribute of this name may be needed."""
        return name in self.attributes or name in self.maps or self.may_be_a_count(name)

    def keeps(self, name: str, value: AttributeValue) -> bool:
        """Return whether an attribute is kept: of those selected by their names only, numbers."""
        return name in self.attributes or (isinstance(value, int | float) or len(value) <= MAX_NUMBER_CHARS)


def select(pairs: Iterable[tuple[str, Callable[[], Nested]]], selection: SpanSelection) -> dict[str, AttributeValue]:
    """Return the selected attributes. An attribute of its own goes before the same name in a map."""
    attributes, in_maps = dict[str, AttributeValue](), dict[str, AttributeValue]()
    for name, value_of in pairs:
        if not selection.has(name):
            continue
        value = value_of()
        if value is None or isinstance(value, str | int | float):
            if value is not None and selection.keeps(name, value):
                attributes[name] = value
        elif name in selection.objects | selection.maps:
            in_maps |= _in_map(name, value, selection)
    return in_maps | attributes


def _in_map(name: str, pairs: Iterable[tuple[str, Nested]], selection: SpanSelection) -> dict[str, AttributeValue]:
    """Return the selected attributes in a map."""
    attributes, objects = dict[str, AttributeValue](), dict[str, dict[str, AttributeValue]]()
    for path, value in _flat(name, pairs):
        owner = next((one for one in _prefixes(path) if one in selection.objects and one not in selection.maps), "")
        if owner:
            objects.setdefault(owner, {})[path[len(owner) + 1 :]] = value
        elif selection.has(path) and selection.keeps(path, value):
            attributes[path] = value
    texts = {owner: msgspec.json.encode(values).decode() for owner, values in objects.items()}
    return attributes | texts


def _flat(name: str, pairs: Iterable[tuple[str, Nested]]) -> Iterator[tuple[str, AttributeValue]]:
    """Yield the scalars of a map with their paths."""
    left = MAX_MAP_VALUES
    stack = [(name, iter(pairs))]
    while stack:
        name, values = stack[-1]
        pair = next(values, None)
        left -= 1
        if left < 0 or pair is None:
            stack.pop()
            continue
        key, value = pair
        if isinstance(value, str | int | float):
            yield f"{name}.{key}", value
        elif value is not None and len(stack) < MAX_MAP_DEPTH:
            stack.append((f"{name}.{key}", iter(value)))


def _prefixes(name: str) -> Iterator[str]:
    """Yield the names of the maps around an attribute."""
    return (name[:place] for place, char in enumerate(name) if char == ".")


def map_names(names: Iterable[str]) -> frozenset[str]:
    """Return the names of the maps that may hold attributes of these names: what precedes each of their dots."""
    return frozenset(prefix for name in names for prefix in _prefixes(name))


class DecodedSpans(NamedTuple):
    """The spans of one message, and the errors of those that could not be decoded."""

    spans: Sequence[Span]
    refused: list[str]
