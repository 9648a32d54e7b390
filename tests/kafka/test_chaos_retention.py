"""A log that deletes unread messages: the worker names the offsets, and never skips them silently."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from contracts import topics
from streams.kafka_admin import RETENTION_MS
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.faults import begin
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.support.event_log import committed
from tests.support.waiting import HANG_S, wait_until
from warehouse.audit.conservation import audit
from warehouse.reader import operator_reader

Place = tuple[str, int]
PLACES = [(topic, p) for topic in topics.JOINED for p in range(PARTITIONS)]
LOSS_TEXT = "lost messages"


def test_a_group_that_was_away_beyond_the_retention_stops_until_the_loss_is_accepted(chaos: Field) -> None:
    begin(chaos, workers=1)
    chaos.crew.scale(0)
    read = committed(chaos.deployment.settings)
    _delete_all(chaos.deployment.kafka, beyond=read)

    stopped = chaos.deployment.run("stream")
    assert stopped.status == 1
    assert LOSS_TEXT in stopped.err and "--accept-loss" in stopped.err and "Traceback" not in stopped.err

    chaos.crew.scale(1, "--accept-loss")
    (member,) = chaos.crew.members
    chaos.feeder.finish()
    sent = sum(chaos.world.sent.values())
    chaos.crew.until(lambda: _sources(chaos, "last_seq + 1") == sent, "the newest event of every source is final")
    lost = [line for line in member.log_lines("going on without messages") if "the loss was accepted" in line]
    assert len(lost) == len(PLACES)
    assert member.metrics()["wattlog_stream_lost_messages_total"] >= len(PLACES)
    books = audit(operator_reader(chaos.warehouse))
    assert 0 < books.sequence_gaps == sent - _sources(chaos, "received")
    assert not books.ok and books.residual_uj == 0
    process = chaos.deployment.run("audit", "--json")
    assert (process.status, process.json["sequence_gaps"]) == (3, books.sequence_gaps)


def test_a_worker_whose_unread_messages_are_deleted_ends_and_names_them(chaos: Field) -> None:
    chaos.deployment.env["WATTLOG_SESSION_TIMEOUT_MS"] = "60000"
    begin(chaos, workers=1)
    (member,) = chaos.crew.members
    member.worker.pause()
    ends = {place: high for place, (_, high) in _watermarks(chaos.deployment.kafka).items()}
    _delete_all(chaos.deployment.kafka, beyond=ends)
    member.worker.resume()

    assert member.worker.ended() == 1
    assert LOSS_TEXT in member.worker.error_text() and "--accept-loss" in member.worker.error_text()
    again = chaos.deployment.run("stream")
    assert again.status == 1 and LOSS_TEXT in again.err


def _delete_all(kafka: KafkaBroker, beyond: dict[Place, int]) -> None:
    """Have the broker's own retention delete everything up to these offsets on every partition."""
    wait_until(lambda: all(high > beyond[place] for place, (_, high) in _watermarks(kafka).items()), "more is produced")
    _retention(kafka, 1)
    wait_until(lambda: all(low > beyond[place] for place, (low, _) in _watermarks(kafka).items()), "retention deletes")
    _retention(kafka, RETENTION_MS)


def _retention(kafka: KafkaBroker, ms: int) -> None:
    entry = ConfigEntry("retention.ms", str(ms), incremental_operation=AlterConfigOpType.SET)
    changes = [ConfigResource("topic", name, incremental_configs=[entry]) for name in topics.JOINED]
    for future in kafka.admin.incremental_alter_configs(changes).values():
        future.result(30)


def _watermarks(kafka: KafkaBroker) -> dict[Place, tuple[int, int]]:
    """The oldest offset and the next one of every joined partition."""
    consumer = Consumer(kafka.client(group_id="watermarks"))
    try:
        return {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=HANG_S) for place in PLACES}
    finally:
        consumer.close()


def _sources(chaos: Field, column: str) -> int:
    """A sum over the producers' runs: of received events, or of numbered ones."""
    (row,) = chaos.warehouse.query(f"SELECT sum({column}) AS n FROM sources FINAL")
    return int(row["n"])
