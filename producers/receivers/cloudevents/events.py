"""CloudEvents over HTTP, as OpenMeter's clients send them: `POST /api/v1/events`. Pure.

Structured (`application/cloudevents+json`), batched (`application/cloudevents-batch+json`), plain JSON (one event
or an array), and binary mode (`ce-` headers and a JSON body). One wrong event refuses the whole request.

Read by hand, not with the `cloudevents` library: it creates objects first and reports at most the class of an
error. Here every error names the place, the value and what would be right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from contracts.callers import Scope
from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied, BadInput, Unavailable
from contracts.events import MAX_TIME_MS
from contracts.units import epoch_ms
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route, WorkloadBatch
from producers.common.body_cost import check_json
from producers.common.chunks import chunks
from producers.gateways.calls import TOO_OLD, batches
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import REPLACED, replacement_batches
from producers.receivers.cloudevents.meter_rules import CloudEvent, MeteredRow, MeterRules
from producers.receivers.cloudevents.request_rules import RequestRules
from producers.receivers.request_items import RequestItem
from producers.receivers.request_rows import check_source, grouped, identity_of, sort_requests
from producers.runtime.batching import RequestRow, UsageRow, text_bytes, usage_batch
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.receiver.problems import InvalidValue, Rejected
from producers.runtime.refusals import describe

PATH = "/api/v1/events"
"""The path of OpenMeter's API."""
ONE, MANY, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
MAX_ROW_BYTES_A_MESSAGE = 400_000
"""Bytes of text in the rows of one message, so that it fits into one of Kafka's. A row has 75,000 at most."""
MAX_ROWS_A_MESSAGE = 5_000
_ROW_BYTES = 64
_read_json = msgspec.json.Decoder(float_hook=Decimal).decode

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

    def parse(sent: ReceivedRequest, trial: DeduplicationTrial) -> ParsedRequest:
        raw_events = list(_raw_events(sent))
        if len(raw_events) > max_events:
            raise Rejected(
                413, "too-many-events", f"{len(raw_events):,} events: send at most {max_events:,} a request."
            )
        metered: list[MeteredRow] = []
        called: list[tuple[CloudEvent, RequestItem]] = []
        errors: list[InvalidValue] = []
        fault: Exception | None = None
        for n, raw_event in enumerate(raw_events):
            try:
                event = _event(raw_event, sent, ahead_ms)
                is_request = requests is not None and requests.rules.has(event.type)
                if requests is not None and is_request:
                    item = requests.rules.read(event, sent, sent.now_ms + ahead_ms)
                    check_source(item, requests.deployments)
                    called.append((event, item))
                if not is_request or meters.has(event.type):
                    metered += meters.rows(event, sent.caller)
            except (AccessDenied, Unavailable):
                raise
            except Exception as error:
                errors.append(InvalidValue.from_error(error, n))
                fault = fault if isinstance(error, BadInput) else error
        if errors:
            raise Rejected.invalid(errors) from fault
        if metered:
            sent.caller.require(Scope.SEND_USAGE)
        usage = [WorkloadBatch(cluster, workload, usage_batch(rows, 0)) for workload, rows in _by_workload(metered)]
        if requests is None or not called:
            return ParsedRequest(usage)
        deployments = requests.deployments.within(sent.may_use)
        new, replaced, repeated = sort_requests(called, trial, deployments, _identity)
        skipped = {REPEATED: len(repeated)} if repeated else {}
        corrected = {REPLACED: len(replaced)} if replaced else {}
        tokens = [*batches(grouped(new, deployments), ""), *replacement_batches(replaced, "")]
        notes = requests.deployments.new_notes()
        return ParsedRequest([*usage, *tokens], (), skipped, notes, corrected=corrected)

    def reply(sent: ReceivedRequest, parsed: ParsedRequest) -> Reply:
        return Reply(accepted_status)

    bodies = {ONE: _EVENT, MANY: _EVENTS, JSON: {"oneOf": [_EVENT, _EVENTS]}}
    return Route(PATH, "cloudevents", bodies, parse, reply)


