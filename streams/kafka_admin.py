"""Administration of the event log: topics, the log's identity, and the offsets that a new group starts from.

`config` is librdkafka's configuration in all of these.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from contracts import topics
from contracts.errors import LedgerError, Unavailable
from contracts.settings import Settings
from streams import dead_letters, metrics
from streams.log_reader import OffsetLookup, TopicPartition

log = logging.getLogger("wattlog.stream")

TIMEOUT_S = 15.0
RETENTION_MS = 7 * 86_400_000
"""Retention of the topics: how long a worker may be away without loss."""
_NOT_ALONE = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
)  # fmt: skip
"""A broker's answers while a group's coordinator is elected or moves, as for a while after the broker started."""
_COORDINATOR_WAIT_S = 0.2
_Answer = TypeVar("_Answer")


def unavailable(bootstrap: str, error: object) -> Unavailable:
    """Return the error for a broker that does not answer."""
    if isinstance(error, TimeoutError):  # Its text is empty.
        error = f"no answer in {TIMEOUT_S:.0f} s"
    return Unavailable(f"no Kafka at {bootstrap}: {error}", "Start it, or set WATTLOG_KAFKA_BOOTSTRAP to where it is.")


def ensure_topics(settings: Settings, config: dict[str, Any]) -> list[str]:
    """Create the topics that are missing, and return their names. Raises Unavailable when no broker answers."""
    admin = AdminClient(config)
    try:
        existing = admin.list_topics(timeout=TIMEOUT_S).topics
        missing = [t for t in topics.ALL if t not in existing]
        retention = {
            "retention.ms": str(RETENTION_MS),
            # Retention counts from arrival: by event time, a broker would delete a recording as it is replayed.
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(min(2, settings.kafka_replication)),
        }
        large = {topics.DEADLETTER: {"max.message.bytes": str(dead_letters.MAX_BYTES)}}
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
    except (KafkaException, TimeoutError) as error:
        raise unavailable(settings.kafka_bootstrap, error) from error
    return missing


def partition_count(names: Sequence[str], config: dict[str, Any], bootstrap: str) -> int:
    """Return the partition count that these topics have in common.

    Raises Unavailable if a topic does not exist or no broker answers, LedgerError if the counts differ.
    """
    try:
        existing = AdminClient(config).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise unavailable(bootstrap, error) from error
    counts = {topic: len(existing[topic].partitions) if topic in existing else 0 for topic in names}
    for topic, count in counts.items():
        if not count:
            raise Unavailable(f"topic {topic} is not at {bootstrap}", "Run `wattlog migrate`.")
    if len(set(counts.values())) != 1:
        raise LedgerError(
            f"the joined topics must have the same number of partitions, or power and tokens part ways: {counts}"
        )
    return counts[names[0]]


def identity(config: dict[str, Any], bootstrap: str, topic: str = topics.POWER) -> str:
    """Return the identity of the log: the cluster's id and a topic's. A topic that was created again is a new log."""
    admin = AdminClient(config)
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S).cluster_id
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
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
    """Give a new group an offset on every partition of the topics `names`: the earliest.

    Workers themselves never guess an offset: a guess (`earliest`, `latest`) would hide that the log lost messages which
    they had not read. Raises LedgerError where the group's offset is no longer on the log, unless the loss is accepted:
    then the group continues at the earliest message left. Raises Unavailable when no broker answers, or when the
    group's other workers would have to stop first.
    """
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        places = [KafkaPartition(t, p) for t in names for p in range(count)]
        if new := _new_offsets(consumer, places, accept_loss):
            _commit(consumer, group, [tp for tp, _ in new], places, accept_loss)
            _log_loss(new)
    except KafkaException as error:
        raise unavailable(config["bootstrap.servers"], error) from error
    finally:
        consumer.close()


def committed(
    config: dict[str, Any], group: str, numbers: Iterable[int], *, names: Sequence[str] = topics.JOINED
) -> dict[TopicPartition, int]:
    """Return the group's committed offset of each topic and partition that has one. Raises Unavailable."""
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        places = [KafkaPartition(t, p) for t in names for p in numbers]
        committed_at = offsets(consumer, places)
    except KafkaException as error:
        raise unavailable(config["bootstrap.servers"], error) from error
    finally:
        consumer.close()
    return {(tp.topic, tp.partition): tp.offset for tp in committed_at if tp.offset >= 0}


def offsets(consumer: Consumer, places: list[KafkaPartition]) -> list[KafkaPartition]:
    """Return the committed offset of the consumer's group at each place; negative where it has none.

    Retries for TIMEOUT_S while the group has no coordinator: librdkafka itself gives up at the first answer. Raises
    KafkaException when no broker answers.
    """
    return _answered(lambda: consumer.committed(places, timeout=TIMEOUT_S)) if places else []


def look_up_offset(config: dict[str, Any], group: str, topic: str, partition: int, offset: int) -> OffsetLookup:
    """Read the log at an offset, with a consumer of its own. Raises Unavailable when no broker answers."""
    settings = {"enable.auto.commit": False, "auto.offset.reset": "error", "enable.partition.eof": True}
    consumer = Consumer({**config, "group.id": group, "isolation.level": "read_uncommitted", **settings})
    try:
        place = KafkaPartition(topic, partition, offset)
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
    """Ask the group's coordinator; retry while there is none, for TIMEOUT_S at most."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in NO_COORDINATOR or time.monotonic() > deadline:
                raise
            time.sleep(_COORDINATOR_WAIT_S)


def _new_offsets(
    consumer: Consumer, places: list[KafkaPartition], accept_loss: bool
) -> list[tuple[KafkaPartition, int]]:
    """Return (earliest offset, lost messages) for each place where the group has no offset that is on the log."""
    new = []
    for tp in offsets(consumer, places):
        earliest, _ = consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S)
        if 0 <= tp.offset < earliest and not accept_loss:
            raise LedgerError(
                f"{tp.topic} partition {tp.partition} lost messages {tp.offset} to {earliest - 1}: they were trimmed "
                "before they were read. Lengthen the topic's retention; `wattlog stream --accept-loss` goes on without "
                "them"
            )
        if tp.offset < earliest:
            lost = earliest - tp.offset if tp.offset >= 0 else 0
            new.append((KafkaPartition(tp.topic, tp.partition, earliest), lost))
    return new


def _log_loss(new: Iterable[tuple[KafkaPartition, int]]) -> None:
    """Log and count messages whose loss was accepted."""
    for tp, lost in new:
        if lost:
            log.warning(
                "%s partition %d: going on without messages %d to %d, which the log lost; the loss was accepted",
                tp.topic, tp.partition, tp.offset - lost, tp.offset - 1,
            )  # fmt: skip
            metrics.LOST.inc(lost)


def _commit(
    consumer: Consumer, group: str, new: list[KafkaPartition], places: list[KafkaPartition], accept_loss: bool
) -> None:
    """Commit from outside the group, which Kafka allows while the group is empty."""
    try:
        _answered(lambda: consumer.commit(offsets=new, asynchronous=False))
    except KafkaException as error:
        if error.args[0].code() not in _NOT_ALONE:
            raise
        if _new_offsets(consumer, places, accept_loss):  # Else another worker that is starting did it.
            raise Unavailable(
                f"group {group} has workers, so its offsets cannot be set", "Stop them all, then start one."
            ) from error
