"""The watermark: the lower of the two topics, less the skew. A silent topic stops holding it back."""

from __future__ import annotations

import pytest

from contracts import topics
from streams.core.decoding import PartitionConfig
from streams.core.topic_progress import TopicProgress, watermark
from tests.streams.core.case_table import T0, play
from tests.streams.core.test_partition_log import partition
from tests.support.oracle import Interval
from tests.support.partition_log import Log, Worker, power, tokens

CONFIG = PartitionConfig(skew_ms=5_000, idle_timeout_ms=30_000)


def states(power_ms, power_arrived, tokens_ms, tokens_arrived):
    return [TopicProgress(-1, {}, power_ms, power_arrived), TopicProgress(-1, {}, tokens_ms, tokens_arrived)]


# Event times and arrivals of power and of tokens, the clock, the watermark.
@pytest.mark.parametrize(
    ("power_ms", "power_arrived", "tokens_ms", "tokens_arrived", "now_ms", "expected"),
    [
        (None, 0, None, 0, 10_000, None),  # no message
        (50_000, 9_000, None, 0, 10_000, None),  # tokens may still arrive
        (50_000, 9_000, 40_000, 9_000, 10_000, 35_000),  # the lower, less the skew
        (40_000, 9_000, 50_000, 9_000, 10_000, 35_000),
        (50_000, 9_000, 40_000, 9_000, 38_999, 35_000),  # just not silent
        (50_000, 19_000, 40_000, 9_000, 39_000, 45_000),  # tokens are silent
        (50_000, 19_000, None, 0, 39_000, 45_000),  # tokens never arrived
        (50_000, 9_000, 40_000, 9_000, 39_000, 75_000),  # both silent: the newest advances with the clock
        (50_000, 9_000, 40_000, 9_000, 49_000, 85_000),
        (50_000, 9_000, None, 0, 39_000, 75_000),
        (0, 9_000, 40_000, 9_000, 10_000, -5_000),  # 0 is a time, too
    ],
)
def test_the_watermark_is_that_of_the_table(power_ms, power_arrived, tokens_ms, tokens_arrived, now_ms, expected):
    assert watermark(states(power_ms, power_arrived, tokens_ms, tokens_arrived), now_ms, CONFIG) == expected


def test_heartbeats_advance_the_watermark():
    log, p = Log(), partition(skew_ms=0)
    log.append(power([], 70_000))
    log.append(tokens([], 60_000))
    p.ingest([m for t in topics.JOINED for m in log.messages[t]], 100_000)
    assert p.watermark(100_000) == 60_000


def test_an_older_event_does_not_move_the_watermark_back():
    log, p = Log(), partition(skew_ms=0)
    for t_ms in (70_000, 20_000):
        log.append(power([], t_ms))
        log.append(tokens([], t_ms))
    p.ingest([m for t in topics.JOINED for m in log.messages[t]], 100_000)
    assert p.watermark(100_000) == 70_000


def test_a_rejected_event_does_not_move_the_watermark():
    log, p = Log(), partition(skew_ms=0)
    log.append(power([], 10**12))
    log.append(power([], 50_000))
    log.append(tokens([], 50_000))
    rejected = p.ingest([m for t in topics.JOINED for m in log.messages[t]], 100_000)
    assert (len(rejected), p.watermark(100_000)) == (1, 50_000)


@pytest.mark.parametrize(("beat", "windows"), [("134.999", 0), ("135", 1), ("144.999", 1), ("145", 2)])
def test_a_window_is_final_when_its_end_lateness_and_skew_have_passed(beat, windows):
    run = play(f"power w g0 H100  0..20  20J\n beat {beat}\n -- flush")
    assert len(run.worker.store.live("ledger")) == windows


def test_windows_of_a_silent_fleet_close_by_the_clock():
    log, now = Log(), T0 + 10_000
    log.append(
        power(
            [
                Interval(
                    cluster="c", workload="w", node="n", gpu="g0", hardware="H100", t0=T0, t1=T0 + 10_000, energy_uj=1
                )
            ]
        )
    )
    worker = Worker(log)
    worker.read(topics.POWER, 1, now)
    assert not worker.flush(now + 120_000 + 5_000 - 1)
    assert worker.flush(now + 120_000 + 5_000)
