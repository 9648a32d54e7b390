"""The event log's own housekeeping: topics, their identity, and the offsets that a new group starts from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from contracts import topics
from contracts.errors import LedgerError, Unavailable
from contracts.settings import Settings
from streams import metrics
from streams.log_reader import OffsetLookup

log = logging.getLogger("wattlog.stream")

TIMEOUT_S = 15.0
RETENTION_MS = 7 * 86_400_000
"""How long the joined topics are kept: as long as a worker may be away without loss."""
DEADLETTER_BYTES = 8 * 2**20
"""The largest dead letter. Larger than a broker's usual limit (1 MiB), because a letter is its message and the reason,
and because what was small on the log may have been compressed."""
_NOT_ALONE = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
)  # fmt: skip
"""What a broker says of a group while its coordinator is found or moves: a while after it started."""
_COORDINATOR_WAIT_S = 0.2
_Answer = TypeVar("_Answer")


def unavailable(bootstrap: str, error: object) -> Unavailable:
    return Unavailable(f"no Kafka at {bootstrap}: {error}", "Start it, or set WATTLOG_KAFKA_BOOTSTRAP to where it is.")


def usage_group(settings: Settings) -> str:
    """The consumer group of the job that stores usage: another topic, read at its own pace."""
    return f"{settings.kafka_group}-usage"


def ensure_topics(settings: Settings, config: dict[str, Any]) -> list[str]:
    """Create the topics that are missing; returns their names. `config` is librdkafka's.

    Raises Unavailable when no broker answers.
    """
    admin = AdminClient(config)
    try:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
        missing = [t for t in topics.ALL if t not in there]
        retention = {
            "retention.ms": str(RETENTION_MS),
            # Retention counts from arrival: by event time, a broker would delete a recording as it is replayed.
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(min(2, settings.kafka_replication)),
        }
        large = {topics.DEADLETTER: {"max.message.bytes": str(DEADLETTER_BYTES)}}
        new = [
            NewTopic(t, settings.kafka_partitions, settings.kafka_replication, config={**retention, **large.get(t, {})})
            for t in missing
        ]
        for future in admin.create_topics(new, operation_timeout=TIMEOUT_S).values() if new else ():
            try:
                future.result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    except KafkaException as error:
        raise unavailable(settings.kafka_bootstrap, error) from error
    return missing


def partitions(config: dict[str, Any], bootstrap: str) -> int:
    """Partitions of the joined topics. Raises LedgerError if they differ, Unavailable if one is not there."""
    try:
        found = AdminClient(config).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise unavailable(bootstrap, error) from error
    counts = {topic: len(found[topic].partitions) if topic in found else 0 for topic in topics.JOINED}
    missing = [topic for topic, count in counts.items() if not count]
    if missing:
        raise Unavailable(f"topic {missing[0]} is not at {bootstrap}", "Run `wattlog migrate`.")
    if len(set(counts.values())) != 1:
        raise LedgerError(
            f"the joined topics must have the same number of partitions, or power and tokens part ways: {counts}"
        )
    return counts[topics.POWER]


def partitions_of(topic: str, config: dict[str, Any], bootstrap: str) -> int:
    """Partitions of a topic. Raises Unavailable if it is not there."""
    try:
        found = AdminClient(config).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise unavailable(bootstrap, error) from error
    if topic not in found or not found[topic].partitions:
        raise Unavailable(f"topic {topic} is not at {bootstrap}", "Run `wattlog migrate`.")
    return len(found[topic].partitions)


def identity(config: dict[str, Any], bootstrap: str, topic: str = topics.POWER) -> str:
    """What tells this log from any other: the cluster's id and a topic's. A topic made anew is a new log."""
    admin = AdminClient(config)
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S).cluster_id
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    except KafkaException as error:
        raise unavailable(bootstrap, error) from error
    return f"{cluster}/{described.topic_id}"


def commit_initial_offsets(
    config: dict[str, Any],
    group: str,
    count: int,
    *,
    accept_loss: bool = False,
    names: Sequence[str] = topics.JOINED,
) -> None:
    """Give a new group an offset on every partition of the topics `names`: the earliest. The workers themselves never
    guess one, because a guess (`earliest`, `latest`) would hide that the log lost what they had not read.

    Raises LedgerError where the group's offset is no longer on the log, unless the loss is accepted: then the group
    goes on from the earliest message that is left. Raises Unavailable when no broker answers, or when the group's other
    workers would have to stop first.
    """
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        every = [TopicPartition(t, p) for t in names for p in range(count)]
        if fresh := _fresh(consumer, every, accept_loss):
            _commit(consumer, group, [tp for tp, _ in fresh], every, accept_loss)
            _tell_loss(fresh)
    except KafkaException as error:
        raise unavailable(config["bootstrap.servers"], error) from error
    finally:
        consumer.close()


def committed(
    config: dict[str, Any], group: str, numbers: Iterable[int], *, names: Sequence[str] = topics.JOINED
) -> dict[tuple[str, int], int]:
    """From which offset the group reads these partitions of topics. Raises Unavailable without a broker."""
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        every = [TopicPartition(t, p) for t in names for p in numbers]
        found = offsets(consumer, every)
    except KafkaException as error:
        raise unavailable(config["bootstrap.servers"], error) from error
    finally:
        consumer.close()
    return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}


def offsets(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    """Where the consumer's group reads on, place by place; a negative offset where it has none.

    Asks again while the group has no coordinator, for TIMEOUT_S: librdkafka itself gives up at the first answer.
    Raises KafkaException when no broker answers.
    """
    return _answered(lambda: consumer.committed(places, timeout=TIMEOUT_S)) if places else []


def look_up_offset(config: dict[str, Any], group: str, topic: str, partition: int, offset: int) -> OffsetLookup:
    """What the log holds at an offset, read there directly. Raises Unavailable when no broker answers."""
    settings = {"enable.auto.commit": False, "auto.offset.reset": "error", "enable.partition.eof": True}
    consumer = Consumer({**config, "group.id": group, "isolation.level": "read_uncommitted", **settings})
    try:
        place = TopicPartition(topic, partition, offset)
        earliest, _ = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        if offset < earliest:
            return OffsetLookup(earliest, None)
        consumer.assign([place])
        message = consumer.poll(TIMEOUT_S)
        if message is None:
            raise unavailable(config["bootstrap.servers"], f"nothing was read of {topic} in {TIMEOUT_S:.0f} s")
        if (error := message.error()) is None:
            return OffsetLookup(earliest, message.offset())
        if error.code() == KafkaError._PARTITION_EOF:
            return OffsetLookup(earliest, None)
        raise KafkaException(error)
    except KafkaException as error:
        raise unavailable(config["bootstrap.servers"], error) from error
    finally:
        consumer.close()


def _answered(ask: Callable[[], _Answer]) -> _Answer:
    """Ask the group's coordinator, again while there is none, for TIMEOUT_S at most."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in NO_COORDINATOR or time.monotonic() > deadline:
                raise
            time.sleep(_COORDINATOR_WAIT_S)


