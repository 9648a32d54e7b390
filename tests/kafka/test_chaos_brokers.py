"""A broker that dies, or is stopped for a while, under load: each event is in the ledger once."""

from __future__ import annotations

import time

from tests.kafka.chaos.faults import begin, kill_broker, stop_broker
from tests.kafka.chaos.field import PARTITIONS, Field
from tests.kafka.chaos.verdict import assert_sound, judge

AWAY_S = 10.0
"""Longer than a worker's session."""


def test_a_killed_broker_and_a_stopped_broker_do_not_change_the_ledger(chaos: Field) -> None:
    begin(chaos, workers=2)
    kill_broker(chaos)
    read_until_away: list[float] = []

    def reading_stops() -> None:
        """Wait until the workers have read all fetched messages, and no more."""
        read_until_away.append(-1)
        while (count := _read(chaos)) != read_until_away[-1]:
            read_until_away.append(count)
            time.sleep(1)

    stop_broker(chaos, AWAY_S, reading_stops)
    chaos.crew.until_held(PARTITIONS)
    chaos.until_stored()

    assert _read(chaos) > read_until_away[-1]
    for member in chaos.crew.members:
        assert member.log_lines("Unable connect to node"), member.worker.error_text()
    assert chaos.crew.ended == [], [m.worker.error_text() for m in chaos.crew.ended]
    assert_sound(judge(chaos))


def _read(chaos: Field) -> float:
    """Number of messages that the workers have read, from /metrics."""
    return sum(m.metrics()["wattlog_stream_messages_total"] for m in chaos.crew.members)
