"""The partition of a workload is the one that a producer's client chooses."""

from __future__ import annotations

from confluent_kafka import Message, Producer

from contracts import topics
from streams.placement import partition_of
from tests.support.event_log import in_process_broker
from tests.support.waiting import HANG_S

WORKLOADS = [*(f"chat-{n}" for n in range(40)), "~node-1", "models/é", "模型", "a", "x" * 253]


def test_a_workload_belongs_where_librdkafkas_partitioner_puts_it() -> None:
    chosen: dict[str, int] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        chosen[(message.value() or b"").decode()] = int(message.partition() or 0)

    with in_process_broker() as address:
        producer = Producer({"bootstrap.servers": address, "partitioner": topics.PARTITIONER})
        for workload in WORKLOADS:
            key = topics.key("east", workload)
            producer.produce(topics.POWER, key=key, value=workload, on_delivery=delivered)
        assert producer.flush(HANG_S) == 0
    assert chosen == {workload: partition_of(4, "east", workload) for workload in WORKLOADS}
    assert set(chosen.values()) == set(range(4))
