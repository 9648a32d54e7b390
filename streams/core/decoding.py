"""Decoding of one partition's two topics: raw messages to events, or to the reason why a message is rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from contracts import codec, topics
from contracts.codec import AnyHeaders
from contracts.columns import I64
from contracts.errors import BadEvent
from contracts.events import MAX_TIME_MS, Batch, Event, PowerBatch, TokenBatch, UsageBatch
from contracts.joined_batches import PowerColumns, TokenColumns
from streams.core.time_spread import window_pieces

MAX_PIECES = 1_000_000
"""Rows times windows of one event: as much as a worker can hold beside everything else. Enough for an event of 65,536
rows (the maximum) of two minutes each."""


@dataclass(frozen=True)
class PartitionConfig:
    """The settings that a partition needs; times in milliseconds."""

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    skew_ms: int = 5_000
    idle_timeout_ms: int = 30_000
    keep_requests: bool = True
    """True to store single requests beside their sums."""
    dimensions: tuple[str, ...] = ()
    """Dimensions of requests that the ledger keeps (`contracts.events.DIMENSIONS`)."""
    partition_of: Callable[[int, str, str], int] | None = None
    """Returns the partition, of so many, on which the events of a (cluster, workload) belong. None: on any."""
    partition: int = 0
    """Number of this partition."""
    partition_counts: tuple[int, ...] = ()
    """Numbers of partitions under which an event may have been written, today's first."""


class LogMessage(NamedTuple):
    """A raw message of one of the two joined topics."""

    topic: str
    offset: int
    headers: AnyHeaders
    value: bytes | None


class RejectedMessage(NamedTuple):
    """A message for the dead-letter topic. It blocks commits until the shell reports it as published."""

    message: LogMessage
    error: BadEvent


@dataclass(slots=True)
class DecodedMessages:
    """Messages of one topic, decoded. The lists are by message."""

    events: list[Event | BadEvent]
    event_ms: list[int]
    first: list[int]
    """Number of the first window that the event's rows touch; 0 if it has none."""
    last: list[int]
    """Number of the last window that the event's rows touch; -1 if it has none."""
    full: list[int]
    """Indices of the events that have rows."""
    columns: PowerColumns | TokenColumns | None
    """The rows of the events at `full`, end to end."""


class PriorVerdicts(NamedTuple):
    """Verdicts of an earlier owner: of the messages below an offset, it rejected those at `refused`, and no others."""

    below: int
    refused: Set[int]


NO_VERDICTS = PriorVerdicts(-1, frozenset())


def decode_messages(
    messages: Sequence[LogMessage], now_ms: int, config: PartitionConfig, prior: PriorVerdicts = NO_VERDICTS
) -> DecodedMessages:
    """Decode messages of one topic: for each, its event, or why it is rejected.

    An event is rejected if it cannot be read, belongs on another partition, is in the future, or touches too many
    windows. Messages that an earlier owner judged, by another clock, are judged alike (`prior`).
    """
    kind = PowerBatch if messages and messages[0].topic == topics.POWER else TokenBatch
    events = [_event(m, kind, config, prior) for m in messages]
    full = [i for i, e in enumerate(events) if isinstance(e, Event) and len(e.batch)]
    if len(full) < len(events):
        _check_singly(events, [i for i, e in enumerate(events) if isinstance(e, Event) and not len(e.batch)])
    try:
        columns = columns_of([events[i].batch for i in full])  # type: ignore[union-attr]
    except BadEvent:
        _check_singly(events, full)
        full = [i for i in full if isinstance(events[i], Event)]
        columns = columns_of([events[i].batch for i in full])  # type: ignore[union-attr]
    t_ms = [e.batch.t_ms if isinstance(e, Event) else 0 for e in events]
    decoded = DecodedMessages(events, t_ms, [0] * len(events), [-1] * len(events), full, columns)
    max_pieces = _place(decoded, columns, config.window_ms) if columns is not None else 0
    again = bool(prior.refused) or (len(messages) > 0 and messages[0].offset < prior.below)
    if again or max_pieces > MAX_PIECES or max(decoded.event_ms, default=0) > now_ms + config.skew_ms:  # Seldom.
        _judge(decoded, messages, now_ms, config, prior)
    return decoded


