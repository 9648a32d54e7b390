"""CloudEvents over HTTP, as OpenMeter's clients send them: `POST /api/v1/events`. Pure.

Structured (`application/cloudevents+json`), batched (`application/cloudevents-batch+json`), plain JSON (one event
or an array), and binary mode (`ce-` headers and a JSON body).

A wrong event is refused alone: the answer names it, and the others count. So an event counts on all of its meters or on
none. A sender that sends the whole body again counts nothing twice: usage is recognised by its source and id, a request
by its identity (`producers.runtime.deduplication`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from contracts.callers import Scope
from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied, BadInput, Unavailable
from contracts.workload_names import without_gpus
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route, WorkloadBatch
from producers.common.chunks import chunks
from producers.gateways.calls import batches
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import REPLACED, replacement_batches
from producers.receivers.cloudevents.event_bodies import JSON, MANY, ONE, raw_events, read_event
from producers.receivers.cloudevents.meter_rules import CloudEvent, MeteredRow, MeterRules
from producers.receivers.cloudevents.request_rules import RequestRules
from producers.receivers.request_items import RequestItem
from producers.receivers.request_rows import check_source, grouped, identity_of, sort_requests
from producers.runtime.batching import RequestRow, UsageRow, text_bytes, usage_batch
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.receiver.problems import InvalidValue, Rejected
from producers.runtime.refusals import FORBIDDEN, INVALID, ItemRefusal

PATH = "/api/v1/events"
"""The path of OpenMeter's API."""
MAX_ROW_BYTES_A_MESSAGE = 400_000
"""Bytes of text in the rows of one message, so that it fits into one of Kafka's. A row has 75,000 at most."""
MAX_ROWS_A_MESSAGE = 5_000
MAX_NAMED = 1_000
"""Refused events that one answer names."""
_ROW_BYTES = 64

_EVENT: Mapping[str, Any] = {
    "type": "object",
    "required": ["id", "source", "type"],
    "properties": {
        "specversion": {"type": "string", "enum": ["1.0"]},
        "id": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "source": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "type": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "maxLength": MAX_TEXT},
        "tenant": {"type": "string", "maxLength": MAX_TEXT},
        "data": {"type": "object"},
    },
}
_EVENTS: Mapping[str, Any] = {"type": "array", "minItems": 1, "items": _EVENT}


class RequestEvents(NamedTuple):
    """Rules for events that are requests of a model, and those that name their workloads."""

    rules: RequestRules
    deployments: Deployments


