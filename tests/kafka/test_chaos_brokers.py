"""A broker that dies, or is stopped for a while, under load: what was sent is in the ledger, once."""

from __future__ import annotations

import time

from tests.kafka.chaos.faults import begin, kill_broker, stop_broker
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.kafka.chaos.verdict import assert_sound, judge

AWAY_S = 10.0
"""Longer than a worker's session."""


def test_a_broker_that_is_killed_and_one_that_is_stopped_for_a_while_leave_the_ledger_as_it_is(chaos: Field) -> None:
    begin(chaos, workers=2)
    kill_broker(chaos)
    read_until_away: list[float] = []

    def reading_stops() -> None:
        """Wait until what the workers had fetched is read, and nothing more."""
        read_until_away.append(-1)
        while (count := _read(chaos)) != read_until_away[-1]:
            read_until_away.append(count)
            time.sleep(1)

    stop_broker(chaos, AWAY_S, reading_stops)
    chaos.crew.until_held(PARTITIONS)
    chaos.until_stored()

    assert _read(chaos) > read_until_away[-1]
    for member in chaos.crew.members:
        assert member.said("Unable connect to node"), member.worker.error_text()
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def _read(chaos: Field) -> float:
    """Messages that the workers have read, as /metrics shows."""
    return sum(m.shown()["wattlog_stream_messages_total"] for m in chaos.crew.members)
