"""wattlog.usage.v1 to the table `usage`, beside the stream worker in every worker.

A plain consumer of confluent-kafka in a thread, not Faust: there is nothing to join and no window to hold, so there is
no state that a rebalance could tear, and what Faust would give is what has to be taken away from it again (DESIGN.md,
Streams). One batch at a time: dead letters are published, copies registered, rows stored, and then the offsets are
committed. A crash in between reads the same messages again and writes the same rows (streams/core/usage_batch.py),
and so does a worker that lost its partitions while it wrote: no claim has to keep it out.

A warehouse that is away is waited for (`store`): the batch in hand is all that is held, and nothing is read meanwhile.
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
from streams import kafka_admin as event_log
from streams import metrics
from streams.app import MAX_POLL_S, dead_letter
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
STOP_WAIT_S = 20.0
HEARTBEATS_A_SESSION = 6
QUEUED_KBYTES = 16_384
"""What the client fetches ahead, at most, over all partitions."""


def prepare(settings: Settings, kafka: dict[str, Any], *, accept_loss: bool = False) -> None:
    """Give a new group its first offsets. Raises LedgerError where the log lost what the group had not read, unless
    that is accepted; Unavailable without a broker or the topic."""
    count = event_log.partitions_of(topics.USAGE, kafka, settings.kafka_bootstrap)
    event_log.commit_initial_offsets(
        kafka, event_log.usage_group(settings), count, accept_loss=accept_loss, names=(topics.USAGE,)
    )


class UsageJob:
    """See the module. `kafka` is librdkafka's configuration, `log_id` the usage topic's, `ended` is told what ended the
    job if it was not asked to stop. `clock` gives epoch milliseconds."""

    def __init__(
        self,
        settings: Settings,
        kafka: dict[str, Any],
        sink: Sink,
        log_id: str,
        ended: Callable[[BaseException], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings, self._kafka, self._log_id = settings, kafka, log_id
        self._ended, self._clock = ended, clock
        self._limits = core.UsageLimits(skew_ms=settings.skew_ms)
        self._rows = UsageStore(sink, clock, settings.idle_timeout_ms, lambda: not self._stopping)
        self._uncommitted: dict[int, int] = {}
        """Offsets of what is stored."""
        self._batch = core.UsageMicroBatch(log_id, self._limits)
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the group and go on until `stop`."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Finish the batch in hand, leave the group. Bounded in time: what is not stored by then is read again."""
        self._stopping = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_WAIT_S)
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=STOP_WAIT_S)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ended(error)

    async def _run(self) -> None:
        consumer = await asyncio.to_thread(self._join)
        letters = Producer({
            **self._kafka, "enable.idempotence": True, "acks": "all", "partitioner": topics.PARTITIONER,
            "message.max.bytes": event_log.DEADLETTER_BYTES,
        })  # fmt: skip
        try:
            while not self._stopping:
                batch = await asyncio.to_thread(self._collect, consumer)
                if batch.messages:
                    await self._keep(batch, letters)
                await asyncio.to_thread(self._commit, consumer)
        except OwnershipLost:  # Asked to stop while the warehouse is away: the next owner reads it again.
            return
        finally:
            await asyncio.to_thread(consumer.close)

    def _join(self) -> Consumer:
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": event_log.usage_group(self._settings),
                "enable.auto.commit": False,
                "auto.offset.reset": "error",  # Else an offset out of range drops messages silently.
                "session.timeout.ms": self._settings.session_timeout_ms,
                "heartbeat.interval.ms": self._settings.session_timeout_ms // HEARTBEATS_A_SESSION,
                "max.poll.interval.ms": round(
                    MAX_POLL_S * 1000
                ),  # As for the stream worker: it may wait for the warehouse.
                "queued.max.messages.kbytes": QUEUED_KBYTES,
            },
            logger=log,
        )
        consumer.subscribe([topics.USAGE], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        return consumer

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Where to begin is asked here: the client asks once, and where the coordinator is not there yet (a broker that
        just started) it says so, never asks again and reads nothing (librdkafka issue 5586). Raises Unavailable."""
        try:
            begin = event_log.offsets(consumer, partitions)
        except KafkaException as error:
            raise event_log.unavailable(self._settings.kafka_bootstrap, error) from error
        for tp in begin:
            if tp.offset < 0:  # The topic was given this partition while the group was at work: nothing of it was read.
                tp.offset = OFFSET_BEGINNING
        consumer.assign(begin)
        log.info("usage: reading partitions %s", sorted(tp.partition for tp in partitions))

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        """Whoever reads these partitions next begins at the committed offsets, this worker too. What was read and not
        stored is theirs; what is stored and not committed is stored once more."""
        self._batch = core.UsageMicroBatch(self._log_id, self._limits)
        self._uncommitted.clear()

    # -- in ------------------------------------------------------------------------------------------------------------

    def _collect(self, consumer: Consumer) -> core.UsageMicroBatch:
        """What comes within WAIT_S, up to the bounds of a batch; whatever came if nothing more does."""
        until_s = time.monotonic() + WAIT_S
        while not self._stopping and not self._batch.full and (left_s := until_s - time.monotonic()) > 0:
            message = consumer.poll(min(left_s, POLL_S))
            if message is None:
                continue
            if (error := message.error()) is not None:
                self._look_into(error, message)
            else:
                self._batch.add(_arrived(message), self._clock())
        batch, self._batch = self._batch, core.UsageMicroBatch(self._log_id, self._limits)
        self._show_lag(consumer)
        return batch

    def _look_into(self, error: KafkaError, message: Message) -> None:
        """Raises LedgerError for offsets that the log no longer has, Unavailable for what does not mend itself."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise self._lost(message)
        if error.fatal() or not (error.retriable() or error.code() in _PASSING):
            raise event_log.unavailable(self._settings.kafka_bootstrap, error)
        log.warning("usage: %s", error)

    def _lost(self, message: Message) -> WattlogError:
        """What the log lost, in the words that any loss is told in."""
        group, partition = event_log.usage_group(self._settings), message.partition()
        at = event_log.committed(self._kafka, group, [partition], names=(topics.USAGE,))
        offset = at.get((topics.USAGE, partition), 0)
        earliest = event_log.look_up_offset(self._kafka, group, topics.USAGE, partition, offset).earliest
        return loss_error(OffsetGap(topics.USAGE, partition, offset, earliest), earliest)

    def _show_lag(self, consumer: Consumer) -> None:
        """How many messages wait on the partitions held, as far as the client knows."""
        behind = 0
        for place in consumer.position(consumer.assignment()):
            _, high = consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and high > place.offset:
                behind += high - place.offset
        metrics.USAGE_LAG.set(behind)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def _keep(self, batch: core.UsageMicroBatch, letters: Producer) -> None:
        """Store a batch. Its offsets may be committed when this returns."""
        for message, error in batch.rejected:
            log.warning("dead letter: %s offset %d: %s", topics.USAGE, message.offset, error)
            one = decoding.LogMessage(topics.USAGE, message.offset, message.headers, message.value)
            place = f"{topics.USAGE}/{message.partition}"
            await self._publish(
                letters, place, *dead_letter(decoding.RejectedMessage(one, error), place, self._clock())
            )
            metrics.DEAD_LETTERS.labels(error.field.partition("[")[0][:40]).inc()
        await self._rows.store(batch)
        self._uncommitted.update(batch.next_offsets)

    async def _publish(self, letters: Producer, place: str, headers: Any, value: bytes | None) -> None:
        """Publish a dead letter, again and again until the broker has it. Raises OwnershipLost when asked to stop."""
        while True:
            refused = await asyncio.to_thread(_sent, letters, place.encode(), headers, value)
            if refused is None:
                return
            log.error("a dead letter was not taken, trying again: %s", refused)
            if self._stopping:
                raise OwnershipLost
            await asyncio.sleep(WAIT_S)

    def _commit(self, consumer: Consumer) -> None:
        """Commit what is stored. What the broker does not take now (a rebalance, no coordinator) is tried with the next
        batch; if that never comes, it is read again and stored as it is."""
        if not self._uncommitted:
            return
        offsets = [TopicPartition(topics.USAGE, p, offset) for p, offset in self._uncommitted.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("usage: offsets were not committed, trying again: %s", error)
            return
        self._uncommitted.clear()


_PASSING = (
    *event_log.NO_COORDINATOR,
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION,
)  # fmt: skip
"""What the client tells of brokers that are away or move, and goes on trying by itself."""


def _sent(letters: Producer, key: bytes, headers: Any, value: bytes | None) -> str | None:
    """None when the broker has the message, else why not."""
    told: list[KafkaError | None] = []
    letters.produce(
        topics.DEADLETTER, key=key, value=value, headers=headers, on_delivery=lambda error, _: told.append(error)
    )
    letters.flush(LETTER_WAIT_S)
    if not told:
        letters.purge()
        letters.flush(POLL_S)
        return f"not acknowledged in {LETTER_WAIT_S:.0f} s"
    return None if told[0] is None else str(told[0])


def _arrived(message: Message) -> core.UsageMessage:
    kind, log_ms = message.timestamp()
    return core.UsageMessage(
        message.partition(), message.offset(), 0 if kind == TIMESTAMP_NOT_AVAILABLE else log_ms,
        kind == TIMESTAMP_LOG_APPEND_TIME, message.headers(), message.value(),
    )  # fmt: skip
