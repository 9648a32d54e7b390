"""The event log of tests: librdkafka's in-process broker, and readers for any broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from contracts import codec, topics
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.publisher import kafka_config
from tests.support.waiting import HANG_S

Place = tuple[str, int]
"""Topic and partition."""


@contextmanager
def in_process_broker() -> Iterator[str]:
    """Run a broker that speaks the real protocol; yield its address. It creates topics of 4 partitions on demand."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(timeout=HANG_S).brokers.values()
    yield ",".join(f"{b.host}:{b.port}" for b in brokers)
    del owner


def committed(settings: Settings) -> dict[Place, int]:
    """Return the group's offsets on the joined topics; -1001 where it has none."""
    consumer = _consumer(settings, settings.kafka_group)
    try:
        offsets = consumer.committed(_places(consumer, topics.JOINED), timeout=HANG_S)
        return {(tp.topic, tp.partition): tp.offset for tp in offsets}
    finally:
        consumer.close()


def read_all(settings: Settings, *names: str) -> dict[Place, list[Message]]:
    """Return every message that these topics hold now, by partition."""
    consumer = _consumer(settings, "test-reads")
    try:
        partitions = _places(consumer, names)
        ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=HANG_S) for p in partitions}
        messages: dict[Place, list[Message]] = {place: [] for place in ends}
        unread = {place for place, (low, high) in ends.items() if high > low}
        for partition in partitions:
            partition.offset = OFFSET_BEGINNING
        consumer.assign(partitions)
        while unread:
            message = consumer.poll(HANG_S)
            assert message is not None and message.error() is None, message and message.error()
            place = (str(message.topic()), int(message.partition() or 0))
            messages[place].append(message)
            if int(message.offset() or 0) + 1 >= ends[place][1]:
                unread.discard(place)
        return messages
    finally:
        consumer.close()


def read_events(settings: Settings, *names: str) -> list[Event]:
    """Return every event that these topics hold now, in the order of each partition."""
    partitions = read_all(settings, *names).values()
    return [codec.decode(cast(codec.Headers, m.headers()), m.value()) for messages in partitions for m in messages]


def _consumer(settings: Settings, group: str) -> Consumer:
    return Consumer({**kafka_config(settings), "group.id": group, "enable.auto.commit": False, "log_level": 0})


def _places(consumer: Consumer, names: Iterable[str]) -> list[TopicPartition]:
    metadata = {name: consumer.list_topics(name, timeout=HANG_S).topics[name] for name in names}
    return [TopicPartition(name, p) for name in names for p in metadata[name].partitions]
