"""The worker's loop, apart from Faust: messages in, the ledger stored, offsets released.

One joiner a process. Two tasks share its partitions on the event loop: `ingest_forever` feeds them, `store_forever`
stores what they close. A failing store is tried again with the same flush for as long as it takes (`store`); meanwhile
reading goes on until the bounds are met, and then waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

from contracts import topics
from contracts.errors import Fenced
from contracts.settings import Settings
from streams import metrics
from streams.bounds import INBOX_BYTES, Bounds, steps
from streams.core.holes import Hole, before_hole
from streams.core.mark import Mark
from streams.core.partition import Partition
from streams.core.policy import Policy
from streams.core.reading import Config, Message, Rejected
from streams.gaps import Gaps
from streams.intake import Batch, Holes
from streams.reader import Reader
from streams.rounds import Owned, Rounds
from streams.store import LetGo, Store
from warehouse.fence import Fence
from warehouse.sink import Sink

log = logging.getLogger("wattlog.stream")

BUSY_SHOWS = 5
"""How much more seldom provisional windows are revised while more waits than was read: then they soon are final."""
REST, REST_MOST_MS = 10, 500
"""After a round that took t, the next waits for REST * t, so that rounds are few where they are dear."""
REVOKE_WAIT_S = 10.0
"""How long a rebalance waits for the write in flight."""
FENCED_SESSIONS = 3
"""Sessions of the group that a worker waits, when another has claimed a partition of its, for the group to take it away
or give it anew. After that it ends, to join anew: else nobody might store what the group thinks that it stores."""


Publish = Callable[[Rejected, int], Awaitable[None]]
"""Puts a message of a partition on the dead-letter topic and returns when the broker has it."""


class Joiner:
    """See the module. `publish` puts dead letters out, `reader` reads the log, `clock` gives epoch milliseconds."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        policy: Policy,
        log_id: str,
        publish: Publish,
        reader: Reader,
        clock: Callable[[], int],
        *,
        accept_loss: bool = False,
        name_takeover: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._accept_loss, self._name_takeover = accept_loss, name_takeover
        self._settings, self._sink, self._policy, self._log_id = settings, sink, policy, log_id
        self._publish, self._reader, self._clock = publish, reader, clock
        self._config = Config(
            settings.window_ms, settings.lateness_ms, settings.skew_ms, settings.idle_timeout_ms,
            settings.requests == "all",
        )  # fmt: skip
        self._owned: dict[int, Owned] = {}
        self._epoch = 0
        self._bounds = Bounds(settings.max_open_rows, lambda: [o.state for o in self._owned.values()])
        self._store = Store(sink, clock, settings.idle_timeout_ms, self._bounds.rows)
        self._gaps = Gaps()
        self._rounds = Rounds(self._store, self._bounds.advance, self._gaps.note, log_id, clock)
        self._fenced: tuple[int, Fenced] | None = None
        self._inbox: list[Batch] = []
        self._waiting, self._waiting_bytes, self._ingesting = 0, 0, False
        self._holes = Holes(reader, clock)
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._ready = asyncio.Event()
        self._generation = 0
        self._storing = asyncio.Lock()
        self._provisional_ms = 0
        self.messages = 0
        """Messages read so far."""
        self.rejected = 0
        """Of these, put on the dead-letter topic."""
        self.progress_ms = clock()
        """When something was last read; a watchdog looks at it."""

    # -- partitions come and go ---------------------------------------------------------------------------------------

    async def assign(self, partitions: Iterable[int], begin: Mapping[tuple[str, int], int] | None = None) -> None:
        """Take over partitions: claim them, so that no earlier owner can write any more, and then read their marks.

        `begin` says from which offset the consumer reads each (topic, partition). Where there is no mark yet, it tells
        the first message from one that follows a hole; without it, the log may begin anywhere.

        Messages that the consumer delivers meanwhile wait in `put`. A warehouse that is away is waited for.
        """
        generation, numbers = self._generation, sorted(partitions)

        def held() -> bool:
            return self._generation == generation

        with contextlib.suppress(LetGo):
            claim = partial(self._sink.claim, self._log_id, numbers, self._name_takeover())
            epoch = self._epoch = await self._store.until_taken(claim, held) if numbers else 0
            for number in numbers:
                offsets = {t: (begin or {}).get((t, number), -1) for t in topics.JOINED}
                take_over = partial(self._take_over, number, epoch, offsets)
                try:
                    owned = await self._store.until_taken(take_over, held)
                except Fenced as error:
                    if not held():
                        return  # Of an assignment that is past: it says nothing about the one of now.
                    self._note_fenced(number, error)
                    continue
                if not held():
                    return  # Given up again meanwhile.
                self._owned[number] = owned
            self._ready.set()
            metrics.PARTITIONS.set(len(self._owned))
            log.info("holding partitions %s", sorted(self._owned))

    def _take_over(self, number: int, epoch: int, begin: dict[str, int]) -> Owned:
        """What a claimed partition was left with: since the claim, nobody else can change it."""
        row = self._sink.load_mark(self._log_id, number)
        mark = Mark.load(row) if row else Mark()
        for topic, offset in begin.items():
            if mark.offsets[topic] < 0 or self._accept_loss:  # What was stored before is recognised as duplicate.
                mark.offsets[topic] = offset
        stored = self._sink.stored_keys(self._log_id, number, mark.final_end_ms)
        state = Partition(
            self._log_id, number, self._config, self._policy, epoch=epoch, mark=mark,
            stored_keys=stored, now_ms=self._clock(),
        )  # fmt: skip
        self._sink.refresh_hours_of(self._log_id, number, sorted(mark.hours))
        state.hours_refreshed()
        self._sink.write("marks", state.mark_row(), Fence(self._log_id, (number,), epoch))
        return Owned(state)

    def _note_fenced(self, number: int, error: Fenced) -> None:
        """Drop a partition that another worker has claimed. Nothing of it is acknowledged: the other stores it."""
        self._owned.pop(number, None)
        self._fenced = self._fenced or (self._clock(), error)
        metrics.FENCED.inc()
        metrics.WATERMARK_LAG.clear()
        metrics.PARTITIONS.set(len(self._owned))
        log.error("%s; dropped what was read of it here, and nothing of it is committed", error)

    async def revoke(self) -> None:
        """Let go of everything, after the write in flight. What was not acknowledged, its next owner reads again."""
        try:
            await asyncio.wait_for(self._storing.acquire(), REVOKE_WAIT_S)
            self._storing.release()
        except TimeoutError:
            log.warning("gave partitions up while a write was in flight: the next owner waits for its end")
        if self._owned:
            metrics.REBALANCES.inc()
        self._generation += 1
        self._gaps.clear()
        metrics.WATERMARK_LAG.clear()
        self._fenced = None
        self._ready.clear()
        self._owned.clear()
        self._rounds.forget()
        self._inbox.clear()
        self._waiting = self._waiting_bytes = 0
        self._holes.clear()
        self._room.set()
        metrics.PARTITIONS.set(0)

    def stalled_ms(self) -> int:
        """How long messages have been waiting without any being read or any window stored; 0 if none wait."""
        moved_ms = max(self.progress_ms, self._rounds.stored_ms, self._store.outage.refused_ms)
        return self._clock() - moved_ms if self._inbox else 0

    @property
    def idle(self) -> bool:
        """Everything that was put has been looked at."""
        return not (self._inbox or self._ingesting)

    @property
    def partitions(self) -> list[int]:
        return sorted(self._owned)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def put(self, topic: str, partition: int, messages: Sequence[Message], begin: int | None = None) -> None:
        """Take messages of one place, in offset order; waits while the worker is full, or is still being assigned.

        With `begin`, the reader vouches that they are all that the log holds from that offset up to the last of them.

        What waited here while the partitions were given up is dropped: it was not acknowledged, so it comes again, and
        in the hands of the next owner it would look like a hole in the log.
        """
        generation = self._generation
        while not (self._room.is_set() and self._ready.is_set()):
            await self._ready.wait()
            await self._room.wait()
            if self._generation != generation:
                return
        self._inbox.append(Batch(topic, partition, messages, begin))
        self._waiting += len(messages)
        self._waiting_bytes += sum(len(m.value) for m in messages if m.value)
        if self._waiting >= self._settings.batch_messages:
            self._arrived.set()
        if self._waiting >= 4 * self._settings.batch_messages or self._waiting_bytes >= INBOX_BYTES:
            self._room.clear()

    async def ingest_forever(self) -> None:
        """Feed partitions in steps of `batch_messages` messages or `batch_wait_ms`, whichever is first."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), self._settings.batch_wait_ms / 1000)
            self._arrived.clear()
            await self._holes.chase()
            await self._until_room()
            inbox, self._inbox = self._inbox, []
            self._waiting = self._waiting_bytes = 0
            self._room.set()
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
            for owned in self._owned.values():
                owned.state.waited(now_ms - since_ms)
            since_ms = now_ms
        metrics.PAUSED.set(0)

    async def _ingest(self, inbox: Sequence[Batch]) -> None:
        generation = self._generation
        self.progress_ms = self._clock()
        by_partition: dict[int, list[Batch]] = {}
        for batch in inbox:
            by_partition.setdefault(batch.partition, []).append(batch)
        for number, batches in by_partition.items():
            if (owned := self._owned.get(number)) is not None:  # Else its next owner reads it.
                await self._take(number, owned.state, batches)
            if self._generation != generation:
                return  # The rest comes again, to the next owner.

    async def _take(self, number: int, state: Partition, batches: Iterable[Batch]) -> None:
        """Feed one partition. At a hole, what came before is fed first; what follows waits for what the hole is."""
        generation = self._generation
        expected = {t: state.next_offset(t) for t in topics.JOINED}
        ready: list[Message] = []
        for batch in batches:
            topic, messages = batch.topic, self._holes.fresh(batch)
            while messages:
                count, expected[topic] = before_hole(expected[topic], messages)
                ready += messages[:count]
                messages = messages[count:]
                if not messages:
                    break
                await self._feed(number, state, ready)
                if self._generation != generation:
                    return
                ready, hole = [], Hole(topic, number, expected[topic], messages[0].offset)
                nothing = await self._holes.settle(hole, batch)
                if self._generation != generation:
                    return
                if not nothing:
                    break
                state.skip(topic, hole.got)
                expected[topic] = hole.got
        await self._feed(number, state, ready)

    async def _feed(self, number: int, state: Partition, messages: Sequence[Message]) -> None:
        generation = self._generation
        for step in steps(messages):
            await self._until_room()
            if self._generation == generation:
                await self._feed_step(number, state, step)
            if self._generation != generation:
                return

    async def _feed_step(self, number: int, state: Partition, messages: Sequence[Message]) -> None:
        generation = self._generation
        rejected = state.ingest(messages, self._clock())
        self.messages += len(messages)
        metrics.MESSAGES.inc(len(messages))
        for one in rejected:
            log.warning("dead letter: %s offset %d: %s", one.message.topic, one.message.offset, one.error)
            await self._publish(one, number)
            if self._generation != generation:
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
            await self.store_once(busy=busy)
            rest_ms = 0 if self._bounds.cut else min(REST * (self._clock() - begun_ms), REST_MOST_MS)
            await asyncio.sleep(max(rest_ms, self._settings.batch_wait_ms) / 1000)

    async def store_once(self, *, busy: bool = False) -> None:
        """One round over the partitions held; with their provisional windows every `provisional_ms`. While `busy`, what
        can wait does."""
        now_ms = self._clock()
        self._check_fenced(now_ms)
        self._bounds.begin_round()
        catching_up = busy and bool(self._inbox)
        wait_ms = self._settings.provisional_ms * (BUSY_SHOWS if catching_up else 1)
        due = now_ms - self._provisional_ms >= wait_ms
        # Windows that would be final by the clock soon are: nobody needs to see them before.
        show = due and not (catching_up and self._lag_ms(now_ms) > self._settings.lateness_ms)
        async with self._storing:
            generation = self._generation
            if self._owned:
                with contextlib.suppress(LetGo):
                    lost = await self._rounds.run(
                        self._owned, self._epoch, now_ms, lambda: self._generation == generation,
                        show=show, busy=busy,
                    )  # fmt: skip
                    if self._generation == generation:
                        self._conclude(lost)
        if due:
            self._provisional_ms = now_ms
            self._store.round(self._lag_ms(now_ms), any(o.state.behind(now_ms) for o in self._owned.values()))
            self._export(now_ms)
            self._bounds.show(now_ms)

    def _conclude(self, lost: Mapping[int, Fenced]) -> None:
        """Acknowledge what is stored, and drop what others store."""
        for number, error in lost.items():
            self._note_fenced(number, error)
        if not self._rounds.hours_due:
            for number, owned in self._owned.items():
                self._acknowledge(number, owned)

    def _check_fenced(self, now_ms: int) -> None:
        if self._fenced is not None and now_ms - self._fenced[0] > FENCED_SESSIONS * self._settings.session_timeout_ms:
            raise self._fenced[1]

    def _lag_ms(self, now_ms: int) -> int:
        """How far the slowest partition's watermark is behind the clock."""
        watermarks = (o.state.watermark(now_ms) for o in self._owned.values())
        return max((now_ms - w for w in watermarks if w is not None), default=0)

    def _acknowledge(self, number: int, owned: Owned) -> None:
        """Tell the reader what is stored."""
        stored = {t: o for t, o in owned.state.committable().items() if o > owned.acknowledged.get(t, -1)}
        if stored:
            self._reader.acknowledge({(topic, number): offset for topic, offset in stored.items()})
            owned.acknowledged.update(stored)

    def _export(self, now_ms: int) -> None:
        for number, owned in self._owned.items():
            if (watermark := owned.state.watermark(now_ms)) is not None:
                metrics.WATERMARK_LAG.labels(str(number)).set((now_ms - watermark) / 1000)
        for topic, missing in self._gaps.by_topic():
            metrics.SEQUENCE_GAPS.labels(topic).set(missing)
        counters = [o.state.counters() for o in self._owned.values()]
        metrics.DUPLICATES.set(sum(c.duplicates for c in counters))
        metrics.LATE.set(sum(c.late for c in counters))
        metrics.OPEN_WINDOWS.set(sum(c.open_windows for c in counters))
        metrics.UNACKED.set(sum(o.state.pending for o in self._owned.values()))
