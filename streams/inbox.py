"""Bounded queue of messages that were delivered to this worker and that no partition has ingested yet.

`put` is where reading waits (backpressure): while the inbox is full, and while this worker owns no partitions.

**A message is dropped in these cases only.** It is read again, as its offset is not committed:

* A rebalance takes the partitions away while the message waits here, or in `put`: `close` drops it.
* A rebalance does so while `StreamWorker._ingest` waits in the midst of its step.
* Its partition is not owned: `StreamWorker._ingest` drops it.
* It is behind an offset gap that is being read again from its beginning. `StreamWorker._steps` drops the remainder of
  that batch, `OffsetGapResolver.drop_stale` the batches after it.

Or it was read before (`TopicProgress.expects` is False): then it is not needed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from streams.core.decoding import LogMessage

INBOX_STEPS, INBOX_BYTES = 4, 64 * 2**20
"""The inbox is full at so many steps (of `batch_messages` messages), or at so many bytes of payload."""


@dataclass(slots=True)
class DeliveredBatch:
    """Messages of one topic and partition, in offset order."""

    topic: str
    partition: int
    messages: Sequence[LogMessage]
    begin: int | None
    """The reader guarantees that these are all messages on the log from this offset to the last of them. None: it does
    not, so missing offsets must be looked up on the log."""


class Inbox:
    """Queue of delivered batches, in order of arrival. `step_messages` is the setting `batch_messages`."""

    def __init__(self, step_messages: int) -> None:
        self._step_messages = step_messages
        self._batches: list[DeliveredBatch] = []
        self._messages = self._bytes = 0
        self._generation = 0
        """Counts `close` calls: a `put` that waited through one belongs to a past assignment."""
        self._is_open, self._has_room, self._has_step = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._has_room.set()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def open(self) -> None:
        """Accept batches: partitions are owned."""
        self._is_open.set()

    def close(self) -> None:
        """Drop all batches, here and in a `put` that waits: a rebalance took the partitions away.

        They must not reach a later assignment, where they would look like a gap in the log.
        """
        self._generation += 1
        self._is_open.clear()
        self.take_all()

    async def put(self, batch: DeliveredBatch) -> None:
        """Add a batch. Waits while the inbox is full or closed."""
        generation = self._generation
        while not (self._has_room.is_set() and self._is_open.is_set()):
            await self._is_open.wait()
            await self._has_room.wait()
            if self._generation != generation:
                return  # Dropped: see `close`.
        self._batches.append(batch)
        self._messages += len(batch.messages)
        self._bytes += sum(len(m.value) for m in batch.messages if m.value)
        if self._messages >= self._step_messages:
            self._has_step.set()
        if self._messages >= INBOX_STEPS * self._step_messages or self._bytes >= INBOX_BYTES:
            self._has_room.clear()

    async def wait_for_step(self, timeout_ms: float) -> None:
        """Return when the messages of a step have arrived, or after the timeout."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_step.wait(), timeout_ms / 1000)
        self._has_step.clear()

    def take_all(self) -> list[DeliveredBatch]:
        """Remove and return all batches, in order of arrival, and make room."""
        batches, self._batches = self._batches, []
        self._messages = self._bytes = 0
        self._has_room.set()
        return batches