def _judge(
    decoded: DecodedMessages,
    messages: Sequence[LogMessage],
    now_ms: int,
    config: PartitionConfig,
    prior: PriorVerdicts,
) -> None:
    """Replace by an error each event that is implausible, or that was rejected when it was first read."""
    for i, event in enumerate(decoded.events):
        if not isinstance(event, Event):
            continue
        seen_ms = MAX_TIME_MS if messages[i].offset < prior.below else now_ms
        if error := _implausible(decoded, i, event, seen_ms, config):
            decoded.events[i] = error
        elif messages[i].offset in prior.refused:
            decoded.events[i] = BadEvent(
                "offset", messages[i].offset, "was refused when it was first read; its first dead letter says why"
            )


def columns_of(batches: Sequence[Batch]) -> PowerColumns | TokenColumns | None:
    """Return checked batches of one kind, none of them empty, end to end. Raises BadEvent if one of them is wrong."""
    if not batches:
        return None
    kind = PowerColumns if isinstance(batches[0], PowerBatch) else TokenColumns
    return kind.of(batches)  # type: ignore[arg-type]


def _event(
    message: LogMessage, kind: type[Batch], config: PartitionConfig, prior: PriorVerdicts
) -> Event | BadEvent:  # fmt: skip
    try:
        event = codec.read(message.headers, message.value)
        if not isinstance(event.batch, kind):
            raise BadEvent("ce_type", type(event.batch).__name__, f"does not belong on {message.topic}")
        if config.partition_of and message.offset >= prior.below:
            places = [config.partition_of(count, event.cluster, event.workload) for count in config.partition_counts]
            if config.partition not in places:
                raise BadEvent(
                    "partition", config.partition,
                    f"{event.cluster}/{event.workload} belongs on partition {places[0]}: set the producer's "
                    f"partitioner to {topics.PARTITIONER} and its key to cluster/workload",
                )  # fmt: skip
        return event
    except BadEvent as error:
        return error


def _check_singly(events: list[Event | BadEvent], at: Sequence[int]) -> None:
    """Replace by its error each event that has one."""
    for i in at:
        event = events[i]
        try:
            assert isinstance(event, Event)
            event.batch.check()
        except BadEvent as error:
            events[i] = error


def _place(decoded: DecodedMessages, c: PowerColumns | TokenColumns, window_ms: int) -> int:
    """Set the event times and windows of events with rows. Return an upper bound of one event's rows times windows."""
    t_ms = np.maximum.reduceat(c.end_ms, c.starts)
    first = np.minimum.reduceat(c.begin_ms, c.starts)
    # The last instant of all rows. An empty span, which may begin where the others end, counts at its begin.
    last = np.maximum(t_ms - 1, np.maximum.reduceat(c.begin_ms, c.starts)) // window_ms
    first //= window_ms
    for i, event_ms, begin, end in zip(decoded.full, t_ms.tolist(), first.tolist(), last.tolist(), strict=True):
        if event_ms > decoded.event_ms[i]:
            decoded.event_ms[i] = event_ms
        decoded.first[i], decoded.last[i] = begin, end
    return int(((last - first + 1) * c.counts).max())


def _implausible(
    decoded: DecodedMessages, i: int, event: Event, now_ms: int, config: PartitionConfig
) -> BadEvent | None:
    if decoded.event_ms[i] > now_ms + config.skew_ms:
        return BadEvent(
            "t_ms", decoded.event_ms[i], f"is in the future by more than {config.skew_ms} ms; correct the clock"
        )
    if (decoded.last[i] - decoded.first[i] + 1) * len(event.batch) <= MAX_PIECES:
        return None
    assert not isinstance(event.batch, UsageBatch)
    start, end = _spans(event.batch)  # The exact count is more expensive, and rarely needed.
    ms = config.window_ms
    count = int((np.maximum(end - 1, start) // ms - start // ms + 1).sum())
    if count <= MAX_PIECES:
        return None
    return BadEvent("rows", len(event.batch), f"are in {count} windows together; send at most {MAX_PIECES} an event")


def touched_windows(batch: PowerBatch | TokenBatch, window_ms: int) -> I64:
    """Return the numbers of the windows that a batch's rows touch, ascending."""
    return np.unique(window_pieces(*_spans(batch), window_ms)[1])


def _spans(batch: PowerBatch | TokenBatch) -> tuple[I64, I64]:
    return (batch.t0_ms, batch.t1_ms) if isinstance(batch, PowerBatch) else (batch.t_start_ms, batch.t_end_ms)
