"""Dozens of workers killed at random under load do not change the ledger."""

from __future__ import annotations

from tests.kafka.chaos.faults import begin, kill_at_random
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.kafka.chaos.verdict import assert_sound, judge

ROUNDS = 50
SEED = 20_260_101


def test_fifty_workers_killed_at_random_moments_do_not_change_the_ledger(chaos: Field) -> None:
    begin(chaos, workers=3)
    recovery = kill_at_random(chaos, ROUNDS, SEED)
    chaos.until_stored()

    assert chaos.crew.kills == len(recovery.seconds) >= ROUNDS
    assert chaos.crew.rebalances() >= ROUNDS
    chaos.crew.until_held(PARTITIONS)
    assert any(m.metrics()["wattlog_stream_rebalances_total"] for m in chaos.crew.members)
    assert_sound(judge(chaos))
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
