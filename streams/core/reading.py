"""What comes in on the two topics of one log partition: read, believed or rejected, and how far it lets time go."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from contracts import topics
from contracts.codec import AnyHeaders, decode
from contracts.errors import BadEvent, LedgerError
from contracts.events import Event, PowerBatch, TokenBatch
from contracts.units import I64
from streams.core.sequence import Runs
from streams.core.spread import pieces

MAX_PIECES = 4_000_000
"""Rows times windows of one event: what a worker can hold beside everything else."""


@dataclass(frozen=True)
class Config:
    """What a partition needs of the settings; all in milliseconds."""

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    skew_ms: int = 5_000
    idle_timeout_ms: int = 30_000


class Message(NamedTuple):
    """A raw message of one of the two joined topics."""

    topic: str
    offset: int
    headers: AnyHeaders
    value: bytes | None


class Rejected(NamedTuple):
    """A message for the dead-letter topic. It blocks commits until the shell says that it was published."""

    message: Message
    error: BadEvent


class Read(NamedTuple):
    """An event, and the (first, last) window numbers between which its rows lie; (0, -1) if it has none."""

    event: Event
    first: int
    last: int


@dataclass(slots=True)
class Pending:
    """A message that is read and not yet committed. `last` is the last window it touches (-1: none)."""

    offset: int
    last: int = -1
    held: bool = False
    late: bool = False
    event: tuple[str, int, int, int] | None = None


@dataclass(slots=True)
class TopicState:
    """Where one of the two topics stands."""

    next_offset: int
    """-1 until the first message: the log may begin anywhere."""
    runs: Runs
    event_ms: int | None = None
    arrived_ms: int = 0
    pending: deque[Pending] = field(default_factory=deque)

    def expects(self, message: Message) -> bool:
        """False for what is stored already. Raises LedgerError for a hole: the log lost messages that nobody read."""
        if self.next_offset >= 0 and message.offset > self.next_offset:
            raise LedgerError(
                f"{message.topic} lost messages {self.next_offset} to {message.offset - 1}: it was trimmed before they "
                "were read (lengthen its retention), or a transactional producer wrote to it (use an idempotent one). "
                "`wattlog stream --accept-loss` goes on without them"
            )
        return message.offset >= self.next_offset

    def take(self, message: Message, now_ms: int) -> Pending:
        """Note that the message is here; it is pending until what it touches is stored."""
        self.next_offset, self.arrived_ms = message.offset + 1, now_ms
        pending = Pending(message.offset)
        self.pending.append(pending)
        return pending


def read(message: Message, now_ms: int, config: Config) -> Read:
    """Decode and judge one message. Raises BadEvent for what cannot be read or believed."""
    event = decode(message.headers, message.value)
    batch = event.batch
    if not isinstance(batch, PowerBatch if message.topic == topics.POWER else TokenBatch):
        raise BadEvent("ce_type", type(batch).__name__, f"does not belong on {message.topic}")
    if batch.event_ms > now_ms + config.skew_ms:
        raise BadEvent("t_ms", batch.event_ms, f"lies in the future by more than {config.skew_ms} ms; mend the clock")
    if not len(batch):
        return Read(event, 0, -1)
    start, end = _spans(batch)
    first, last = int(start.min()) // config.window_ms, int(np.maximum(end - 1, start).max()) // config.window_ms
    if (last - first + 1) * len(batch) > MAX_PIECES:  # The exact count is dearer, and rarely needed.
        count = int((np.maximum(end - 1, start) // config.window_ms - start // config.window_ms + 1).sum())
        if count > MAX_PIECES:
            raise BadEvent("rows", len(batch), f"lie in {count} windows together; send at most {MAX_PIECES} an event")
    return Read(event, first, last)


def touched(batch: PowerBatch | TokenBatch, window_ms: int) -> I64:
    """The numbers of the windows that a batch's rows lie in, ascending."""
    return np.unique(pieces(*_spans(batch), window_ms)[1])


def _spans(batch: PowerBatch | TokenBatch) -> tuple[I64, I64]:
    return (batch.t0_ms, batch.t1_ms) if isinstance(batch, PowerBatch) else (batch.t_start_ms, batch.t_end_ms)


def watermark(states: Collection[TopicState], now_ms: int, config: Config) -> int | None:
    """Up to where a partition is complete, in event time, or None before anything came.

    The lower of the two topics' greatest event times, less the skew. A topic that is silent for the idle timeout
    does not hold it back; when both are silent, it goes on with the clock.
    """
    seen = [t for t in states if t.event_ms is not None]
    if not seen:
        return None
    active = [t for t in states if now_ms - t.arrived_ms < config.idle_timeout_ms]
    if not active:
        newest = max(t.event_ms or 0 for t in seen)
        return newest + now_ms - max(t.arrived_ms for t in seen) - config.skew_ms
    if any(t.event_ms is None for t in active):
        return None
    return min(t.event_ms or 0 for t in active) - config.skew_ms
