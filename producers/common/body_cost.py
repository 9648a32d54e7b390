"""Bounds on what a body would cost to parse, checked on its bytes before a parser makes objects of them. Pure.

A body of some hundred bytes, unpacked to some hundred thousand, may hold a hundred thousand empty items. Each costs a
parser as much as an honest one. So items and values are counted first, at a small part of the cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from contracts.errors import BadInput
from producers.common.json_text import count_elements
from producers.common.protobuf_wire import count_messages, most_messages

MAX_VALUES = 1_000_000
"""Values of a JSON body, or messages of one in protobuf. 16 MiB of spans with 20 attributes each have half of it."""
MAX_ITEMS = 16_384
"""Spans, metrics, log records or payloads of one body. An OpenTelemetry Collector sends 8,192 unless told otherwise."""
_ITEMS_OF_EXPORT: Mapping[int, Any] = {1: {2: {2: {}}}}
"""Fields that hold the resources, scopes and items of an OTLP export."""

Item = TypeVar("Item")


def check_json(body: bytes) -> None:
    """Raise BadInput for a JSON body, or lines of JSON, with too many values."""
    if count_elements(body, MAX_VALUES) > MAX_VALUES:
        raise _too_much(body, MAX_VALUES, "values")


def check_export(body: bytes, descriptor: Any) -> None:
    """Raise BadInput for an OTLP export in protobuf with too many items, or too many messages in them.

    `descriptor` is the request's.
    """
    if count_messages(body, _ITEMS_OF_EXPORT, 3 * MAX_ITEMS) > 3 * MAX_ITEMS:
        raise _too_much(body, MAX_ITEMS, "items")
    if most_messages(body, descriptor) > MAX_VALUES and count_messages(body, descriptor, MAX_VALUES) > MAX_VALUES:
        raise _too_much(body, MAX_VALUES, "values")


def check_items(count: int, name: str) -> None:
    """Raise BadInput for a body with too many items, which are called `name`."""
    if count > MAX_ITEMS:
        raise BadInput("body", count, f"send at most {MAX_ITEMS} {name} at once")


def bounded(items: Iterable[Item], name: str) -> Iterator[Item]:
    """Yield the items of a body, which are called `name`. Raises BadInput where there are too many."""
    for count, item in enumerate(items, 1):
        check_items(count, name)
        yield item


def _too_much(body: bytes, limit: int, name: str) -> BadInput:
    return BadInput("body", f"{len(body)} bytes", f"holds more than {limit:,} {name}: send several bodies")
