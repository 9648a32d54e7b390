"""Reads the CloudEvents of a body. Pure.

By hand, not with the `cloudevents` library: it creates objects first and reports at most the class of an error. Here
every error names the place, the value and what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from contracts.checks import MAX_TEXT
from contracts.errors import BadInput
from contracts.events import MAX_TIME_MS
from contracts.units import epoch_ms
from producers.api import ReceivedRequest
from producers.common.body_cost import check_json
from producers.common.json_text import BOM, decode_or_repair, json_elements
from producers.gateways.calls import TOO_OLD
from producers.receivers.cloudevents.meter_rules import CloudEvent
from producers.runtime.receiver.problems import quote_value
from producers.runtime.refusals import describe

ONE, MANY, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
_read_json = msgspec.json.Decoder(float_hook=Decimal).decode


def raw_events(sent: ReceivedRequest) -> Sequence[Any]:
    """Return the events of a body as decoded JSON, or as bytes where it cannot be decoded as a whole.

    Raises BadInput if there is none.
    """
    if sent.content_type == JSON and "ce-specversion" in sent.headers:
        return [_binary(sent)]
    check_json(sent.body)
    text = sent.body.removeprefix(BOM).strip()
    try:
        body = _read_json(text)
    except Exception:  # RecursionError and decimal.InvalidOperation among others.
        if not text:
            raise BadInput("body", sent.body[:40], "is no JSON that can be read: it is empty") from None
        is_many = text[:1] == b"[" and sent.content_type != ONE
        body = list(json_elements(text)) if is_many else text
    if sent.content_type == MANY or (sent.content_type == JSON and isinstance(body, list)):
        if not isinstance(body, list):
            raise BadInput("body", quote_value(body), f"{MANY} is an array of events")
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
        check_json(sent.body)
        event["data"] = _decoded(sent.body, "data")
    return event


def _decoded(body: bytes, name: str) -> Any:
    try:
        return decode_or_repair(body, _read_json)
    except Exception as error:
        raise BadInput(name, body[:40], f"is no JSON that can be read: {describe(error)}") from None


def read_event(event: Any, sent: ReceivedRequest, ahead_ms: int) -> CloudEvent:
    """Return one event. Raises BadInput that names the attribute, its value and what would be right."""
    if isinstance(event, bytes):
        event = _decoded(event, "event")
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