def _fresh(consumer: Consumer, every: list[TopicPartition], accept_loss: bool) -> list[tuple[TopicPartition, int]]:
    """Where the group has no offset that is still on the log: the earliest there, and how many messages are lost."""
    fresh = []
    for tp in offsets(consumer, every):
        earliest, _ = consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S)
        if 0 <= tp.offset < earliest and not accept_loss:
            raise LedgerError(
                f"{tp.topic} partition {tp.partition} lost messages {tp.offset} to {earliest - 1}: they were trimmed "
                "before they were read. Lengthen the topic's retention; `wattlog stream --accept-loss` goes on without "
                "them"
            )
        if tp.offset < earliest:
            lost = earliest - tp.offset if tp.offset >= 0 else 0
            fresh.append((TopicPartition(tp.topic, tp.partition, earliest), lost))
    return fresh


def _tell_loss(fresh: Iterable[tuple[TopicPartition, int]]) -> None:
    """What was accepted is told and counted all the same."""
    for tp, lost in fresh:
        if lost:
            log.warning(
                "%s partition %d: going on without messages %d to %d, which the log lost; the loss was accepted",
                tp.topic, tp.partition, tp.offset - lost, tp.offset - 1,
            )  # fmt: skip
            metrics.LOST.inc(lost)


def _commit(
    consumer: Consumer, group: str, fresh: list[TopicPartition], every: list[TopicPartition], accept_loss: bool
) -> None:
    """Commit from outside the group, which Kafka allows while nobody is in it."""
    try:
        _answered(lambda: consumer.commit(offsets=fresh, asynchronous=False))
    except KafkaException as error:
        if error.args[0].code() not in _NOT_ALONE:
            raise
        if _fresh(consumer, every, accept_loss):  # Else the worker that started beside this one did it.
            raise Unavailable(
                f"group {group} has workers, so its offsets cannot be set", "Stop them all, then start one."
            ) from error
