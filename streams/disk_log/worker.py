"""Worker on a `DiskLog`: the stream worker and the storage of usage, without Faust and without a broker.

The rest is as on Kafka: `StreamWorker` with its checkpoints, its fence and its rule of commits. This module replaces
the consumer group, which has one member for ever, and the fetches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from contracts import topics
from contracts.errors import LedgerError
from contracts.settings import Settings
from streams import claim_notices, dead_letters
from streams.app import STALLED_MS
from streams.consumer_group import EMBEDDED_STOP_WAIT_S
from streams.core import usage_batch
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.disk_log.log_file import DiskLog, LogFull, NewMessage
from streams.log_reader import OffsetLookup, TopicPartition
from streams.startup import load_policy
from streams.stream_worker import StreamWorker
from streams.usage.store import UsageStore
from warehouse.client import Warehouse
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

PARTITION = 0
POLL_S = 0.05
"""Pause between two looks at whether the log has grown: a comparison of two numbers."""
COMMIT_S = 1.0
USAGE_S = 1.0
"""How long a batch of usage is filled: each costs three inserts, however few its rows."""


class DiskWorker:
    """Worker of one process: `start`, then wait for `crashed` or call `stop`. A `streams.log_reader.LogReader`."""

    def __init__(self, settings: Settings, disk_log: DiskLog, sink: Sink, policy: Policy) -> None:
        self._log, self._sink = disk_log, sink
        self.stream_worker = StreamWorker(
            settings=settings, sink=sink, policy=policy, log_id=disk_log.log_id, publish=self._dead_letter,
            reader=self, clock=_now_ms,
        )  # fmt: skip
        self._limits = usage_batch.UsageLimits(skew_ms=settings.skew_ms)
        self._usage = UsageStore(sink, _now_ms, settings.idle_timeout_ms, lambda: not self._stopping)
        self._positions = {topic: disk_log.committed(topic) for topic in (*topics.JOINED, topics.USAGE)}
        self._to_commit: dict[str, int] = {}
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.crashed: asyncio.Future[BaseException] | None = None

    async def start(self) -> None:
        """Take over the log from its checkpoint on, and read it."""
        self.crashed = asyncio.get_running_loop().create_future()
        await asyncio.to_thread(self._check_age)
        begin = {(topic, PARTITION): self._positions[topic] for topic in topics.JOINED}
        await self.stream_worker.assign({PARTITION}, begin)
        loops: list[Coroutine[Any, Any, None]] = [
            self.stream_worker.ingest_forever(),
            self.stream_worker.store_forever(),
            *(self._feed_forever(topic) for topic in topics.JOINED),
            self._store_usage_forever(),
            self._commit_forever(),
            self._watch(),
            claim_notices.publish_forever(self.stream_worker),
        ]
        for loop in loops:
            task = asyncio.create_task(loop)
            task.add_done_callback(self._on_end)
            self._tasks.append(task)

    def _check_age(self) -> None:
        """Raise LedgerError for a log that is older than the warehouse: new messages would pass for stored ones."""
        row = self._sink.load_checkpoint(self._log.log_id, PARTITION)
        stored = {topics.POWER: row["power_offset"], topics.TOKENS: row["tokens_offset"]} if row else {}
        for topic, offset in stored.items():
            if offset > self._log.end(topic):
                raise LedgerError(
                    f"the log {self._log.path} is older than the warehouse, which has {topic} up to {offset}; the "
                    f"log ends at {self._log.end(topic)}. Restore both from one time, or move the log away"
                )

    async def stop(self) -> None:
        """Store what is final and commit it. What is not stored in time is read again by the next run."""
        self._stopping = True
        try:
            await asyncio.wait_for(self.stream_worker.store_once(), EMBEDDED_STOP_WAIT_S)
        except TimeoutError:
            log.warning("stopped before all was stored: the next start goes on at the checkpoint, and its due hours")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(LogFull):
            self._commit()

    # -- a log reader --------------------------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Let the log delete what is below these offsets, a little later."""
        self._to_commit.update({topic: offset for (topic, _), offset in offsets.items()})

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read the topic again from `offset` on."""
        self._positions[topic] = offset

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        """Return what the log holds at an offset."""
        messages = await asyncio.to_thread(self._log.read, topic, offset)
        return OffsetLookup(self._log.committed(topic), messages[0].offset if messages else None)

    # -- loops ---------------------------------------------------------------------------------------------------------

    async def _feed_forever(self, topic: str) -> None:
        """Hand a topic's messages to the stream worker, which waits while it is full."""
        while True:
            begin = self._positions[topic]
            if self._log.end(topic) <= begin:
                await asyncio.sleep(POLL_S)
                continue
            stored = await asyncio.to_thread(self._log.read, topic, begin)
            messages = [LogMessage(topic, m.offset, m.headers, m.value) for m in stored]
            if self._positions[topic] == begin:
                self._positions[topic] = messages[-1].offset + 1
                await self.stream_worker.put(topic, PARTITION, messages, begin)

    async def _store_usage_forever(self) -> None:
        while True:
            begin = self._positions[topics.USAGE]
            if self._log.end(topics.USAGE) > begin:
                await self._store_usage(begin)
            await asyncio.sleep(USAGE_S)

    async def _store_usage(self, begin: int) -> None:
        """Store a batch of usage from an offset on: dead letters first, as on Kafka."""
        batch = usage_batch.UsageMicroBatch(self._log.log_id, self._limits)
        for m in await asyncio.to_thread(self._log.read, topics.USAGE, begin):
            message = usage_batch.UsageMessage(PARTITION, m.offset, m.append_ms, True, m.headers, m.value)
            batch.add(message, _now_ms())
            if batch.full:
                break
        for rejected, error in batch.rejected:
            letter = LogMessage(topics.USAGE, rejected.offset, rejected.headers, rejected.value)
            await self._dead_letter(RejectedMessage(letter, error), PARTITION)
            dead_letters.count_published(error)
        await self._usage.store(batch)
        self._positions[topics.USAGE] = batch.next_offsets[PARTITION]
        self._to_commit[topics.USAGE] = self._positions[topics.USAGE]

    async def _commit_forever(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            try:
                await asyncio.to_thread(self._commit)
            except LogFull as error:  # What is not deleted is recognised as stored.
                log.error("%s", error)

    def _commit(self) -> None:
        offsets, self._to_commit = self._to_commit, {}
        if offsets:
            self._log.commit(offsets)

    async def _dead_letter(self, rejected: RejectedMessage, partition: int) -> None:
        """Append a message to the dead letters, waiting for room. The log keeps the newest of them."""
        place = f"{rejected.message.topic}/{partition}"
        log.warning("dead letter: %s offset %d: %s", place, rejected.message.offset, rejected.error)
        headers, value = dead_letters.dead_letter(rejected, place, _now_ms())
        while True:
            try:
                message = NewMessage(topics.DEADLETTER, headers, value)
                return await asyncio.to_thread(self._log.append_letter, message, _now_ms())
            except LogFull as error:
                log.error("a dead letter was not accepted, retrying: %s", error)
                await asyncio.sleep(COMMIT_S)

    async def _watch(self) -> None:
        """Raise where messages wait and nothing moves."""
        while True:
            await asyncio.sleep(1)
            if self.stream_worker.stalled_ms() > STALLED_MS:
                raise TimeoutError(f"no message was read or stored for {STALLED_MS} ms with messages waiting")

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            assert self.crashed is not None
            if not self.crashed.done():
                self.crashed.set_result(error)


@asynccontextmanager
async def running_disk_worker(settings: Settings, disk_log: DiskLog, warehouse: Warehouse) -> AsyncIterator[DiskWorker]:
    """Run a worker on the log until the block ends. Raises Unavailable."""
    worker = DiskWorker(settings, disk_log, Sink(warehouse), load_policy(warehouse, settings))
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
