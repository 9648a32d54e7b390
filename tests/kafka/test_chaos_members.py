"""Workers that join, leave and pause under load do not change the ledger."""

from __future__ import annotations

import random

from confluent_kafka import Consumer
from confluent_kafka.admin import NewPartitions

from contracts import topics
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.faults import begin, pause_worker, scale
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.kafka.chaos.verdict import assert_sound, judge
from tests.support.waiting import wait_until

ROUNDS = 2
CLAIMED = "Another worker has claimed partition"
"""The log line of a worker that the fence refused beside its successor."""


def test_three_workers_that_join_one_and_leave_it_do_not_change_the_ledger(chaos: Field) -> None:
    begin(chaos, workers=1)
    scale(chaos, (3, 1))
    (left,) = chaos.crew.members
    chaos.until_stored()

    assert len(left.holdings()[-1]) == left.metrics()["wattlog_stream_partitions"] == PARTITIONS
    assert 2 <= len(min(left.holdings(), key=len)) < PARTITIONS
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def test_a_worker_that_is_paused_past_its_session_leaves_no_stray_row(chaos: Field) -> None:
    begin(chaos, workers=2)
    zombies = [pause_worker(chaos, random.Random(seed))[0] for seed in range(ROUNDS)]
    chaos.until_stored()

    for zombie in zombies:  # `pause_worker` checked that others had its partitions, and that it rejoined.
        assert zombie.metrics()["wattlog_stream_fenced_total"] == len(zombie.log_lines(CLAIMED))
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def test_added_partitions_end_the_workers_and_are_read_after_a_restart(
    chaos: Field,
) -> None:
    begin(chaos, workers=2)
    before = list(chaos.crew.members)
    more = [NewPartitions(topic, PARTITIONS + 2) for topic in (*topics.JOINED, topics.USAGE)]
    for future in chaos.deployment.kafka.admin.create_partitions(more).values():
        future.result(30)

    chaos.crew.until_held(PARTITIONS + 2, by_all=True)
    chaos.until_stored()

    group = chaos.deployment.settings.kafka_group
    assert any(f"group {group} has no offset on wattlog." in m.worker.error_text() for m in before)
    chaos.deployment.env["WATTLOG_KAFKA_PARTITIONS_BEFORE"] = f"[{PARTITIONS}]"  # For the replay of the whole log.
    assert_sound(judge(chaos))


def test_a_worker_that_has_to_set_offsets_is_refused_while_others_are_in_the_group(
    chaos: Field, kafka: KafkaBroker
) -> None:
    group = chaos.deployment.settings.kafka_group
    other = Consumer(kafka.client(group_id=group))
    other.subscribe(list(topics.JOINED))
    try:
        wait_until(lambda: other.poll(0.1) is None and bool(other.assignment()), "the other is in the group")
        refused = chaos.deployment.run("stream")
    finally:
        other.close()
    assert refused.status == 2
    assert f"group {group} has workers, so its offsets cannot be set. Stop them all, then start one." in refused.err
