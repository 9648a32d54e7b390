"""The event log's own housekeeping: topics, their identity, and the offsets that a new group starts from."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from contracts import topics
from contracts.errors import LedgerError, Unavailable
from contracts.settings import Settings

TIMEOUT_S = 15.0
RETENTION_MS = 7 * 86_400_000
"""How long the joined topics are kept: as long as a worker may be away without loss."""


def unavailable(bootstrap: str, error: object) -> Unavailable:
    return Unavailable(f"no Kafka at {bootstrap}: {error}", "Start it, or set WATTLOG_KAFKA_BOOTSTRAP to where it is.")


def ensure_topics(settings: Settings, config: dict[str, Any]) -> list[str]:
    """Create the topics that are missing; returns their names. `config` is librdkafka's.

    Raises Unavailable when no broker answers.
    """
    admin = AdminClient(config)
    try:
        there = admin.list_topics(timeout=TIMEOUT_S).topics
        missing = [t for t in topics.ALL if t not in there]
        retention = {"retention.ms": str(RETENTION_MS), "min.insync.replicas": str(min(2, settings.kafka_replication))}
        new = [NewTopic(t, settings.kafka_partitions, settings.kafka_replication, config=retention) for t in missing]
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


def identity(config: dict[str, Any], bootstrap: str) -> str:
    """What tells this log from any other: the cluster's id and the power topic's. A topic made anew is a new log."""
    admin = AdminClient(config)
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S).cluster_id
        described = admin.describe_topics(TopicCollection([topics.POWER]))[topics.POWER].result(TIMEOUT_S)
    except KafkaException as error:
        raise unavailable(bootstrap, error) from error
    return f"{cluster}/{described.topic_id}"


def commit_initial_offsets(config: dict[str, Any], group: str, count: int, *, accept_loss: bool = False) -> None:
    """Give a new group an offset on every partition: the earliest. The workers themselves never guess one, because a
    guess (`earliest`, `latest`) would hide that the log lost what they had not read.

    Raises LedgerError where the group's offset is no longer on the log, unless the loss is accepted: then the group
    goes on from the earliest message that is left.
    """
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    try:
        every = [TopicPartition(t, p) for t in topics.JOINED for p in range(count)]
        fresh = []
        for tp in consumer.committed(every, timeout=TIMEOUT_S):
            earliest, _ = consumer.get_watermark_offsets(tp, timeout=TIMEOUT_S)
            if 0 <= tp.offset < earliest and not accept_loss:
                raise LedgerError(
                    f"{tp.topic} partition {tp.partition} lost messages {tp.offset} to {earliest - 1}: they were "
                    "trimmed before they were read. Lengthen the topic's retention; `wattlog stream --accept-loss` goes "
                    "on without them"
                )
            if tp.offset < earliest:
                fresh.append(TopicPartition(tp.topic, tp.partition, earliest))
        if fresh:
            consumer.commit(offsets=fresh, asynchronous=False)
    finally:
        consumer.close()
