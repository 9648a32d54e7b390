"""Decodes OTLP's metrics and logs, in protobuf or JSON, item by item. Pure.

Each item is decoded alone, so that one malformed item spoils no other. A log's body is read only if it is a short text,
because some senders put an event's name there; any other body, and every attribute that is not asked for, is dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import msgspec

from contracts.errors import BadInput
from producers.common.body_cost import bounded, check_export, check_json
from producers.common.json_text import decode_or_repair
from producers.common.last_result import LastResult
from producers.common.protobuf_wire import otlp_items
from producers.gateways.otel.otlp_protobuf import nested
from producers.gateways.otel.spans import SpanSelection, select
from producers.runtime.refusals import read_each, refusal

AttributeValue = str | int | float | bool
MAX_NAME = 128
"""Characters of a log's body that may be an event's name."""


class Signal(NamedTuple):
    """Names of a signal: in OTLP's JSON, and of its item's message."""

    resources: str
    scopes: str
    items: str
    module: str
    export: str
    message: str


METRICS = Signal(
    "resourceMetrics", "scopeMetrics", "metrics", "opentelemetry.proto.metrics.v1.metrics_pb2", "MetricsData", "Metric"
)
LOGS = Signal(
    "resourceLogs", "scopeLogs", "logRecords", "opentelemetry.proto.logs.v1.logs_pb2", "LogsData", "LogRecord"
)


class ResourceAttributes:
    """The attributes of a resource, which many items share: what is asked of them is computed once."""

    def __init__(self, pairs: Collection[Any]) -> None:
        self._pairs = pairs
        self._selected: dict[frozenset[str], dict[str, AttributeValue]] = {}

    def scalars(self, names: Collection[str]) -> Mapping[str, AttributeValue]:
        """Return the attributes of these names, as `scalars` does."""
        key = frozenset(names)
        if key not in self._selected:
            self._selected[key] = scalars(self._pairs, key)
        return self._selected[key]

    @cached_property
    def encoded(self) -> bytes:
        return encoded(self._pairs)


class SignalItem(NamedTuple):
    """A metric or a log record as its protobuf message, with the attributes of its resource and its scope's name."""

    resource: ResourceAttributes
    scope: str
    message: Any


def decode_items(body: bytes, signal: Signal, *, json: bool) -> tuple[list[SignalItem], list[str]]:
    """Return the items of an export request, and why others could not be read.

    Raises BadInput if it is none, or holds too much.
    """
    from importlib import import_module

    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    module = import_module(signal.module)
    message_class = getattr(module, signal.message)
    if json:
        check_json(body)
    else:
        check_export(body, getattr(module, signal.export).DESCRIPTOR)
    refused: list[str] = []
    raw_items = bounded(_json_items(body, signal) if json else otlp_items(body), signal.items)

    def parse(content: Any, kind: Any) -> Any:
        return _from_json(content or {}, kind) if json else kind.FromString(content)

    def read_resource(content: Any) -> ResourceAttributes:
        return ResourceAttributes(parse(content, Resource).attributes)

    def read_scope(content: Any) -> str:
        return str(parse(content, InstrumentationScope).name)

    resources, scopes = LastResult(read_resource), LastResult(read_scope)

    def read(item: tuple[Any, Any, Any]) -> SignalItem:
        resource, scope, content = item
        message = parse(_plain_record(content) if json else content, message_class)
        return SignalItem(resources.of(resource), scopes.of(scope), message)

    items: list[SignalItem] = []
    name = f"{signal.items} {{}} of the message"
    try:
        items.extend(read_each(((name.format(n), item) for n, item in enumerate(raw_items, 1)), read, refused))
    except ValueError as error:
        refused.append(refusal(error, f"the message after item {len(items) + len(refused)}"))
    if refused and not items:
        raise BadInput("body", f"{len(body)} bytes", f"no {signal.items} in it can be read: {refused[0]}")
    return items, refused


def scalars(pairs: Collection[Any], names: Collection[str]) -> dict[str, AttributeValue]:
    """Return the attributes of these names that are texts, numbers or booleans."""
    attributes: dict[str, AttributeValue] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value") if pair.key in names else None
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            attributes[pair.key] = getattr(pair.value, kind)
    return attributes


def flat_scalars(pairs: Collection[Any], selection: SpanSelection) -> dict[str, AttributeValue]:
    """Return the attributes that are selected, also those in maps."""
    return select(((pair.key, partial(nested, pair.value)) for pair in pairs), selection)


def encoded(pairs: Collection[Any]) -> bytes:
    """Return all attributes as bytes that are equal for equal attributes in any order."""
    return b"".join(sorted(pair.SerializeToString(deterministic=True) for pair in pairs))


def _json_items(body: bytes, signal: Signal) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each item with its resource and scope. Raises BadInput where the message has another form."""
    try:
        message = decode_or_repair(body, msgspec.json.decode)
    except Exception as error:  # A message of msgspec names a place and a type, never the text there.
        raise BadInput("body", f"{len(body)} bytes", f"is no JSON that can be read: {error}") from None
    if isinstance(message, dict) and message and signal.resources not in message:
        raise BadInput("body", f"{len(body)} bytes", f"is no OTLP: it has no {signal.resources}")
    for resource_item in _objects(message, signal.resources):
        for scope_item in _objects(resource_item, signal.scopes):
            content = scope_item.get(signal.items) or []
            for item in content if isinstance(content, list) else [content]:
                yield resource_item.get("resource"), scope_item.get("scope"), item


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    inner = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(inner, list | None):
        raise BadInput("body", f"({type(value).__name__})", f"is no OTLP: {name} is an array of objects")
    if not all(isinstance(one, dict) for one in inner or []):
        raise BadInput("body", name, "is no OTLP: it is an array of objects")
    return inner or []


def _plain_record(item: Any) -> Any:
    """Return an item as protobuf's JSON has it: ids in base64, and no body but a short text."""
    if not isinstance(item, dict):
        raise BadInput("item", f"({type(item).__name__})", "give an object")
    plain: dict[str, Any] = {name: value for name, value in item.items() if name not in ("body", "traceId", "spanId")}
    text = item["body"].get("stringValue") if isinstance(item.get("body"), Mapping) else None
    if isinstance(text, str) and len(text) <= MAX_NAME:
        plain["body"] = {"stringValue": text}
    for name in ("traceId", "spanId"):
        if isinstance(item.get(name), str):
            plain[name] = base64.b64encode(bytes.fromhex(item[name])).decode()
    return plain


def _from_json(value: Any, message_class: Callable[[], Any]) -> Any:
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(value, message_class(), ignore_unknown_fields=True)
    except json_format.ParseError:  # Its text quotes the value.
        raise BadInput("item", f"({message_class().DESCRIPTOR.name})", "a field has the wrong type") from None
