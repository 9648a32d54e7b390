"""The route `/v1/requests`: requests as plain JSON, one object, an array or NDJSON.

A wrong item is refused alone, and the answer names it. An item that arrived before, under the same id and tenant, is a
duplicate: its identity is stored in one transaction with the events (`producers.runtime.deduplication`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from contracts.checks import MAX_TEXT
from contracts.errors import BadEvent, BadInput, Unavailable
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route
from producers.common.body_cost import check_json
from producers.common.json_text import decode_or_repair, json_items
from producers.gateways.calls import batches
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import REPLACED, replacement_batches
from producers.receivers.request_items import FIELDS, PROMPT_FIELDS, ItemReader, RequestItem
from producers.receivers.request_rows import check_source, grouped, identity_of, sort_requests
from producers.runtime.batching import token_batch
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.receiver.problems import InvalidValue, Rejected, quote_value
from producers.runtime.refusals import describe

PATH = "/v1/requests"
JSON, LINES, JSONL = "application/json", "application/x-ndjson", "application/jsonl"
MAX_NAMED = 1_000
"""Refused items and duplicates that one answer names."""
_ALWAYS = ("accepted", "duplicates", "refused")
"""Counts that each answer has; the rest is there where it is not empty."""
MAX_NAMES = 50
"""Names of unknown fields that one answer gives, and that the log of a run names."""
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_ITEM: Mapping[str, Any] = {
    "type": "object", "description": "One request, without any text of its prompt or its answer.",
    "required": ["request_id", "model"],
    "properties": {
        "request_id": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "model": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "tenant": {"type": "string", "maxLength": MAX_TEXT},
        "prompt_tokens": {"type": "integer", "minimum": 0}, "completion_tokens": {"type": "integer", "minimum": 0},
    },
}  # fmt: skip
_SCHEMA: Mapping[str, Any] = {"oneOf": [_ITEM, {"type": "array", "minItems": 1, "items": _ITEM}]}


def requests_route(reader: ItemReader, deployments: Deployments, *, max_items: int, ahead_ms: int) -> Route:
    """Return the route. `ahead_ms` is how far in the future a request may end."""
    parse = partial(_parse, reader, deployments, _FieldNames(), max_items, ahead_ms)
    return Route(PATH, "requests", {JSON: _SCHEMA, LINES: {}, JSONL: {}}, parse, _reply)


class _FieldNames:
    """Names of fields that were reported in the log, so that each is reported once."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def new(self, names: Iterable[str]) -> list[str]:
        new = [name for name in names if name not in self._reported][: MAX_NAMES - len(self._reported)]
        self._reported.update(new)
        return new


def _parse(
    reader: ItemReader, deployments: Deployments, names: _FieldNames, max_items: int, ahead_ms: int,
    sent: ReceivedRequest, trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    check_json(sent.body)
    bodies = list(json_items(sent.body, lines=sent.content_type != JSON))
    if not bodies:
        raise BadInput("body", f"{len(sent.body)} bytes", "give one request or more")
    if len(bodies) > max_items:
        raise Rejected(413, "too-many-items", f"{len(bodies):,} requests: send at most {max_items:,} at once.")
    errors: list[InvalidValue] = []
    items: list[tuple[int, RequestItem]] = []
    unknown, prompts = dict[str, None](), dict[str, None]()
    for index, body in enumerate(bodies):
        try:
            decoded = _decode(body)
            if isinstance(decoded, dict):
                prompts.update(dict.fromkeys(decoded.keys() & PROMPT_FIELDS))
                unknown.update(dict.fromkeys(map(_plain, decoded.keys() - FIELDS - PROMPT_FIELDS)))
            item = reader.read(decoded, sent, sent.now_ms + ahead_ms)
            check_source(item, deployments)
            items.append((index, item))
        except Unavailable:
            raise
        except Exception as error:
            errors.append(_invalid(error, index))
    items = list(_valid(items, errors))
    allowed = deployments.within(sent.may_use)
    new, replaced, repeated, late = sort_requests(
        items, trial, allowed, lambda _, row: identity_of(row), oldest_ms=sent.bounds.oldest_ms
    )
    errors += [_invalid(error, index) for index, error in late]
    if len(errors) == len(bodies):
        raise Rejected.invalid(errors)
    answer = {
        "accepted": len(new), "duplicates": len(repeated), "refused": len(errors), "replaced_estimates": len(replaced),
        "duplicate_items": [{"index": n, "request_id": item.row.request_id} for n, item in repeated[:MAX_NAMED]],
        "errors": [error.as_json() for error in errors[:MAX_NAMED]],
        "unknown_fields": sorted(unknown)[:MAX_NAMES], "dropped_texts": sorted(prompts),
    }  # fmt: skip
    notes = [f"a field {name!r} is none that is read; /openapi.json and the page have the names"
             for name in names.new(unknown)]  # fmt: skip
    notes += [f"the field {name!r} holds a prompt or an answer: it is dropped; send counts only"
              for name in names.new(prompts)]  # fmt: skip
    workload_batches = [*batches(grouped(new, allowed), ""), *replacement_batches(replaced, "")]
    notes += deployments.new_notes()
    skipped = {REPEATED: len(repeated)} if repeated else {}
    corrected = {REPLACED: len(replaced)} if replaced else {}
    refused = [str(error) for error in errors]
    return ParsedRequest(workload_batches, refused, skipped, notes, answer, corrected=corrected)


def _reply(sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
    """Return the counts, and what was refused, known before or not read."""
    return Reply(
        202,
        msgspec.json.encode({name: value for name, value in parsed.answer.items() if value or name in _ALWAYS}),
        JSON,
    )


def _decode(body: bytes) -> Any:
    try:
        return decode_or_repair(body, msgspec.json.decode)
    except Exception as error:  # A message of msgspec names a place, never the text there.
        raise BadInput("item", f"{len(body)} bytes", f"is no JSON that can be read: {describe(error)}") from None


def _plain(name: str) -> str:
    """Return a field's name, unless it may be something else than a name."""
    return name if _NAME.fullmatch(name) else f"(a name of {len(name)} characters)"


def _valid(items: Sequence[tuple[int, RequestItem]], errors: list[InvalidValue]) -> Iterator[tuple[int, RequestItem]]:
    """Yield the items that satisfy the event contract, which is checked of all at once where it can be."""
    try:
        token_batch([item.row for _, item in items], 0).check()
        yield from items
        return
    except BadEvent:
        pass
    for index, item in items:
        try:
            token_batch([item.row], 0).check()
        except BadEvent as error:
            errors.append(_invalid(BadInput(error.field, "(see the fix)", error.fix), index))
            continue
        yield index, item


def _invalid(error: Exception, index: int) -> InvalidValue:
    """Return what an error says of an item. Its pointer is that of an array, also for lines and a single object."""
    if not isinstance(error, BadInput):
        return InvalidValue(index, "item", type(error).__name__, "it cannot be read", f"/{index}")
    field = error.field.partition(" (")[0].partition("[")[0]
    pointer = f"/{index}" if field == "item" else f"/{index}/{field}"
    return InvalidValue(index, error.field, quote_value(error.value), error.fix, pointer)
