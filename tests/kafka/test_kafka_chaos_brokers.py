"""A broker that dies, or is stopped for a while, under load: what was sent is in the ledger, once."""

from __future__ import annotations

import pytest

from tests.kafka.chaos.faults import begin, kill_broker, stop_broker
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.kafka.chaos.verdict import assert_sound, judge

AWAY_S = 10.0
"""Longer than a worker's session."""


@pytest.mark.timeout(600)
def test_a_broker_that_is_killed_and_one_that_is_stopped_for_a_while_leave_the_ledger_as_it_is(chaos: Field) -> None:
    begin(chaos, workers=2)
    kill_broker(chaos)
    stop_broker(chaos, AWAY_S)
    chaos.crew.until_held(PARTITIONS)
    chaos.until_stored()
    for m in chaos.crew.members:
        print(m.name, m.worker.error_text(100))
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))
