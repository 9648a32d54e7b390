"""Events to and from Kafka messages: CloudEvents 1.0, Kafka binary mode.

Two bodies, told apart by the `content-type` header:

* `application/vnd.wattlog.packed` (`contracts.packed`): msgpack with binary columns. What our producers send.
* `application/json` (`contracts.json_body`): the same columns as lists. What other people's producers send.

Headers: `ce_specversion`, `ce_type` (with its version), `ce_source`, `ce_id` = `EPOCH.SEQ`, `ce_subject` =
`cluster/workload`, `ce_time`. `decode` raises BadEvent for whatever cannot be read.
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
"""What sources say with every message, kept decoded: 128 Mi characters at the very worst, some MiB in a fleet."""

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
    """Return an event as (headers, value). Raises BadEvent, which here is a producer's own fault."""
    if content_type == PACKED and event.body is not None:
        return headers_of(event), event.body
    body = encode_batch(event.batch, content_type=content_type)
    return headers_of(event, content_type=content_type), body


def encode_batch(batch: Batch, *, content_type: str = PACKED) -> bytes:
    """Check a batch and return its body. Raises BadEvent."""
    batch.check()
    return packed.write(batch) if content_type == PACKED else json_body.write(batch)


def headers_of(event: Event, *, content_type: str = PACKED) -> Headers:
    """Return the headers of an event's message."""
    return envelope(
        type_=topic_of(event.batch), source=event.source, id_=f"{event.epoch}.{event.seq}",
        subject=topics.key(event.cluster, event.workload), t_ms=event.batch.event_ms, content_type=content_type,
    )  # fmt: skip


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
    event = read(headers, value)
    event.batch.check()
    return event


def read(headers: AnyHeaders, value: bytes | None) -> Event:
    """A Kafka message as an event whose columns are not checked yet (`contracts.columns` checks many together).

    Raises BadEvent, and nothing else, for whatever cannot be read.
    """
    if value is None:
        raise BadEvent("value", None, "a tombstone means nothing here; send a body")
    try:
        got = _by_name(headers)
        read_body, cluster, workload, source = _envelope(
            got.get("ce_type"), got.get("content-type"), got.get("ce_subject"), got.get("ce_source")
        )
        epoch, seq = _identity(got.get("ce_id"))
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
    """Headers by name. One of ours that is there twice is an error: which one holds?"""
    if isinstance(headers, (list, tuple)):  # First: asking whether something is a `Mapping` is dear.
        pairs = headers
    elif isinstance(headers, Mapping):
        return headers
    else:
        pairs = list(headers or ())
    got = dict(pairs)
    if len(got) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _READ_HEADERS:
            if names.count(name) > 1:
                raise BadEvent(name, [value for n, value in pairs if n == name], "send this header once")
    return got


def _required(name: str, raw: bytes | None) -> bytes:
    if not raw:
        raise BadEvent(name, raw, "this header is required")
    return raw


@lru_cache(_ENVELOPES_KEPT)
def _envelope(
    type_: bytes | None, content_type: bytes | None, subject: bytes | None, source: bytes | None
) -> tuple[Callable[[bytes], Batch], str, str, str]:
    """(how to read the body, cluster, workload, source): what a source says again with every message."""
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
        raise BadEvent("ce_id", text, "give EPOCH.SEQ: the start of this run in ms and a count from 0 without holes")
    return int(epoch), int(seq)


def _printable(name: str, text: str, most: int) -> str:
    if len(text) > most or not text.isprintable():
        raise BadEvent(name, text, f"give 1 to {most} printable characters")
    return text
