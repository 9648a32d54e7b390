"""Usage on a real Kafka: workers killed under load, and retention that overtakes them. Each row is stored once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from confluent_kafka import Consumer, TopicPartition

from contracts import codec, topics
from contracts.events import Event
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.publisher import Publisher, kafka_config
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.field import PARTITIONS, Field
from warehouse.audit.conservation import audit
from warehouse.reader import operator_reader

KILLS = 6
ROWS = 40
AT_MS = 1_758_000_000_000


class Meter(threading.Thread):
    """Send usage until `finish`, some of it twice, and some of it again under another workload."""

    def __init__(self, field: Field) -> None:
        super().__init__(name="meter", daemon=True)
        self._kafka, self._stop_asked = kafka_config(field.deployment.settings), threading.Event()
        self.rows = 0
        self.events = 0

    def run(self) -> None:
        rng, seqs = random.Random(5), itertools.count()
        with Publisher({**self._kafka, "message.timeout.ms": 600_000}) as publisher:
            for n in itertools.count():
                if self._stop_asked.wait(0.01):
                    break
                event = _event(next(seqs), f"w{n % 11}", n)
                publisher.send(event)
                self.rows, self.events = self.rows + ROWS, self.events + 1
                if rng.random() < 0.1:
                    publisher.send(event)
                if rng.random() < 0.1:
                    publisher.send(_event(next(seqs), f"w{(n + 5) % 11}", n))
                    self.events += 1

    def finish(self) -> None:
        self._stop_asked.set()
        self.join()


def _event(seq: int, workload: str, n: int) -> Event:
    rows = [
        UsageRow(
            meter="tool_calls",
            unit="call",
            quantity="0.5",
            t0_ms=AT_MS + n,
            t1_ms=AT_MS + n,
            tenant="acme",
            origin="agent",
            event_id=f"{n}-{row}",
        )
        for row in range(ROWS)
    ]
    return Event("agents://c", 1, seq, "c", workload, usage_batch(rows, 0))


@pytest.fixture
def meter(chaos: Field) -> Iterator[Meter]:
    instance = Meter(chaos)
    yield instance
    if instance.is_alive():
        instance.finish()


def test_each_row_of_usage_is_stored_once_through_kills_of_workers(chaos: Field, meter: Meter) -> None:
    chaos.crew.scale(2)
    chaos.crew.until_held(PARTITIONS, by_all=True)
    meter.start()
    rng = random.Random(7)
    for _ in range(KILLS):
        before = _stored(chaos)[0]
        chaos.crew.until(lambda before=before: _stored(chaos)[0] > before, "usage is stored")
        time.sleep(rng.uniform(0, 1.5))
        chaos.crew.kill(rng)
    meter.finish()
    chaos.crew.until(lambda: _events(chaos) == meter.events, "every event is read")
    chaos.crew.until(lambda: _lag(chaos) == 0, "nothing waits")

    assert _stored(chaos) == (meter.rows, Decimal(meter.rows) / 2)
    books = audit(operator_reader(chaos.warehouse))
    assert (books.sequence_gaps, books.ok) == (0, True)
    assert chaos.crew.kills == KILLS
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]


def test_unread_usage_that_was_deleted_ends_the_worker_until_the_loss_is_accepted(
    chaos: Field, kafka: KafkaBroker
) -> None:
    chaos.crew.scale(1)
    _send(chaos, 0)
    chaos.crew.until(lambda: _stored(chaos)[0] == ROWS, "the first is stored")
    chaos.crew.scale(0)
    _send(chaos, 1)
    _delete_all(kafka)

    stopped = chaos.deployment.run("stream")
    assert stopped.status == 1
    assert "wattlog.usage.v1" in stopped.err and "lost messages" in stopped.err and "--accept-loss" in stopped.err

    chaos.crew.scale(1, "--accept-loss")
    _send(chaos, 2)
    chaos.crew.until(lambda: _stored(chaos)[0] == 2 * ROWS, "what came after is stored")
    chaos.crew.until(
        lambda: audit(operator_reader(chaos.warehouse)).sequence_gaps == 1, "its event is stored, and the gap is known"
    )
    assert audit(operator_reader(chaos.warehouse)).gaps_by_producer[0].topic == topics.USAGE


def test_usage_deleted_under_a_running_worker_ends_it_and_names_the_offsets(chaos: Field, kafka: KafkaBroker) -> None:
    chaos.deployment.env["WATTLOG_SESSION_TIMEOUT_MS"] = "60000"
    chaos.crew.scale(1)
    _send(chaos, 0)
    chaos.crew.until(lambda: _stored(chaos)[0] == ROWS, "the first is stored")
    (member,) = chaos.crew.members
    member.worker.pause()
    for seq in range(1, 50):
        _send(chaos, seq)
    _delete_all(kafka)
    member.worker.resume()

    assert member.worker.ended() == 1
    assert "wattlog.usage.v1 partition" in member.worker.error_text()
    assert "lost messages" in member.worker.error_text() and "--accept-loss" in member.worker.error_text()


def _send(chaos: Field, seq: int) -> None:
    event = _event(seq, "w", seq)
    with Publisher(kafka_config(chaos.deployment.settings)) as publisher:
        headers, value = codec.encode(event)
        publisher.send_raw(topics.USAGE, b"c/w", headers, value)


def _delete_all(kafka: KafkaBroker) -> None:
    """Have the broker delete the contents of the usage topic, as its retention would."""
    consumer = Consumer(kafka.client(group_id="ends"))
    try:
        places = [TopicPartition(topics.USAGE, p) for p in range(PARTITIONS)]
        ends = [consumer.get_watermark_offsets(place, timeout=30)[1] for place in places]
    finally:
        consumer.close()
    before = [TopicPartition(topics.USAGE, p, end) for p, end in enumerate(ends)]
    for future in kafka.admin.delete_records(before).values():
        future.result(30)


def _stored(chaos: Field) -> tuple[int, Decimal]:
    (row,) = chaos.warehouse.query("SELECT count() AS n, sum(quantity) AS q FROM usage FINAL")
    return row["n"], row["q"]


def _events(chaos: Field) -> int:
    (row,) = chaos.warehouse.query("SELECT uniqExact(seq) AS n FROM usage_events FINAL")
    return int(row["n"])


def _lag(chaos: Field) -> float:
    return sum(m.metrics().get("wattlog_stream_usage_lag_messages", 1) for m in chaos.crew.members)