def cloudevents_route(
    meters: MeterRules, requests: RequestEvents | None = None, *, cluster: str, max_events: int, ahead_ms: int,
    accepted_status: int = 202,
) -> Route:  # fmt: skip
    """Return the route. `max_events` bounds a request. `ahead_ms` is how far in the future a time may be.

    It is less than the skew that stream workers accept, because the clock of this machine may be wrong too.
    """

    parse = partial(_parse, meters, requests, cluster, max_events, ahead_ms)

    def reply(sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
        if parsed.answer:  # It has a body, which 204 cannot have.
            return Reply(202, msgspec.json.encode(parsed.answer), JSON)
        return Reply(accepted_status)

    bodies = {ONE: _EVENT, MANY: _EVENTS, JSON: {"oneOf": [_EVENT, _EVENTS]}}
    return Route(PATH, "cloudevents", bodies, parse, reply)


def _parse(
    meters: MeterRules, requests: RequestEvents | None, cluster: str, max_events: int, ahead_ms: int,
    sent: ReceivedRequest, trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    bodies = raw_events(sent)
    if len(bodies) > max_events:
        raise Rejected(413, "too-many-events", f"{len(bodies):,} events: send at most {max_events:,} a request.")
    metered: dict[int, list[MeteredRow]] = {}
    called: list[tuple[_Place, RequestItem]] = []
    errors: dict[int, Exception] = {}
    for n, body in enumerate(bodies):
        try:
            event = read_event(body, sent, ahead_ms)
            item = _request(event, requests, sent, sent.now_ms + ahead_ms)
            rows = list(meters.rows(event, sent.caller)) if item is None or meters.has(event.type) else []
            if rows:
                sent.caller.require(Scope.SEND_USAGE)
        except Unavailable:
            raise
        except Exception as error:
            errors[n] = error
            continue
        metered[n] = rows
        if item is not None:
            called.append((_Place(n, event), item))
    tokens, skipped, corrected, notes = list[WorkloadBatch](), dict[str, int](), dict[str, int](), list[str]()
    if requests is not None:
        deployments = requests.deployments.within(sent.may_use)
        new, replaced, repeated, refused = sort_requests(
            called, trial, deployments, _identity, oldest_ms=sent.bounds.oldest_ms
        )
        for place, fault in refused:
            errors[place.position] = fault
            del metered[place.position]
        skipped = {REPEATED: len(repeated)} if repeated else {}
        corrected = {REPLACED: len(replaced)} if replaced else {}
        tokens = [*batches(grouped(new, deployments), ""), *replacement_batches(replaced, "")]
        notes = requests.deployments.new_notes()
    _check_any(errors, len(bodies))
    kept = [row for rows in metered.values() for row in rows]
    usage = [WorkloadBatch(cluster, workload, usage_batch(rows, 0)) for workload, rows in _by_workload(kept)]
    texts, answer = _refusals(errors, len(bodies))
    return ParsedRequest([*usage, *tokens], texts, skipped, notes, answer, corrected=corrected)


class _Place(NamedTuple):
    """An event and its position in the body."""

    position: int
    event: CloudEvent


def _request(
    event: CloudEvent, requests: RequestEvents | None, sent: ReceivedRequest, latest_ms: int
) -> RequestItem | None:
    """Return the request that an event is, or None. Raises BadInput, AccessDenied where its sender may send none."""
    if requests is None or not requests.rules.has(event.type):
        return None
    item = requests.rules.read(event, sent, latest_ms)
    _, workload = check_source(item, requests.deployments.within(sent.may_use))
    if not without_gpus(workload):
        sent.caller.require(Scope.SEND_REQUESTS)
    return item


def _check_any(errors: Mapping[int, Exception], count: int) -> None:
    """Raise for a body of which no event can be taken: AccessDenied where that is why, else Rejected (422)."""
    if len(errors) < count:
        return
    for error in errors.values():
        if isinstance(error, AccessDenied):
            raise error
    fault = next((error for error in errors.values() if not isinstance(error, BadInput)), None)
    raise Rejected.invalid([_invalid(error, n) for n, error in sorted(errors.items())]) from fault


def _refusals(errors: Mapping[int, Exception], count: int) -> tuple[list[ItemRefusal], Mapping[str, Any]]:
    """Return sentences for the log, without any value of an event, and the answer to the sender; {} for no errors."""
    faults = [(_invalid(error, n), error) for n, error in sorted(errors.items())]
    texts = [ItemRefusal(f"{one.path}: {one.fix}", _reason(error)) for one, error in faults]
    named = [one.as_json() for one, _ in faults[:MAX_NAMED]]
    return texts, {"accepted": count - len(errors), "refused": len(errors), "errors": named} if errors else {}


def _reason(error: Exception) -> str:
    if isinstance(error, AccessDenied):
        return FORBIDDEN
    return INVALID if isinstance(error, BadInput) else type(error).__name__


def _invalid(error: Exception, index: int) -> InvalidValue:
    if isinstance(error, AccessDenied):
        return InvalidValue(index, "event", f"({error.status})", error.detail)
    return InvalidValue.from_error(error, index)


def _identity(place: _Place, row: RequestRow) -> str:
    """Return the identity of the request of an event. An id is a source's and a tenant's own."""
    source = place.event.source
    return f"event {len(source)} {source} {identity_of(row)}"


def _by_workload(metered: Sequence[MeteredRow]) -> Iterator[tuple[str, list[UsageRow]]]:
    """Yield the rows by workload, in their order, in parts that fit into a message each."""
    groups: dict[str, list[UsageRow]] = {}
    for workload, row in metered:
        groups.setdefault(workload, []).append(row)
    for workload, rows in groups.items():
        parts = chunks(rows, _row_bytes, max_rows=MAX_ROWS_A_MESSAGE, max_bytes=MAX_ROW_BYTES_A_MESSAGE)
        yield from ((workload, part) for part in parts)


def _row_bytes(row: UsageRow) -> int:
    texts = [value for value in row if isinstance(value, str)]
    texts += [text for pair in row.dimensions.items() for text in pair]
    return sum(text_bytes(text) + 4 for text in texts) + _ROW_BYTES
