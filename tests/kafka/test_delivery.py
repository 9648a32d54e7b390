"""Delivery to a real Kafka that lacks a topic."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from contracts import topics
from producers.runtime.delivery import Delivery
from producers.runtime.event_sequence import Sequencer
from producers.runtime.publisher import Publisher
from producers.runtime.spool import Spool
from tests.kafka import jars
from tests.kafka.broker import KafkaBroker
from tests.producers.runtime.test_delivery import messages, usage_message
from tests.support.waiting import wait_until


def test_energy_is_delivered_while_the_topic_of_usage_is_missing(kafka: KafkaBroker, tmp_path: Path) -> None:
    config = {"topic_metadata_propagation_max_ms": 200, "topic_metadata_refresh_interval_ms": 500}
    with (
        KafkaBroker(tmp_path / "broker", jars.resolve()) as bare,  # Without the topics of other tests.
        closing(Spool(tmp_path / "spool.db")) as spool,
        Publisher(bare.client(**config)) as publisher,
    ):
        bare.topic(topics.POWER, 1)
        delivery, usage, power = Delivery(spool, publisher, max_in_flight=2), Sequencer(7), Sequencer(8)
        delivery.offer([usage_message(usage) for _ in range(4)])

        def usage_is_refused() -> bool:
            delivery.pump(0.1)
            return delivery.failures > 0

        def only_waiting(count: int) -> bool:
            delivery.pump(0.1)
            return delivery.waiting == count

        wait_until(usage_is_refused, "Kafka has refused the usage")
        delivery.offer(messages(power, 3))
        wait_until(lambda: only_waiting(4), "the energy is delivered, the usage waits")
        bare.topic(topics.USAGE, 1)
        wait_until(lambda: only_waiting(0), "the usage is delivered once its topic exists")
        assert delivery.delivered == 7