def _identity(event: CloudEvent, row: RequestRow) -> str:
    """Return the identity of the request of an event. An id is a source's and a tenant's own."""
    return f"event {len(event.source)} {event.source} {identity_of(row)}"


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


def _raw_events(sent: ReceivedRequest) -> Sequence[Any]:
    """Return the events of a body as decoded JSON. Raises BadInput if there is none."""
    if sent.content_type == JSON and "ce-specversion" in sent.headers:
        return [_binary(sent)]
    body = _decoded(sent.body, "body")
    if sent.content_type == MANY or (sent.content_type == JSON and isinstance(body, list)):
        if not isinstance(body, list):
            raise BadInput("body", body, f"{MANY} is an array of events")
        if not body:
            raise BadInput("body", body, "give one event or more")
        return body
    return [body]


def _binary(sent: ReceivedRequest) -> dict[str, Any]:
    """Return the event of a request in binary mode: percent-encoded headers are its attributes, the body its data."""
    event: dict[str, Any] = {
        name.removeprefix("ce-"): unquote(value) for name, value in sent.headers.items() if name.startswith("ce-")
    }
    if sent.body:
        event["data"] = _decoded(sent.body, "data")
    return event


def _decoded(body: bytes, name: str) -> Any:
    check_json(body)
    try:
        return _read_json(body)
    except Exception as error:  # RecursionError and decimal.InvalidOperation among others.
        raise BadInput(name, body[:40], f"is no JSON that can be read: {describe(error)}") from None


def _event(event: Any, sent: ReceivedRequest, ahead_ms: int) -> CloudEvent:
    """Return one event. Raises BadInput that names the attribute, its value and what would be right."""
    if not isinstance(event, dict):
        raise BadInput("event", event, "give an object: a CloudEvent")
    if event.get("specversion", "1.0") != "1.0":
        raise BadInput("specversion", event["specversion"], "give '1.0'")
    if "data_base64" in event:
        raise BadInput("data_base64", "(binary)", "give JSON in `data`")
    return CloudEvent(
        id=_text(event, "id", needed=True), source=_text(event, "source", needed=True),
        type=_text(event, "type", needed=True), time_ms=_time(event, sent, ahead_ms),
        subject=_text(event, "subject"), tenant=_text(event, "tenant"), trace_id=_trace(event),
        data=event.get("data"),
    )  # fmt: skip


def _text(event: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = event.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable() or (needed and not value):
        raise BadInput(name, value, f"give {'1' if needed else '0'} to {MAX_TEXT} printable characters")
    return value


def _time(event: Mapping[str, Any], sent: ReceivedRequest, ahead_ms: int) -> int:
    """Return the event's time, an RFC 3339 stamp with a zone, or the time of arrival if it has none."""
    value = event.get("time")
    if value is None:
        return sent.now_ms
    try:
        if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
            raise ValueError
        at_ms = epoch_ms(value)
    except Exception:
        raise BadInput("time", value, "give RFC 3339, such as '2026-11-21T08:00:00Z'") from None
    if not 0 <= at_ms <= MAX_TIME_MS:
        raise BadInput("time", value, "is before 1970")
    if at_ms < sent.bounds.oldest_ms:
        raise BadInput("time", value, TOO_OLD)
    if at_ms > sent.now_ms + ahead_ms:
        raise BadInput("time", value, f"is in the future by more than {ahead_ms} ms; correct the sender's clock")
    return at_ms


def _trace(event: Mapping[str, Any]) -> str:
    """Return the trace of the extension `traceparent` (W3C: VERSION-TRACE-SPAN-FLAGS), or "" if it is malformed."""
    value = event.get("traceparent")
    parts = value.split("-") if isinstance(value, str) else []
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum() else ""
