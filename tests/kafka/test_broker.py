"""The harness: a real broker that the project's clients use, and that can be stopped, killed and started again."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer, TopicPartition

from streams import kafka_admin
from tests.kafka.broker import KafkaBroker
from tests.support.waiting import HANG_S


def _produce(kafka: KafkaBroker, topic: str, rows: dict[bytes, bytes]) -> None:
    producer = Producer(kafka.client(partitioner="murmur2_random", enable_idempotence=True))
    for key, value in rows.items():
        producer.produce(topic, key=key, value=value, headers=[("ce_id", b"1.0")])
    assert producer.flush(30) == 0


def _consume(kafka: KafkaBroker, topic: str, count: int, group: str) -> dict[bytes, bytes]:
    """Read `count` messages from the start and commit their offsets."""
    consumer = Consumer(kafka.client(group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"))
    try:
        consumer.subscribe([topic])
        got: dict[bytes, bytes] = {}
        for message in consumer.consume(count, timeout=HANG_S):
            assert message.error() is None
            assert message.headers() == [("ce_id", b"1.0")]
            key, value = message.key(), message.value()
            assert key is not None
            assert value is not None
            got[key] = value
        consumer.commit(asynchronous=False)
        return got
    finally:
        consumer.close()


def _committed(kafka: KafkaBroker, topic: str, partitions: int, group: str) -> int:
    """Sum of a group's committed offsets."""
    consumer = Consumer(kafka.client(group_id=group))
    try:
        places = kafka_admin.offsets(consumer, [TopicPartition(topic, p) for p in range(partitions)])
        return sum(max(0, place.offset) for place in places)
    finally:
        consumer.close()


ROWS = {f"cluster/workload-{n}".encode(): bytes([n]) * 1000 for n in range(100)}


def test_produced_messages_are_consumed(kafka: KafkaBroker) -> None:
    topic = kafka.topic("broker.roundtrip", 3)
    _produce(kafka, topic, ROWS)
    assert _consume(kafka, topic, len(ROWS), "roundtrip") == ROWS


def test_the_broker_has_the_identity_of_its_format(kafka: KafkaBroker) -> None:
    assert kafka.admin.list_topics(timeout=HANG_S).cluster_id == kafka.cluster_id


def test_the_broker_listens_on_loopback_only(kafka: KafkaBroker) -> None:
    assert [b.host for b in kafka.admin.list_topics(timeout=HANG_S).brokers.values()] == ["127.0.0.1"]


def test_messages_and_committed_offsets_survive_a_clean_restart(kafka: KafkaBroker) -> None:
    topic = kafka.topic("broker.restart", 2)
    _produce(kafka, topic, ROWS)
    _consume(kafka, topic, len(ROWS), "restart")
    kafka.restart()
    assert _committed(kafka, topic, 2, "restart") == len(ROWS)
    assert _consume(kafka, topic, len(ROWS), "restart-again") == ROWS


def test_messages_and_committed_offsets_survive_a_kill(kafka: KafkaBroker) -> None:
    topic = kafka.topic("broker.kill", 2)
    _produce(kafka, topic, ROWS)
    _consume(kafka, topic, len(ROWS), "kill")
    kafka.kill()
    assert not kafka.running
    kafka.start()
    assert _committed(kafka, topic, 2, "kill") == len(ROWS)
    assert _consume(kafka, topic, len(ROWS), "kill-again") == ROWS


def test_old_event_times_are_accepted_and_stored(kafka: KafkaBroker) -> None:
    """Recordings are years old; a broker with the usual limits would refuse or delete them."""
    topic = kafka.topic("broker.old", 1)
    producer = Producer(kafka.client())
    producer.produce(topic, value=b"old", timestamp=1_500_000_000_000)
    assert producer.flush(30) == 0
    consumer = Consumer(kafka.client(group_id="old", enable_auto_commit=False))
    try:
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=HANG_S) == (0, 1)
    finally:
        consumer.close()
