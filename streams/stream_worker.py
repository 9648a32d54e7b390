"""The worker's two loops, apart from Faust: messages in; rows stored and offsets committed.

There is one stream worker per process. Two tasks of its event loop share the owned partitions (`assignment`):
`ingest_forever` feeds them delivered messages, `store_forever` flushes what they close. A failing warehouse is retried
with the same flush for as long as it takes (`retrying_sink`). Meanwhile reading continues until the worker is full
(`memory_bounds`), and then waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from contracts import topics
from contracts.number_claims import NumberClaim
from contracts.settings import Settings
from streams import dead_letters, metrics
from streams.assignment import Assignment, new_takeover_name
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.core.offset_gaps import OffsetGap, before_gap
from streams.core.partition import Partition
from streams.flush import Flusher
from streams.inbox import DeliveredBatch, Inbox
from streams.lag import LagMonitor
from streams.log_reader import LogReader, TopicPartition
from streams.memory_bounds import MemoryBounds, steps
from streams.offset_gap_resolver import OffsetGapResolver
from streams.retrying_sink import OwnershipLost, RetryingSink
from streams.sequence_gaps import SequenceGaps
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

BUSY_PROVISIONAL_FACTOR = 5
"""Factor on the interval of provisional windows while the worker is behind: they soon are final."""
IDLE_FACTOR, IDLE_MAX_MS = 10, 500
"""After a flush that took t, the next one waits for IDLE_FACTOR * t: flushes are rare where they are slow."""
REVOKE_WAIT_S = 10.0
"""How long a rebalance waits for the write in flight."""

Publish = Callable[[RejectedMessage, int], Awaitable[None]]
"""Puts a message of a partition on the dead-letter topic, and returns when the broker has it."""


class _GapBefore(NamedTuple):
    """An offset gap, and the batch whose next message is behind it."""

    gap: OffsetGap
    batch: DeliveredBatch


class StreamWorker:
    """Partitions from assignment to rebalance. `clock` gives epoch milliseconds.

    `publish` publishes dead letters, `reader` reads the log. Tests replace `name_takeover`.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        policy: Policy,
        log_id: str,
        publish: Publish,
        reader: LogReader,
        clock: Callable[[], int],
        *,
        accept_loss: bool = False,
        name_takeover: Callable[[], str] = new_takeover_name,
    ) -> None:
        self._settings, self._publish, self._reader, self._clock = settings, publish, reader, clock
        self._bounds = MemoryBounds(settings.max_open_rows, lambda: self._assignment.partitions())
        self._sink = RetryingSink(sink, clock, settings.idle_timeout_ms, self._bounds.rows)
        self._assignment = Assignment(
            settings, sink, self._sink, policy, log_id, clock, accept_loss=accept_loss, name_takeover=name_takeover
        )
        self._sequence_gaps = SequenceGaps()
        self._flusher = Flusher(
            self._sink, self._bounds.advance, self._sequence_gaps.note, log_id, clock, settings.max_age_ms
        )
        self._inbox = Inbox(settings.batch_messages)
        self._gap_resolver = OffsetGapResolver(reader, clock)
        self._ingesting = False
        self._storing = asyncio.Lock()
        self._lag = LagMonitor(self._assignment, self._sequence_gaps, settings.lateness_ms)
        self.messages = 0
        """Number of messages ingested so far."""
        self.rejected = 0
        """Number of these that were put on the dead-letter topic."""
        self.progress_ms = clock()
        """When something was last read, in epoch milliseconds."""

    # -- assignment ---------------------------------------------------------------------------------------------------

    async def assign(
        self, partitions: Iterable[int], begin: Mapping[TopicPartition, int] | None = None, *, of: int = 0
    ) -> None:
        """Take over partitions: see `Assignment.take_over`. Messages delivered meanwhile wait in `put`.

        `begin` is the offset from which the consumer reads each topic and partition. Where there is no checkpoint yet,
        it distinguishes the first message from one behind an offset gap. Without it, the log may begin anywhere. `of`
        is the number of partitions of each topic, 0 where events may be on any.
        """
        if await self._assignment.take_over(partitions, begin or {}, of):
            self._inbox.open()

    async def revoke(self) -> None:
        """Drop all partitions after the write in flight: a rebalance takes them away.

        Their next owner reads again what was not committed.
        """
        try:
            await asyncio.wait_for(self._storing.acquire(), REVOKE_WAIT_S)
            self._storing.release()
        except TimeoutError:
            log.warning("gave partitions up while a write was in flight: the next owner waits for its end")
        self._assignment.drop_all()
        self._inbox.close()
        self._gap_resolver.clear()
        self._flusher.clear_hours()
        self._sequence_gaps.clear()

    def stalled_ms(self) -> int:
        """Return for how long messages have waited while nothing was read or stored; 0 if none wait."""
        moved_ms = max(self.progress_ms, self._flusher.stored_ms, self._sink.outage.refused_ms)
        return self._clock() - moved_ms if self._inbox else 0

    @property
    def idle(self) -> bool:
        """True if all delivered messages are ingested, or dropped."""
        return not (self._inbox or self._ingesting)

    @property
    def partitions(self) -> list[int]:
        """Numbers of the partitions that are owned."""
        return sorted(self._assignment.owned)

    # -- ingest -------------------------------------------------------------------------------------------------------

    async def put(self, topic: str, partition: int, messages: Sequence[LogMessage], begin: int | None = None) -> None:
        """Deliver messages of one partition, in offset order. Waits while the worker is full, or has no partitions.

        With `begin`, the reader guarantees that they are all messages on the log from that offset to the last of them.
        """
        await self._inbox.put(DeliveredBatch(topic, partition, messages, begin))

    async def ingest_forever(self) -> None:
        """Feed partitions in steps of `batch_messages` messages or `batch_wait_ms`, whichever is first."""
        while True:
            await self._inbox.wait_for_step(self._settings.batch_wait_ms)
            await self._gap_resolver.retry_overdue()
            await self._until_room()
            batches = self._inbox.take_all()
            if batches:
                self._ingesting = True
                await self._ingest(batches)
                self._ingesting = False

    async def _until_room(self) -> None:
        """Wait while the worker is full, until `store_forever` has made room. This time is no silence of the topics."""
        since_ms = self._clock()
        while self._bounds.full():
            metrics.PAUSED.set(1)
            await asyncio.sleep(self._settings.batch_wait_ms / 1000)
            now_ms = self._clock()
            for partition in self._assignment.partitions():
                partition.progress.exclude_wait(now_ms - since_ms)
            since_ms = now_ms
        metrics.PAUSED.set(0)

    async def _ingest(self, batches: Iterable[DeliveredBatch]) -> None:
        """Feed delivered batches to their partitions.

        A rebalance may take the partitions away during each await. The messages left are dropped then: nothing of them
        was committed, so their next owner reads them again.
        """
        still_owned = self._assignment.ownership_check()
        self.progress_ms = self._clock()
        by_partition: dict[int, list[DeliveredBatch]] = {}
        for batch in batches:
            by_partition.setdefault(batch.partition, []).append(batch)
        for number, delivered in by_partition.items():
            assigned = self._assignment.owned.get(number)
            if assigned is None:
                continue  # Not owned: its owner reads these messages.
            partition = assigned.partition
            for step in self._steps(partition, delivered):
                if isinstance(step, _GapBefore):
                    nothing_missing = await self._gap_resolver.resolve(step.gap, step.batch)
                    if not still_owned():
                        return
                    if nothing_missing:
                        partition.progress.skip_to(step.gap.topic, step.gap.got)
                    continue
                await self._until_room()
                if not still_owned():
                    return
                rejected = partition.ingest(step, self._clock())
                self._count(len(step))
                for message in rejected:
                    await self._publish_dead_letter(message, number)
                    if not still_owned():
                        return
                    self._count_rejected(message)
                partition.progress.dead_letters_published({(r.message.topic, r.message.offset) for r in rejected})

    def _steps(
        self, partition: Partition, batches: Iterable[DeliveredBatch]
    ) -> Iterator[Sequence[LogMessage] | _GapBefore]:
        """Yield the messages of a partition in steps without a gap, and each offset gap between them.

        If the caller skips a gap, the messages behind it follow. If not, the remainder of that batch is dropped: the
        gap is being read again, from its beginning.
        """
        expected = {t: partition.progress.next_offset(t) for t in topics.JOINED}
        ready: list[LogMessage] = []
        for batch in batches:
            topic, messages = batch.topic, self._gap_resolver.drop_stale(batch)
            while messages:
                count, expected[topic] = before_gap(expected[topic], messages)
                ready += messages[:count]
                messages = messages[count:]
                if messages:
                    yield from steps(ready)
                    ready = []
                    gap = OffsetGap(topic, batch.partition, expected[topic], messages[0].offset)
                    yield _GapBefore(gap, batch)
                    if partition.progress.next_offset(topic) != gap.got:
                        break
                    expected[topic] = gap.got
        yield from steps(ready)

    def _count(self, messages: int) -> None:
        self.messages += messages
        metrics.MESSAGES.inc(messages)

    async def _publish_dead_letter(self, message: RejectedMessage, number: int) -> None:
        log.warning("dead letter: %s offset %d: %s", message.message.topic, message.message.offset, message.error)
        await self._publish(message, number)

    def _count_rejected(self, message: RejectedMessage) -> None:
        self.rejected += 1
        dead_letters.count_published(message.error)

    def take_claims(self) -> list[NumberClaim]:
        """Return numbers of sources that more than one message claims, for notices to their producers."""
        now_ms = self._clock()
        return [claim for partition in self._assignment.partitions() for claim in partition.claims.take(now_ms)]

    # -- store --------------------------------------------------------------------------------------------------------

    async def store_forever(self) -> None:
        """Flush, rest, and flush again."""
        messages_before = 0
        while True:
            begun_ms = self._clock()
            busy, messages_before = self.messages != messages_before, self.messages
            # One step or flush may take longer than any interval that would be reasonable to wait for a message.
            reading = busy or not self.idle or begun_ms - self.progress_ms <= self._settings.provisional_ms
            await self.store_once(busy=busy, reading=reading)
            rest_ms = 0 if self._bounds.exhausted else min(IDLE_FACTOR * (self._clock() - begun_ms), IDLE_MAX_MS)
            await asyncio.sleep(max(rest_ms, self._settings.batch_wait_ms) / 1000)

    async def store_once(self, *, busy: bool = False, reading: bool = False) -> None:
        """Flush the owned partitions, with their provisional windows every `provisional_ms`; commit stored offsets.

        `busy`: messages were read since the last flush, so work that can wait does. `reading`: some were read lately.
        Raises Fenced when a partition was lost and no rebalance followed.
        """
        now_ms = self._clock()
        self._assignment.check_fenced(now_ms)
        self._bounds.begin_flush()
        interval_ms = self._settings.provisional_ms * (BUSY_PROVISIONAL_FACTOR if busy and self._inbox else 1)
        due = now_ms - self._lag.sampled_ms >= interval_ms
        # In a backlog, provisional rows are soon replaced, and storing them would delay a full worker further.
        show = due and not (reading and self._lag.catching_up(now_ms, idle=self.idle))
        async with self._storing:
            assignment, still_owned = self._assignment, self._assignment.ownership_check()
            if assignment.owned:
                with contextlib.suppress(OwnershipLost):
                    lost = await self._flusher.flush(
                        assignment.owned, assignment.epoch, now_ms, still_owned, show=show, busy=busy
                    )
                    if still_owned():
                        for number, error in lost.items():
                            assignment.drop(number, error)
                        # The rule of commits is in `streams.assignment`.
                        if not self._flusher.hours_due and (offsets := assignment.take_committable()):
                            self._reader.commit(offsets)
        if due:
            overdue = any(partition.overdue(now_ms) for partition in self._assignment.partitions())
            self._sink.note_lag(self._lag.lag_ms(now_ms), overdue)
            self._lag.sample(now_ms)
            self._bounds.export(now_ms)
