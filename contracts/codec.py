"""Conversion of events to and from Kafka messages: CloudEvents 1.0 in Kafka's binary mode.

The `content-type` header names one of two body formats:

* `application/vnd.wattlog.packed` (`contracts.packed`): msgpack with binary columns, which our producers send.
* `application/json` (`contracts.json_body`): the same columns as lists, which other people's producers send.

Headers: `ce_specversion`, `ce_type` (with its version), `ce_source`, `ce_id` = `EPOCH.SEQ`, `ce_subject` =
`cluster/workload`, `ce_time`. `decode` raises BadEvent for a message that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import msgspec

from contracts import json_body, packed, topics
from contracts.errors import BadEvent
from contracts.events import MAX_TEXT, Batch, Event, PowerBatch, TokenBatch, UsageBatch
from contracts.units import rfc3339

PACKED = "application/vnd.wattlog.packed"
JSON = "application/json"
MAX_SOURCE = 1024
"""Characters in a `ce_source`."""
_ENVELOPES_KEPT = 32_768
"""Envelopes kept decoded, as sources repeat them: at worst 128 Mi characters, some MiB in a fleet."""

Headers = list[tuple[str, bytes]]
AnyHeaders = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None
"""Headers in the forms of the various clients."""

_BODIES = {PACKED: packed, JSON: json_body}
_READ_HEADERS = ("ce_type", "content-type", "ce_id", "ce_subject", "ce_source")


def topic_of(batch: Batch) -> str:
    """Return the topic of a batch, which is also its `ce_type`."""
    match batch:
        case PowerBatch():
            return topics.POWER
        case TokenBatch():
            return topics.TOKENS
        case UsageBatch():
            return topics.USAGE


def encode(event: Event, *, content_type: str = PACKED) -> tuple[Headers, bytes]:
    """Return an event as (headers, value). Raises BadEvent, which here is a producer's own fault."""
    event.batch.check()
    headers = envelope(
        type_=topic_of(event.batch), source=event.source, id_=f"{event.epoch}.{event.seq}",
        subject=topics.key(event.cluster, event.workload), t_ms=event.batch.event_ms, content_type=content_type,
    )  # fmt: skip
    return headers, packed.write(event.batch) if content_type == PACKED else json_body.write(event.batch)


def renumber(headers: Headers, epoch: int, seq: int) -> Headers:
    """Return the headers of a message under another identity."""
    return [(name, f"{epoch}.{seq}".encode() if name == "ce_id" else value) for name, value in headers]


def envelope(*, type_: str, source: str, id_: str, subject: str, t_ms: int, content_type: str) -> Headers:
    """Return the CloudEvents headers of one message, in Kafka's binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", type_.encode()),
        ("ce_source", source.encode()),
        ("ce_id", id_.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", rfc3339(t_ms).encode()),
        ("content-type", content_type.encode()),
    ]


def decode(headers: AnyHeaders, value: bytes | None) -> Event:
    """Return a Kafka message as a checked event. Raises BadEvent, and nothing else, if it cannot be read."""
    event = read(headers, value)
    event.batch.check()
    return event


def read(headers: AnyHeaders, value: bytes | None) -> Event:
    """Return a Kafka message as an event with unchecked columns (`contracts.joined_batches` checks many together).

    Raises BadEvent, and nothing else, if it cannot be read.
    """
    if value is None:
        raise BadEvent("value", None, "a tombstone means nothing here; send a body")
    try:
        by_name = _by_name(headers)
        read_body, cluster, workload, source = _envelope(
            by_name.get("ce_type"), by_name.get("content-type"), by_name.get("ce_subject"), by_name.get("ce_source")
        )
        epoch, seq = _identity(by_name.get("ce_id"))
        return Event(source, epoch, seq, cluster, workload, read_body(value))
    except msgspec.MsgspecError as error:
        raise BadEvent("value", value[:40], f"the body does not fit its type: {error}") from None
    except UnicodeDecodeError as error:
        raise BadEvent("headers", error.object[:40], "headers are UTF-8 text") from None
    except (OverflowError, ValueError) as error:
        raise BadEvent("value", value[:40], f"a column cannot be read: {error}") from None
    except RecursionError:
        raise BadEvent("value", value[:40], "the body is nested too deeply: send columns") from None


def _by_name(headers: AnyHeaders) -> Mapping[str, bytes | None]:
    """Return headers by name. Raises BadEvent where one of ours occurs twice."""
    if isinstance(headers, (list, tuple)):  # First, because the test for a `Mapping` is slow.
        pairs = headers
    elif isinstance(headers, Mapping):
        return headers
    else:
        pairs = list(headers or ())
    by_name = dict(pairs)
    if len(by_name) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _READ_HEADERS:
            if names.count(name) > 1:
                raise BadEvent(name, [value for n, value in pairs if n == name], "send this header once")
    return by_name


def _required(name: str, raw: bytes | None) -> bytes:
    if not raw:
        raise BadEvent(name, raw, "this header is required")
    return raw


@lru_cache(_ENVELOPES_KEPT)
def _envelope(
    type_: bytes | None, content_type: bytes | None, subject: bytes | None, source: bytes | None
) -> tuple[Callable[[bytes], Batch], str, str, str]:
    """Return (reader of the body, cluster, workload, source), which a source repeats in every message."""
    read_body = _body(_required("ce_type", type_), _required("content-type", content_type))
    return read_body, *_subject(_required("ce_subject", subject)), _source(_required("ce_source", source))


def _body(raw_type: bytes, raw_content_type: bytes) -> Callable[[bytes], Batch]:
    type_, content_type = raw_type.decode(), _printable("content-type", raw_content_type.decode(), MAX_TEXT)
    content_type = content_type.partition(";")[0].strip()
    if content_type not in _BODIES:
        raise BadEvent("content-type", content_type, f"send {PACKED} or {JSON}")
    reader: Callable[[bytes], Batch] | None = _BODIES[content_type].READ.get(type_)
    if reader is None:
        raise BadEvent("ce_type", type_, f"this version reads {', '.join((*topics.JOINED, topics.USAGE))}")
    return reader


def _subject(raw: bytes) -> tuple[str, str]:
    text = raw.decode()
    cluster, _, workload = text.partition("/")
    if not (cluster and workload):
        raise BadEvent("ce_subject", text, "give 'cluster/workload'")
    return _printable("ce_subject", cluster, MAX_TEXT), _printable("ce_subject", workload, MAX_TEXT)


def _source(raw: bytes) -> str:
    return _printable("ce_source", raw.decode(), MAX_SOURCE)


def _identity(raw: bytes | None) -> tuple[int, int]:
    epoch, dot, seq = _required("ce_id", raw).partition(b".")
    if not (dot and epoch.isdigit() and seq.isdigit()) or len(epoch) > 19 or len(seq) > 15:
        text = (raw or b"").decode()
        raise BadEvent("ce_id", text, "give EPOCH.SEQ: the start of this run in ms and a count from 0 without gaps")
    return int(epoch), int(seq)


def _printable(name: str, text: str, max_length: int) -> str:
    if len(text) > max_length or not text.isprintable():
        raise BadEvent(name, text, f"give 1 to {max_length} printable characters")
    return text
