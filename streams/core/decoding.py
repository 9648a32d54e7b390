"""What comes in on the two topics of one log partition: read, and believed or rejected."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from contracts import codec, topics
from contracts.codec import AnyHeaders
from contracts.errors import BadEvent
from contracts.events import MAX_TIME_MS, Batch, Event, PowerBatch, TokenBatch, UsageBatch
from contracts.joined_batches import PowerColumns, TokenColumns
from contracts.units import I64
from streams.core.apportion import pieces

MAX_PIECES = 1_000_000
"""Rows times windows of one event: what a worker can hold beside everything else. Enough for an event of 65,536 rows
(the most there may be) of two minutes each."""


@dataclass(frozen=True)
class PartitionConfig:
    """What a partition needs of the settings; times in milliseconds."""

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    skew_ms: int = 5_000
    idle_timeout_ms: int = 30_000
    keep_requests: bool = True
    """Whether single requests are stored, beside what they add up to."""


class LogMessage(NamedTuple):
    """A raw message of one of the two joined topics."""

    topic: str
    offset: int
    headers: AnyHeaders
    value: bytes | None


class RejectedMessage(NamedTuple):
    """A message for the dead-letter topic. It blocks commits until the shell says that it was published."""

    message: LogMessage
    error: BadEvent


@dataclass(slots=True)
class DecodedMessages:
    """What some messages of one topic say, message by message: the event or what is wrong with it, its event time, and
    the (first, last) window numbers between which its rows lie, (0, -1) if it has none."""

    events: list[Event | BadEvent]
    event_ms: list[int]
    first: list[int]
    last: list[int]
    full: list[int]
    columns: PowerColumns | TokenColumns | None
    """The rows of the events at `full`: all that have any."""


class PriorVerdicts(NamedTuple):
    """What an earlier owner of the partition made of the messages below an offset: it refused these."""

    below: int
    refused: Set[int]


NO_VERDICTS = PriorVerdicts(-1, frozenset())


def read(
    messages: Sequence[LogMessage], now_ms: int, config: PartitionConfig, judged: PriorVerdicts = NO_VERDICTS
) -> DecodedMessages:
    """Decode and judge messages of one topic: the event of each, or why it cannot be read or believed.

    What was `judged` before, by another clock, is judged alike.
    """
    wanted = PowerBatch if messages and messages[0].topic == topics.POWER else TokenBatch
    events = [_event(m, wanted) for m in messages]
    full = [i for i, e in enumerate(events) if isinstance(e, Event) and len(e.batch)]
    if len(full) < len(events):
        _check_each(events, [i for i, e in enumerate(events) if isinstance(e, Event) and not len(e.batch)])
    try:
        columns = columns_of([events[i].batch for i in full])  # type: ignore[union-attr]
    except BadEvent:
        _check_each(events, full)
        full = [i for i in full if isinstance(events[i], Event)]
        columns = columns_of([events[i].batch for i in full])  # type: ignore[union-attr]
    t_ms = [e.batch.t_ms if isinstance(e, Event) else 0 for e in events]
    step = DecodedMessages(events, t_ms, [0] * len(events), [-1] * len(events), full, columns)
    most_pieces = _place(step, columns, config.window_ms) if columns is not None else 0
    again = bool(judged.refused) or (len(messages) > 0 and messages[0].offset < judged.below)
    if again or most_pieces > MAX_PIECES or max(step.event_ms, default=0) > now_ms + config.skew_ms:  # Seldom.
        _judge(step, messages, now_ms, config, judged)
    return step


def _judge(
    step: DecodedMessages, messages: Sequence[LogMessage], now_ms: int, config: PartitionConfig, judged: PriorVerdicts
) -> None:
    """Put an error in the place of each event that cannot be believed, or that was refused when it was first read."""
    for i, event in enumerate(step.events):
        if not isinstance(event, Event):
            continue
        seen_ms = MAX_TIME_MS if messages[i].offset < judged.below else now_ms
        if error := _unbelievable(step, i, event, seen_ms, config):
            step.events[i] = error
        elif messages[i].offset in judged.refused:
            step.events[i] = BadEvent(
                "t_ms", step.event_ms[i], "lay in the future when it was first read; mend the clock"
            )


def columns_of(batches: Sequence[Batch]) -> PowerColumns | TokenColumns | None:
    """Batches of one kind, none of them empty, checked and end to end. Raises BadEvent if anything is wrong in one."""
    if not batches:
        return None
    kind = PowerColumns if isinstance(batches[0], PowerBatch) else TokenColumns
    return kind.of(batches)  # type: ignore[arg-type]


def _event(message: LogMessage, wanted: type[Batch]) -> Event | BadEvent:
    try:
        event = codec.read(message.headers, message.value)
        if not isinstance(event.batch, wanted):
            raise BadEvent("ce_type", type(event.batch).__name__, f"does not belong on {message.topic}")
        return event
    except BadEvent as error:
        return error


def _check_each(events: list[Event | BadEvent], at: Sequence[int]) -> None:
    """Put the error in the place of each event that has one."""
    for i in at:
        event = events[i]
        try:
            assert isinstance(event, Event)
            event.batch.check()
        except BadEvent as error:
            events[i] = error


def _place(step: DecodedMessages, c: PowerColumns | TokenColumns, window_ms: int) -> int:
    """Where in time the events with rows lie. Returns the most rows times windows of one, or more."""
    t_ms = np.maximum.reduceat(c.end_ms, c.starts)
    first = np.minimum.reduceat(c.begin_ms, c.starts)
    # The last instant of all rows: an empty span, which may begin where the others end, lies at its begin.
    last = np.maximum(t_ms - 1, np.maximum.reduceat(c.begin_ms, c.starts)) // window_ms
    first //= window_ms
    for i, event_ms, begin, end in zip(step.full, t_ms.tolist(), first.tolist(), last.tolist(), strict=True):
        if event_ms > step.event_ms[i]:
            step.event_ms[i] = event_ms
        step.first[i], step.last[i] = begin, end
    return int(((last - first + 1) * c.counts).max())


def _unbelievable(step: DecodedMessages, i: int, event: Event, now_ms: int, config: PartitionConfig) -> BadEvent | None:
    if step.event_ms[i] > now_ms + config.skew_ms:
        return BadEvent(
            "t_ms", step.event_ms[i], f"lies in the future by more than {config.skew_ms} ms; mend the clock"
        )
    if (step.last[i] - step.first[i] + 1) * len(event.batch) <= MAX_PIECES:
        return None
    assert not isinstance(event.batch, UsageBatch)
    start, end = _spans(event.batch)  # The exact count is dearer, and rarely needed.
    ms = config.window_ms
    count = int((np.maximum(end - 1, start) // ms - start // ms + 1).sum())
    if count <= MAX_PIECES:
        return None
    return BadEvent("rows", len(event.batch), f"lie in {count} windows together; send at most {MAX_PIECES} an event")


def touched(batch: PowerBatch | TokenBatch, window_ms: int) -> I64:
    """The numbers of the windows that a batch's rows lie in, ascending."""
    return np.unique(pieces(*_spans(batch), window_ms)[1])


def _spans(batch: PowerBatch | TokenBatch) -> tuple[I64, I64]:
    return (batch.t0_ms, batch.t1_ms) if isinstance(batch, PowerBatch) else (batch.t_start_ms, batch.t_end_ms)
