"""Read position and event time of each of a partition's two topics, and the watermark over both."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from contracts.errors import BadEvent, LedgerError
from contracts.events import Event
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.sequence import SequenceRuns

MAX_DIGESTS = 16_384
"""Messages of which a digest is remembered, per topic and partition: 2 MB."""


class PendingMessage(msgspec.Struct, gc=False):  # A third of a dataclass's cost, and there is one per message.
    """A message that was read and whose offset may not be committed yet.

    `last_window` is the number of the last window that its event touches (-1: none). `unpublished` is True until its
    dead letter is published, `late` until its late facts are stored.
    """

    offset: int
    last_window: int = -1
    unpublished: bool = False
    late: bool = False
    run: tuple[str, int] | None = None
    """(source, epoch) of its event; `seq` and `event_ms` are the event's number and time within that run."""
    seq: int = 0
    event_ms: int = 0
    contested: bool = False
    """True for a dead letter whose number was taken."""


@dataclass(slots=True)
class TopicProgress:
    """Progress in one topic of a partition. Times are epoch milliseconds."""

    next_offset: int
    """The offset expected next; -1 until the first message, because a log may begin anywhere."""
    runs: SequenceRuns
    event_ms: int | None = None
    """The greatest event time read so far; None before the first event."""
    arrived_ms: int = 0
    """When the last message was read, by the worker's clock."""
    pending: deque[PendingMessage] = field(default_factory=deque)
    """Messages that may not be committed yet, in offset order."""
    digests: dict[int, int] = field(default_factory=dict)
    """Of the last messages: a digest of their contents, by one of their source, epoch and number."""

    def claim_number(self, event: Event, value: bytes | None) -> BadEvent | bool:
        """Return the error for an event whose number another message of its source had; note the event otherwise.

        A copy has the same contents. Other contents mean two producers under one source, or a forged one. False: the
        number was read before, and its contents are not remembered, so the event counts as a copy.
        """
        identity, digest = hash((event.source, event.epoch, event.seq)), hash(value)
        known = self.digests.get(identity)
        if known is None:
            self.digests[identity] = digest
            return self._judge_number(event)
        if known != digest:
            return BadEvent(
                "seq", event.seq, f"another message of {event.source}, epoch {event.epoch}, had this number: give each "
                "producer a source and credentials of its own",
            )  # fmt: skip
        return True

    def _judge_number(self, event: Event) -> BadEvent | bool:
        """Judge an event whose contents were not remembered."""
        if len(self.digests) > MAX_DIGESTS:
            del self.digests[next(iter(self.digests))]
        run = self.runs.get((event.source, event.epoch))
        if run is None or event.seq not in run:
            return True
        if event.seq < run.given_up_below:
            return BadEvent(
                "seq", event.seq, f"numbers of {event.source}, epoch {event.epoch}, below {run.given_up_below} were "
                "given up as lost, so this may have been read: send it under a new epoch if it was not",
            )  # fmt: skip
        return False

    def expects(self, message: LogMessage) -> bool:
        """Return False for a message that was read before. Raises LedgerError for an offset gap: messages were lost."""
        if self.next_offset >= 0 and message.offset > self.next_offset:
            raise LedgerError(
                f"{message.topic} lost messages {self.next_offset} to {message.offset - 1}: it was trimmed before they "
                "were read (lengthen its retention), or a transactional producer wrote to it (use an idempotent one). "
                "`wattlog stream --accept-loss` goes on without them"
            )
        return message.offset >= self.next_offset

    def read(self, message: LogMessage, now_ms: int) -> PendingMessage:
        """Note that the message was read. It is pending until everything that it touches is stored."""
        self.next_offset, self.arrived_ms = message.offset + 1, now_ms
        pending = PendingMessage(message.offset)
        self.pending.append(pending)
        return pending


def watermark(states: Collection[TopicProgress], now_ms: int, config: PartitionConfig) -> int | None:
    """Return the event time up to which a partition is complete, in epoch milliseconds; None before the first event.

    It is the lower of the two topics' greatest event times, less the skew. A topic that was silent for the idle
    timeout does not hold it back. While both are silent, it advances with the clock.
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
