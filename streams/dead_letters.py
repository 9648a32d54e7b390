"""Dead letters: messages that cannot be read, or are implausible, as messages of wattlog.deadletter.v1."""

from __future__ import annotations

from contracts import topics
from contracts.codec import Headers, envelope
from contracts.errors import BadEvent
from streams import metrics
from streams.core.decoding import RejectedMessage

MAX_BYTES = 8 * 2**20
"""The largest dead letter. Larger than a broker's usual limit (1 MiB): a letter is its message and the reason, and a
message that was small on the log may have been compressed."""
_OWN_BYTES = 16_384
"""Bytes that a dead letter may need beside its message: envelope and reason."""


def dead_letter(rejected: RejectedMessage, place: str, now_ms: int) -> tuple[Headers, bytes | None]:
    """Return (headers, value) of the dead letter: the complete message, with the reason in headers.

    `place` is "topic/partition". A message larger than the topic allows goes without its value: `ce_subject` and
    `ce_id` name its place on the log.
    """
    message, error = rejected
    headers = envelope(
        type_=topics.DEADLETTER, source=f"wattlog://stream/{place}", id_=str(message.offset), subject=place,
        t_ms=now_ms, content_type="application/octet-stream",
    )  # fmt: skip
    headers += [("wattlog_field", error.field.encode()), ("wattlog_reason", str(error).encode())]
    original = [(f"original_{k}", v or b"") for k, v in dict(message.headers or ()).items()]
    size = len(message.value or b"") + sum(len(k) + len(v) + 10 for k, v in original)
    if size > MAX_BYTES - _OWN_BYTES:
        return [*headers, ("wattlog_omitted_bytes", str(size).encode())], None
    return headers + original, message.value


def count_published(error: BadEvent) -> None:
    """Count a published dead letter by the field at fault, without its index."""
    metrics.DEAD_LETTERS.labels(error.field.partition("[")[0][:40]).inc()
