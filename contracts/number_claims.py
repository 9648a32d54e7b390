"""Notice that numbers of a source are taken, as a message of wattlog.alerts.v1: workers write it, producers read it."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from contracts import topics
from contracts.codec import Headers, envelope

MAX_BYTES = 4_096
"""The largest notice that is read."""


class NumberClaim(msgspec.Struct, frozen=True):
    """Sequence number of a source's run (epoch) that two different messages, or messages of two senders, claim.

    `t_ms` is when a worker saw it, in UTC epoch milliseconds. `compared` is False where the worker no longer knew the
    first message: the second may be a copy of it.
    """

    topic: str
    source: str
    epoch: int
    seq: int
    t_ms: int
    compared: bool = True

    def message(self) -> tuple[bytes, Headers, bytes]:
        """Return (key, headers, value). The key is the source, so that its notices are in one partition."""
        headers = envelope(
            type_=topics.ALERTS, source="wattlog://stream", id_=f"{self.epoch}.{self.seq}", subject=self.source,
            t_ms=self.t_ms, content_type="application/json",
        )  # fmt: skip
        return self.source.encode(), headers, msgspec.json.encode(self)


def read_claim(value: bytes | None) -> NumberClaim | None:
    """Return the notice in a message's value; None for any other message, which is none of a producer's business."""
    if value is not None and len(value) <= MAX_BYTES:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(value, type=NumberClaim)
    return None
