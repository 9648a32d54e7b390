"""Messages as they were delivered: those that wait to be taken in, and what is done about holes between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.errors import LedgerError
from streams import metrics
from streams.core.decoding import LogMessage
from streams.core.offset_gaps import GapKind, OffsetGap, classify_gap, loss_error
from streams.log_reader import LogReader, TopicPartition

log = logging.getLogger("wattlog.stream")

INBOX_STEPS, INBOX_BYTES = 4, 64 * 2**20
"""Steps and payload in hand, not yet taken in, at which reading waits."""
REREADS = 5
"""How often the same hole is read again before the worker ends: messages are on the log that do not come."""
REREAD_WAIT_MS = 5_000
"""A re-read that has not begun after this long was dropped too: it is asked for again."""


@dataclass(slots=True)
class DeliveredBatch:
    """Messages of one place, in offset order."""

    topic: str
    partition: int
    messages: Sequence[LogMessage]
    begin: int | None
    """From where the reader vouches for them: what the log holds at `begin` and after is here, up to the last."""


class Inbox:
    """What was delivered and is not taken in yet, of partitions that are held. A step is `batch_messages`."""

    def __init__(self, batch_messages: int) -> None:
        self._step = batch_messages
        self._batches: list[DeliveredBatch] = []
        self._messages = self._bytes = 0
        self._generation = 0
        self._open, self._room, self._arrived = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def open(self) -> None:
        """Partitions are held: messages may come."""
        self._open.set()

    def close(self) -> None:
        """Partitions were given up, and with them what waits here, or to come in: it was not acknowledged, so it comes
        again, and in the hands of the next owner it would look like a hole in the log."""
        self._generation += 1
        self._open.clear()
        self.take()

    async def put(self, batch: DeliveredBatch) -> None:
        """Waits for room, and while no partition is held."""
        generation = self._generation
        while not (self._room.is_set() and self._open.is_set()):
            await self._open.wait()
            await self._room.wait()
            if self._generation != generation:
                return
        self._batches.append(batch)
        self._messages += len(batch.messages)
        self._bytes += sum(len(m.value) for m in batch.messages if m.value)
        if self._messages >= self._step:
            self._arrived.set()
        if self._messages >= INBOX_STEPS * self._step or self._bytes >= INBOX_BYTES:
            self._room.clear()

    async def arrival(self, most_ms: float) -> None:
        """Returns when a step has come, or after this long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), most_ms / 1000)
        self._arrived.clear()

    def take(self) -> list[DeliveredBatch]:
        """All that came since the last time, in order; makes room."""
        batches, self._batches = self._batches, []
        self._messages = self._bytes = 0
        self._room.set()
        return batches


class OffsetGapResolver:
    """Settles holes with the log and its reader, and tells what comes from before a re-read from what comes after."""

    def __init__(self, reader: LogReader, clock: Callable[[], int]) -> None:
        self._reader, self._clock = reader, clock
        self._generation = 0
        self._last_seen: dict[TopicPartition, int] = {}
        self._awaited: dict[TopicPartition, tuple[OffsetGap, int]] = {}
        """The holes that are being read again, and since when (ms)."""
        self._tries: dict[TopicPartition, tuple[int, int]] = {}

    def clear(self) -> None:
        """Partitions were given up: their next owner begins at the committed offsets."""
        self._generation += 1
        self._last_seen.clear()
        self._awaited.clear()
        self._tries.clear()

    def fresh(self, batch: DeliveredBatch) -> Sequence[LogMessage]:
        """The batch's messages; while a re-read is awaited, none of those that were under way before it.

        Offsets ascend. Where one does not, the re-read has begun.
        """
        place = batch.topic, batch.partition
        last = self._last_seen.get(place)
        if last is None:
            return batch.messages
        for n, message in enumerate(batch.messages):
            if message.offset <= last:
                del self._last_seen[place], self._awaited[place]
                return batch.messages[n:]
            last = message.offset
        self._last_seen[place] = last
        return ()

    async def chase(self) -> None:
        """Ask again for re-reads that have not begun in time. Raises LedgerError when that was often enough."""
        for place, (hole, since_ms) in list(self._awaited.items()):
            if self._clock() - since_ms > REREAD_WAIT_MS and self._awaited.get(place) == (hole, since_ms):
                await self._read_again(hole, self._last_seen[place])

    async def settle(self, hole: OffsetGap, batch: DeliveredBatch) -> bool:
        """True: nothing is missing, go on behind the hole. False: it is being read again, drop what follows it.

        Raises LedgerError for what the log lost.
        """
        if batch.begin is not None and batch.begin <= hole.expected:
            return self._empty(hole)
        generation = self._generation
        found = await self._reader.look(hole.topic, hole.partition, hole.expected)
        if self._generation != generation:
            return False
        verdict = classify_gap(hole, *found)
        if verdict is GapKind.LOST:
            raise loss_error(hole, found.earliest)
        if verdict is GapKind.EMPTY:
            return self._empty(hole)
        await self._read_again(hole, batch.messages[-1].offset)
        return False

    def _empty(self, hole: OffsetGap) -> bool:
        metrics.EMPTY_OFFSETS.inc(hole.got - hole.expected)
        return True

    async def _read_again(self, hole: OffsetGap, last: int) -> None:
        place = hole.topic, hole.partition
        expected, tries = self._tries.get(place, (hole.expected, 0))
        tries = tries + 1 if expected == hole.expected else 1
        if tries > REREADS:
            raise LedgerError(
                f"{hole.topic} partition {hole.partition}: messages {hole.expected} to {hole.got - 1} are on the log, "
                f"but were not delivered in {REREADS} re-reads. Start the worker again; it goes on where it stored last"
            )
        self._tries[place] = hole.expected, tries
        self._last_seen[place] = last
        self._awaited[place] = hole, self._clock()
        metrics.REREADS.inc()
        log.warning("%s partition %d: %d came, %d was due; reading again", *place, hole.got, hole.expected)
        await self._reader.seek(*place, hole.expected)
