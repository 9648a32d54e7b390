"""The worker's loop, apart from Faust: messages in, the ledger stored, offsets released.

One stream worker a process. Two tasks share its partitions (`holding`) on the event loop: `ingest_forever` feeds them,
`store_forever` stores what they close. A failing store is tried again with the same flush for as long as it takes
(`store`); meanwhile reading goes on until the bounds are met, and then waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from contracts import topics
from contracts.errors import Fenced
from contracts.settings import Settings
from streams import metrics
from streams.assignment import AssignedPartition, Assignment, new_takeover_name
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.core.offset_gaps import OffsetGap, before_gap
from streams.core.partition import Partition
from streams.flush import Flusher
from streams.inbox import DeliveredBatch, Inbox, OffsetGapResolver
from streams.log_reader import LogReader, TopicPartition
from streams.memory_bounds import MemoryBounds, steps
from streams.retrying_sink import OwnershipLost, RetryingSink
from streams.sequence_gaps import SequenceGaps
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

BUSY_PROVISIONAL_FACTOR = 5
"""How much more seldom provisional windows are revised while more waits than was read: then they soon are final."""
IDLE_FACTOR, IDLE_MAX_MS = 10, 500
"""After a round that took t, the next waits for REST * t, so that rounds are few where they are dear."""
REVOKE_WAIT_S = 10.0
"""How long a rebalance waits for the write in flight."""

Publish = Callable[[RejectedMessage, int], Awaitable[None]]
"""Puts a message of a partition on the dead-letter topic and returns when the broker has it."""


class StreamWorker:
    """See the module. `publish` puts dead letters out, `reader` reads the log, `clock` gives epoch milliseconds."""

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
        self._bounds = MemoryBounds(settings.max_open_rows, lambda: self._assignment.states())
        self._store = RetryingSink(sink, clock, settings.idle_timeout_ms, self._bounds.rows)
        self._assignment = Assignment(
            settings, sink, self._store, policy, log_id, clock, accept_loss=accept_loss, name_takeover=name_takeover
        )
        self._gaps = SequenceGaps()
        self._flusher = Flusher(self._store, self._bounds.advance, self._gaps.note, log_id, clock)
        self._inbox = Inbox(settings.batch_messages)
        self._gap_resolver = OffsetGapResolver(reader, clock)
        self._ingesting = False
        self._storing = asyncio.Lock()
        self._provisional_ms = self._heard_ms = 0
        """When provisional windows were last due, and `_event_ms` then."""
        self.messages = 0
        """Messages read so far."""
        self.rejected = 0
        """Of these, put on the dead-letter topic."""
        self.progress_ms = clock()
        """When something was last read; a watchdog looks at it."""

    # -- partitions come and go ---------------------------------------------------------------------------------------

    async def assign(self, partitions: Iterable[int], begin: Mapping[TopicPartition, int] | None = None) -> None:
        """Take over partitions: claim them, so that no earlier owner can write any more, and then read their marks.

        `begin` says from which offset the consumer reads each (topic, partition). Where there is no mark yet, it tells
        the first message from one that follows a hole; without it, the log may begin anywhere.

        Messages that the consumer delivers meanwhile wait in `put`. A warehouse that is away is waited for.
        """
        if await self._assignment.take_over(partitions, begin or {}):
            self._inbox.open()

    async def revoke(self) -> None:
        """Let go of everything, after the write in flight. What was not acknowledged, its next owner reads again."""
        try:
            await asyncio.wait_for(self._storing.acquire(), REVOKE_WAIT_S)
            self._storing.release()
        except TimeoutError:
            log.warning("gave partitions up while a write was in flight: the next owner waits for its end")
        self._assignment.give_up()
        self._inbox.close()
        self._gap_resolver.clear()
        self._flusher.forget()
        self._gaps.clear()

    def stalled_ms(self) -> int:
        """How long messages have been waiting without any being read or any window stored; 0 if none wait."""
        moved_ms = max(self.progress_ms, self._flusher.stored_ms, self._store.outage.refused_ms)
        return self._clock() - moved_ms if self._inbox else 0

    @property
    def idle(self) -> bool:
        """Everything that was put has been looked at."""
        return not (self._inbox or self._ingesting)

    @property
    def partitions(self) -> list[int]:
        return sorted(self._assignment.owned)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def put(self, topic: str, partition: int, messages: Sequence[LogMessage], begin: int | None = None) -> None:
        """Take messages of one place, in offset order; waits while the worker is full, or is still being assigned.

        With `begin`, the reader vouches that they are all that the log holds from that offset up to the last of them.
        """
        await self._inbox.put(DeliveredBatch(topic, partition, messages, begin))

    async def ingest_forever(self) -> None:
        """Feed partitions in steps of `batch_messages` messages or `batch_wait_ms`, whichever is first."""
        while True:
            await self._inbox.arrival(self._settings.batch_wait_ms)
            await self._gap_resolver.chase()
            await self._until_room()
            inbox = self._inbox.take()
            if inbox:
                self._ingesting = True
                await self._ingest(inbox)
                self._ingesting = False

    async def _until_room(self) -> None:
        """Wait while the worker is full, until `store_forever` has made room. What waits meanwhile is not silent."""
        since_ms = self._clock()
        while self._bounds.full():
            metrics.PAUSED.set(1)
            await asyncio.sleep(self._settings.batch_wait_ms / 1000)
            now_ms = self._clock()
            for state in self._assignment.states():
                state.waited(now_ms - since_ms)
            since_ms = now_ms
        metrics.PAUSED.set(0)

    async def _ingest(self, inbox: Sequence[DeliveredBatch]) -> None:
        held = self._assignment.as_now()
        self.progress_ms = self._clock()
        by_partition: dict[int, list[DeliveredBatch]] = {}
        for batch in inbox:
            by_partition.setdefault(batch.partition, []).append(batch)
        for number, batches in by_partition.items():
            if (owned := self._assignment.owned.get(number)) is not None:  # Else its next owner reads it.
                await self._take(number, owned.state, batches)
            if not held():
                return  # The rest comes again, to the next owner.

    async def _take(self, number: int, state: Partition, batches: Iterable[DeliveredBatch]) -> None:
        """Feed one partition. At a hole, what came before is fed first; what follows waits for what the hole is."""
        held = self._assignment.as_now()
        expected = {t: state.next_offset(t) for t in topics.JOINED}
        ready: list[LogMessage] = []
        for batch in batches:
            topic, messages = batch.topic, self._gap_resolver.fresh(batch)
            while messages:
                count, expected[topic] = before_gap(expected[topic], messages)
                ready += messages[:count]
                messages = messages[count:]
                if not messages:
                    break
                await self._feed(number, state, ready)
                if not held():
                    return
                ready, hole = [], OffsetGap(topic, number, expected[topic], messages[0].offset)
                nothing = await self._gap_resolver.settle(hole, batch)
                if not held():
                    return
                if not nothing:
                    break
                state.skip(topic, hole.got)
                expected[topic] = hole.got
        await self._feed(number, state, ready)

    async def _feed(self, number: int, state: Partition, messages: Sequence[LogMessage]) -> None:
        held = self._assignment.as_now()
        for step in steps(messages):
            await self._until_room()
            if held():
                await self._feed_step(number, state, step)
            if not held():
                return

    async def _feed_step(self, number: int, state: Partition, messages: Sequence[LogMessage]) -> None:
        held = self._assignment.as_now()
        rejected = state.ingest(messages, self._clock())
        self.messages += len(messages)
        metrics.MESSAGES.inc(len(messages))
        for one in rejected:
            log.warning("dead letter: %s offset %d: %s", one.message.topic, one.message.offset, one.error)
            await self._publish(one, number)
            if not held():
                return
            self.rejected += 1
            metrics.DEAD_LETTERS.labels(one.error.field.partition("[")[0][:40]).inc()
        state.published(rejected)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def store_forever(self) -> None:
        """Store what partitions close and release offsets, round after round; busy while messages come between them."""
        seen = 0
        while True:
            begun_ms, busy, seen = self._clock(), self.messages != seen, self.messages
            # A step, or a round, may take longer than any interval that one could wait for the next message.
            reading = busy or not self.idle or begun_ms - self.progress_ms <= self._settings.provisional_ms
            await self.store_once(busy=busy, reading=reading)
            rest_ms = 0 if self._bounds.cut else min(IDLE_FACTOR * (self._clock() - begun_ms), IDLE_MAX_MS)
            await asyncio.sleep(max(rest_ms, self._settings.batch_wait_ms) / 1000)

    async def store_once(self, *, busy: bool = False, reading: bool = False) -> None:
        """One round over the partitions held; with their provisional windows every `provisional_ms`. While `busy`
        (messages came since the last round), what can wait does; `reading`: some came of late."""
        now_ms = self._clock()
        self._assignment.check_lost(now_ms)
        self._bounds.begin_round()
        interval_ms = self._settings.provisional_ms * (BUSY_PROVISIONAL_FACTOR if busy and self._inbox else 1)
        due = now_ms - self._provisional_ms >= interval_ms
        # Windows that would be final by the clock soon are: nobody needs to see them before.
        show = due and not (reading and self._catching_up(now_ms))
        async with self._storing:
            held, holding = self._assignment.as_now(), self._assignment
            if holding.owned:
                with contextlib.suppress(OwnershipLost):
                    lost = await self._flusher.run(holding.owned, holding.epoch, now_ms, held, show=show, busy=busy)
                    if held():
                        self._conclude(lost)
        if due:
            self._provisional_ms, self._heard_ms = now_ms, self._event_ms()
            self._store.round(self._lag_ms(now_ms), any(s.behind(now_ms) for s in self._assignment.states()))
            self._export(now_ms)
            self._bounds.show(now_ms)

    def _conclude(self, lost: Mapping[int, Fenced]) -> None:
        """Acknowledge what is stored, and drop what others store."""
        for number, error in lost.items():
            self._assignment.lose(number, error)
        if not self._flusher.hours_due:
            for number, owned in self._assignment.owned.items():
                self._acknowledge(number, owned)

    def _catching_up(self, now_ms: int) -> bool:
        """Behind by more than the lateness, and either more is in hand, or event time goes twice as fast as the clock:
        the log hands out what it holds. To store what is soon replaced would hold a full worker back further."""
        since_ms = now_ms - (self._provisional_ms or now_ms)
        clocks = len(topics.JOINED) * len(self._assignment.states())
        running = self._event_ms() - self._heard_ms > 2 * clocks * since_ms
        return (running or not self.idle) and self._lag_ms(now_ms) > self._settings.lateness_ms

    def _event_ms(self) -> int:
        """The event times of all topics and partitions, added up."""
        return sum(state.heard_ms for state in self._assignment.states())

    def _lag_ms(self, now_ms: int) -> int:
        """How far the slowest partition's watermark is behind the clock."""
        watermarks = (state.watermark(now_ms) for state in self._assignment.states())
        return max((now_ms - w for w in watermarks if w is not None), default=0)

    def _acknowledge(self, number: int, owned: AssignedPartition) -> None:
        """Tell the reader what is stored."""
        stored = {t: o for t, o in owned.state.committable().items() if o > owned.acknowledged.get(t, -1)}
        if stored:
            self._reader.acknowledge({(topic, number): offset for topic, offset in stored.items()})
            owned.acknowledged.update(stored)

    def _export(self, now_ms: int) -> None:
        for number, owned in self._assignment.owned.items():
            if (watermark := owned.state.watermark(now_ms)) is not None:
                metrics.WATERMARK_LAG.labels(str(number)).set((now_ms - watermark) / 1000)
        for gap in self._gaps.lasting(now_ms):
            log.warning("%s; `wattlog audit` knows of all time", gap)
        for topic, missing in self._gaps.by_topic():
            metrics.SEQUENCE_GAPS.labels(topic).set(missing)
        states = self._assignment.states()
        counters = [state.counters() for state in states]
        metrics.DUPLICATES.set(sum(c.duplicates for c in counters))
        metrics.LATE.set(sum(c.late for c in counters))
        metrics.OPEN_WINDOWS.set(sum(c.open_windows for c in counters))
        metrics.UNACKED.set(sum(state.pending for state in states))
