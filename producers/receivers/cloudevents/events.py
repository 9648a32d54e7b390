"""CloudEvents over HTTP, as OpenMeter's clients send them: `POST /api/v1/events`. Pure.

Structured (`application/cloudevents+json`), batched (`application/cloudevents-batch+json`), plain JSON (one or an
array), and binary mode (`ce-` headers about a JSON body). One event that is wrong refuses the whole request.

Read by hand and not by the `cloudevents` library: that one makes objects first and tells at most what class of error it
met, and every wrong value here is told with its place, its value and what would be right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from contracts.checks import MAX_TEXT
from contracts.errors import BadInput
from contracts.events import MAX_TIME_MS
from contracts.units import epoch_ms
from producers.receivers.cloudevents.meter_rules import CloudEvent, MeteredRow, MeterRules
from producers.runtime.batching import UsageRow, text_bytes, usage_batch
from producers.runtime.poll_loop import Made
from producers.runtime.receiver.problems import Rejected, Wrong
from producers.runtime.receiver.route import Intake, Parsed, Reply, Sent

PATH = "/api/v1/events"
"""OpenMeter's."""
ONE, MANY, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
MAX_ROW_BYTES_A_MESSAGE = 400_000
"""Of text in the rows of one message, so that it fits into one of Kafka's; a row has 75,000 at most."""
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


def intake(meters: MeterRules, *, cluster: str, max_events: int, ahead_ms: int, accepted_status: int = 202) -> Intake:
    """The route. `max_events` a request; `ahead_ms`: how far a time may lie in the future, less than what
    workers take for it: our clocks differ too."""

    def parse(sent: Sent) -> Parsed:
        found = list(_found(sent))
        if len(found) > max_events:
            raise Rejected(413, "too-many-events", f"{len(found):,} events: send at most {max_events:,} a request.")
        counted: list[MeteredRow] = []
        wrong: list[Wrong] = []
        for n, one in enumerate(found):
            try:
                counted += meters.rows(_event(one, sent.now_ms, ahead_ms), sent.caller)
            except BadInput as error:
                wrong.append(Wrong.of(error, n))
        if wrong:
            raise Rejected.invalid(wrong)
        return Parsed([Made(cluster, workload, usage_batch(rows, 0)) for workload, rows in together(counted)])

    def reply(sent: Sent, parsed: Parsed) -> Reply:
        return Reply(accepted_status)

    bodies = {ONE: _EVENT, MANY: _EVENTS, JSON: {"oneOf": [_EVENT, _EVENTS]}}
    return Intake(PATH, "cloudevents", bodies, parse, reply)


def together(counted: Sequence[MeteredRow]) -> Iterator[tuple[str, list[UsageRow]]]:
    """Rows by workload, in their order, in parts that fit into a message each."""
    by_workload: dict[str, list[UsageRow]] = {}
    for workload, row in counted:
        by_workload.setdefault(workload, []).append(row)
    for workload, rows in by_workload.items():
        part: list[UsageRow] = []
        size = 0
        for row in rows:
            more = _bytes(row)
            if part and (size + more > MAX_ROW_BYTES_A_MESSAGE or len(part) == MAX_ROWS_A_MESSAGE):
                yield workload, part
                part, size = [], 0
            part.append(row)
            size += more
        yield workload, part


def _bytes(row: UsageRow) -> int:
    texts = [value for value in row if isinstance(value, str)]
    texts += [text for pair in row.dimensions.items() for text in pair]
    return sum(text_bytes(text) + 4 for text in texts) + _ROW_BYTES


def _found(sent: Sent) -> Sequence[Any]:
    """The events of a body, as JSON gives them."""
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


def _binary(sent: Sent) -> dict[str, Any]:
    """The event of a request in binary mode: attributes are headers (percent-encoded), the body is its data."""
    found: dict[str, Any] = {
        name.removeprefix("ce-"): unquote(value) for name, value in sent.headers.items() if name.startswith("ce-")
    }
    if sent.body:
        found["data"] = _decoded(sent.body, "data")
    return found


def _decoded(body: bytes, name: str) -> Any:
    try:
        return _read_json(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(name, body[:40], f"is no JSON: {error}") from None
    except RecursionError:
        raise BadInput(name, body[:40], "is nested too deeply") from None


def _event(found: Any, now_ms: int, ahead_ms: int) -> CloudEvent:
    """One event. Raises BadInput naming its attribute, the value and what would be right."""
    if not isinstance(found, dict):
        raise BadInput("event", found, "give an object: a CloudEvent")
    if found.get("specversion", "1.0") != "1.0":
        raise BadInput("specversion", found["specversion"], "give '1.0'")
    if "data_base64" in found:
        raise BadInput("data_base64", "(binary)", "give JSON in `data`")
    return CloudEvent(
        id=_text(found, "id", needed=True), source=_text(found, "source", needed=True),
        type=_text(found, "type", needed=True), time_ms=_time(found, now_ms, ahead_ms),
        subject=_text(found, "subject"), tenant=_text(found, "tenant"), trace_id=_trace(found),
        data=found.get("data"),
    )  # fmt: skip


def _text(found: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = found.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable() or (needed and not value):
        raise BadInput(name, value, f"give {'1' if needed else '0'} to {MAX_TEXT} printable characters")
    return value


def _time(found: Mapping[str, Any], now_ms: int, ahead_ms: int) -> int:
    """When it happened; when it came, where it does not say. RFC 3339, which has a zone."""
    value = found.get("time")
    if value is None:
        return now_ms
    try:
        if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
            raise ValueError
        at_ms = epoch_ms(value)
    except ValueError:
        raise BadInput("time", value, "give RFC 3339, such as '2026-11-21T08:00:00Z'") from None
    if not 0 <= at_ms <= MAX_TIME_MS:
        raise BadInput("time", value, "lies before 1970")
    if at_ms > now_ms + ahead_ms:
        raise BadInput("time", value, f"lies in the future by more than {ahead_ms} ms; mend the sender's clock")
    return at_ms


def _trace(found: Mapping[str, Any]) -> str:
    """The trace of the extension `traceparent` (W3C): VERSION-TRACE-SPAN-FLAGS. "" for what is none."""
    value = found.get("traceparent")
    parts = value.split("-") if isinstance(value, str) else []
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum() else ""
