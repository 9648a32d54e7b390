"""Events to and from Kafka messages: CloudEvents 1.0, Kafka binary mode.

Two bodies, told apart by the `content-type` header:

* `application/vnd.wattlog.packed` (`contracts.packed`): msgpack with binary columns. What our producers send.
* `application/json` (`contracts.json_body`): the same columns as lists. What other people's producers send.

Headers: `ce_specversion`, `ce_type` (with its version), `ce_source`, `ce_id` = `EPOCH.SEQ`, `ce_subject` =
`cluster/workload`, `ce_time`. `decode` raises BadEvent for whatever cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from contracts import json_body, packed, topics
from contracts.errors import BadEvent
from contracts.events import MAX_TEXT, Batch, Event, PowerBatch, TokenBatch, UsageBatch
from contracts.units import rfc3339

PACKED = "application/vnd.wattlog.packed"
JSON = "application/json"
MAX_SOURCE = 1024
"""Characters in a `ce_source`."""

Headers = list[tuple[str, bytes]]
AnyHeaders = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None
"""Headers as the various clients hand them out."""

_BODIES = {PACKED: packed, JSON: json_body}
_READ_HEADERS = ("ce_type", "content-type", "ce_id", "ce_subject", "ce_source")


def topic_of(batch: Batch) -> str:
    """The topic, and so the `ce_type`, of a batch."""
    match batch:
        case PowerBatch():
            return topics.POWER
        case TokenBatch():
            return topics.TOKENS
        case UsageBatch():
            return topics.USAGE


def encode(event: Event, *, content_type: str = PACKED) -> tuple[Headers, bytes]:
    """An event as (headers, value). Checks it first: BadEvent here is a producer's own fault."""
    event.batch.check()
    headers = envelope(
        type_=topic_of(event.batch), source=event.source, id_=f"{event.epoch}.{event.seq}",
        subject=topics.key(event.cluster, event.workload), t_ms=event.batch.event_ms, content_type=content_type,
    )  # fmt: skip
    return headers, (packed if content_type == PACKED else json_body).write(event.batch)


def envelope(*, type_: str, source: str, id_: str, subject: str, t_ms: int, content_type: str) -> Headers:
    """The CloudEvents headers of one message, in Kafka binary mode."""
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
    """A Kafka message as a checked event. Raises BadEvent, and nothing else, for whatever cannot be read."""
    if value is None:
        raise BadEvent("value", None, "a tombstone means nothing here; send a body")
    try:
        got = _by_name(headers)
        type_, content_type = _text(got, "ce_type"), _text(got, "content-type").partition(";")[0].strip()
        epoch, seq = _identity(_text(got, "ce_id"))
        cluster, workload = _subject(_text(got, "ce_subject"))
        source = _printable("ce_source", _text(got, "ce_source"), MAX_SOURCE)
        if content_type not in _BODIES:
            raise BadEvent("content-type", content_type, f"send {PACKED} or {JSON}")
        read = _BODIES[content_type].READ.get(type_)
        if read is None:
            raise BadEvent("ce_type", type_, f"this version reads {', '.join((*topics.JOINED, topics.USAGE))}")
        batch = read(value)
        batch.check()
        return Event(source, epoch, seq, cluster, workload, batch)
    except msgspec.MsgspecError as error:
        raise BadEvent("value", value[:40], f"the body does not fit its type: {error}") from None
    except UnicodeDecodeError as error:
        raise BadEvent("headers", error.object[:40], "headers are UTF-8 text") from None
    except (OverflowError, ValueError) as error:
        raise BadEvent("value", value[:40], f"a column cannot be read: {error}") from None
    except RecursionError:
        raise BadEvent("value", value[:40], "the body is nested too deeply: send columns") from None


def _by_name(headers: AnyHeaders) -> Mapping[str, bytes | None]:
    """Headers by name. One of ours that is there twice is an error: which one holds?"""
    if isinstance(headers, Mapping):
        return headers
    pairs = list(headers or ())
    got = dict(pairs)
    if len(got) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _READ_HEADERS:
            if names.count(name) > 1:
                raise BadEvent(name, [value for n, value in pairs if n == name], "send this header once")
    return got


def _identity(text: str) -> tuple[int, int]:
    epoch, dot, seq = text.partition(".")
    if not (dot and epoch.isdecimal() and seq.isdecimal() and text.isascii()) or len(epoch) > 19 or len(seq) > 15:
        raise BadEvent("ce_id", text, "give EPOCH.SEQ: the start of this run in ms and a count from 0 without holes")
    return int(epoch), int(seq)


def _subject(text: str) -> tuple[str, str]:
    cluster, _, workload = text.partition("/")
    if not (cluster and workload):
        raise BadEvent("ce_subject", text, "give 'cluster/workload'")
    return _printable("ce_subject", cluster, MAX_TEXT), _printable("ce_subject", workload, MAX_TEXT)


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    raw = headers.get(name)
    if not raw:
        raise BadEvent(name, raw, "this header is required")
    return raw.decode()


def _printable(name: str, text: str, most: int) -> str:
    if len(text) > most or not text.isprintable():
        raise BadEvent(name, text, f"give 1 to {most} printable characters")
    return text
