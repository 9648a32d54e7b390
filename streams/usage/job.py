"""Usage job: wattlog.usage.v1 to the table `usage`, beside the stream worker in every worker process.

It is a plain consumer of confluent-kafka in a thread, not Faust. There is nothing to join and no window to keep open,
so a rebalance cannot tear any state. One batch at a time: dead letters are published, copies registered, rows stored,
and then the offsets are committed. A crash in between reads the same messages again and writes the same rows
(`streams.core.usage_batch`). So does a worker that lost its partitions while it wrote: it needs no fence.

While the warehouse is unreachable, the job retries the batch in hand (`store`), and reads nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from contracts import topics
from contracts.errors import WattlogError
from contracts.settings import Settings
from streams import dead_letters, kafka_admin, metrics
from streams.consumer_group import MAX_POLL_S, STOP_WAIT_S, heartbeat_ms, usage_group
from streams.core import decoding
from streams.core import usage_batch as core
from streams.core.offset_gaps import OffsetGap, loss_error
from streams.retrying_sink import OwnershipLost
from streams.usage.store import UsageStore
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

WAIT_S = 1.0
"""How long a batch is filled: each costs three inserts, however few its rows."""
POLL_S = 0.2
LETTER_WAIT_S = 10.0
QUEUED_KBYTES = 16_384
"""Upper bound of what the client fetches ahead, over all partitions."""


def commit_initial_offsets(settings: Settings, kafka: dict[str, Any], *, accept_loss: bool = False) -> None:
    """Give a new group its first offsets on the usage topic.

    Raises LedgerError where the log lost messages that the group had not read, unless that is accepted. Raises
    Unavailable without a broker or the topic.
    """
    count = kafka_admin.partition_count([topics.USAGE], kafka, settings.kafka_bootstrap)
    kafka_admin.commit_initial_offsets(
        kafka, usage_group(settings), count, accept_loss=accept_loss, names=(topics.USAGE,)
    )


class UsageJob:
    """One consumer of the usage topic. `kafka` is librdkafka's configuration, `log_id` identifies the usage topic.

    `on_error` is called with the error that ends the job. `clock` gives epoch milliseconds.
    """

    def __init__(
        self,
        settings: Settings,
        kafka: dict[str, Any],
        sink: Sink,
        log_id: str,
        on_error: Callable[[BaseException], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        *,
        stop_wait_s: float = STOP_WAIT_S,
    ) -> None:
        self._settings, self._kafka, self._log_id = settings, kafka, log_id
        self._on_error, self._clock, self._stop_wait_s = on_error, clock, stop_wait_s
        self._limits = core.UsageLimits(skew_ms=settings.skew_ms)
        self._rows = UsageStore(sink, clock, settings.idle_timeout_ms, lambda: not self._stopping)
        self._uncommitted: dict[int, int] = {}
        """By partition, the offset to commit: everything before it is stored."""
        self._batch = core.UsageMicroBatch(log_id, self._limits)
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group, and run until `stop`."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        """Finish the batch in hand and leave the group. What is not stored in time is read again later."""
        self._stopping = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._stop_wait_s)
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=self._stop_wait_s)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    async def _run(self) -> None:
        consumer = await asyncio.to_thread(self._join)
        producer = Producer({
            **self._kafka, "enable.idempotence": True, "acks": "all", "partitioner": topics.PARTITIONER,
            "message.max.bytes": dead_letters.MAX_BYTES,
        })  # fmt: skip
        try:
            while not self._stopping:
                batch = await asyncio.to_thread(self._collect, consumer)
                if batch.messages:
                    await self._store(batch, producer)
                await asyncio.to_thread(self._commit, consumer)
        except OwnershipLost:  # Stopped while the warehouse is unreachable: the next owner reads it again.
            return
        finally:
            await asyncio.to_thread(consumer.close)

    def _join(self) -> Consumer:
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": usage_group(self._settings),
                "enable.auto.commit": False,
                "auto.offset.reset": "error",  # Else an offset out of range drops messages silently.
                "session.timeout.ms": self._settings.session_timeout_ms,
                "heartbeat.interval.ms": heartbeat_ms(self._settings),
                "max.poll.interval.ms": round(MAX_POLL_S * 1000),  # It may wait for the warehouse.
                "queued.max.messages.kbytes": QUEUED_KBYTES,
            },
            logger=log,
        )
        consumer.subscribe([topics.USAGE], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        return consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Start at the committed offsets. Raises Unavailable.

        They are requested here because the client requests them only once. If the coordinator is not available yet, as
        on a broker that has just started, it reports that, never retries and reads nothing (librdkafka issue 5586).
        """
        try:
            begin = kafka_admin.offsets(consumer, partitions)
        except KafkaException as error:
            raise kafka_admin.unavailable(self._settings.kafka_bootstrap, error) from error
        for tp in begin:
            if tp.offset < 0:  # A partition that was added while the group was running: nothing of it was read.
                tp.offset = OFFSET_BEGINNING
        consumer.assign(begin)
        log.info("usage: reading partitions %s", sorted(tp.partition for tp in partitions))

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        """Drop what was read and is not stored: the next owner starts at the committed offsets.

        It stores once more what is stored and not committed.
        """
        self._batch = core.UsageMicroBatch(self._log_id, self._limits)
        self._uncommitted.clear()

    # -- in ------------------------------------------------------------------------------------------------------------

    def _collect(self, consumer: Consumer) -> core.UsageMicroBatch:
        """Return the messages of WAIT_S, up to the bounds of a batch."""
        until_s = time.monotonic() + WAIT_S
        while not self._stopping and not self._batch.full and (left_s := until_s - time.monotonic()) > 0:
            message = consumer.poll(min(left_s, POLL_S))
            if message is None:
                continue
            if (error := message.error()) is not None:
                self._check(error, message)
            else:
                self._batch.add(_usage_message(message), self._clock())
        batch, self._batch = self._batch, core.UsageMicroBatch(self._log_id, self._limits)
        self._export_lag(consumer)
        return batch

    def _check(self, error: KafkaError, message: Message) -> None:
        """Raise LedgerError for offsets that the log no longer has, Unavailable for errors that do not pass."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise self._loss_error(message)
        if error.fatal() or not (error.retriable() or error.code() in _PASSING):
            raise kafka_admin.unavailable(self._settings.kafka_bootstrap, error)
        log.warning("usage: %s", error)

    def _loss_error(self, message: Message) -> WattlogError:
        """Return the error that names the lost messages."""
        group, partition = usage_group(self._settings), _known(message.partition())
        at = kafka_admin.committed(self._kafka, group, [partition], names=(topics.USAGE,))
        offset = at.get((topics.USAGE, partition), 0)
        earliest = kafka_admin.look_up_offset(self._kafka, group, topics.USAGE, partition, offset).earliest
        return loss_error(OffsetGap(topics.USAGE, partition, offset, earliest), earliest)

    def _export_lag(self, consumer: Consumer) -> None:
        """Set the number of messages that wait on the owned partitions, as far as the client knows."""
        behind = 0
        for place in consumer.position(consumer.assignment()):
            _, high = consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and high > place.offset:
                behind += high - place.offset
        metrics.USAGE_LAG.set(behind)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def _store(self, batch: core.UsageMicroBatch, producer: Producer) -> None:
        """Publish a batch's dead letters and store its rows. Its offsets may be committed when this returns."""
        for message, error in batch.rejected:
            log.warning("dead letter: %s offset %d: %s", topics.USAGE, message.offset, error)
            one = decoding.LogMessage(topics.USAGE, message.offset, message.headers, message.value)
            place = f"{topics.USAGE}/{message.partition}"
            await self._publish(
                producer, place, *dead_letters.dead_letter(decoding.RejectedMessage(one, error), place, self._clock())
            )
            dead_letters.count_published(error)
        await self._rows.store(batch)
        self._uncommitted.update(batch.next_offsets)

    async def _publish(self, producer: Producer, place: str, headers: Any, value: bytes | None) -> None:
        """Publish a dead letter, again and again until the broker has it. Raises OwnershipLost when asked to stop."""
        while True:
            reason = await asyncio.to_thread(_send, producer, place.encode(), headers, value)
            if reason is None:
                return
            log.error("a dead letter was not accepted, retrying: %s", reason)
            if self._stopping:
                raise OwnershipLost
            await asyncio.sleep(WAIT_S)

    def _commit(self, consumer: Consumer) -> None:
        """Commit the offsets of what is stored.

        If the broker refuses now (a rebalance, no coordinator), the next batch retries. If there is none, the messages
        are read again and stored as they are.
        """
        if not self._uncommitted:
            return
        offsets = [TopicPartition(topics.USAGE, p, offset) for p, offset in self._uncommitted.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("usage: offsets were not committed, retrying with the next batch: %s", error)
            return
        self._uncommitted.clear()


_PASSING = (
    *kafka_admin.NO_COORDINATOR,
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION,
)  # fmt: skip
"""Errors that the client reports about brokers that are unreachable or move, and retries itself."""


def _send(producer: Producer, key: bytes, headers: Any, value: bytes | None) -> str | None:
    """Send a dead letter. Return None when the broker has it, else the reason."""
    errors: list[KafkaError | None] = []
    producer.produce(
        topics.DEADLETTER, key=key, value=value, headers=headers, on_delivery=lambda error, _: errors.append(error)
    )
    producer.flush(LETTER_WAIT_S)
    if not errors:
        producer.purge()
        producer.flush(POLL_S)
        return f"not acknowledged in {LETTER_WAIT_S:.0f} s"
    return None if errors[0] is None else str(errors[0])


def _usage_message(message: Message) -> core.UsageMessage:
    kind, log_ms = message.timestamp()
    headers: Any = message.headers()
    return core.UsageMessage(
        _known(message.partition()), _known(message.offset()), 0 if kind == TIMESTAMP_NOT_AVAILABLE else log_ms,
        kind == TIMESTAMP_LOG_APPEND_TIME, headers, message.value(),
    )  # fmt: skip


def _known(number: int | None) -> int:
    """Return a consumed message's partition or offset: only messages to be sent may lack them."""
    assert number is not None
    return number
