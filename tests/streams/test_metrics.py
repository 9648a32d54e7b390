"""/metrics of a worker's partitions: their lag, and the gaps in their producers' numbers."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from contracts import topics
from contracts.rows import SOURCES, Table, conform
from streams.sequence_gaps import REPORT_AFTER_MS, REPORT_MAX, SequenceGaps
from tests.streams.driven_worker import T0, Driven
from tests.streams.sample_log import Sent, interval, request
from tests.support.partition_log import power
from warehouse.client import Warehouse


def metric_value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def sources(*runs: tuple[str, int, int], epoch: int = 1) -> Table:
    """Rows of `sources` of the power topic: (source, received, last_seq)."""
    columns = {
        "source": [s for s, _, _ in runs], "received": [r for _, r, _ in runs], "last_seq": [n for _, _, n in runs],
    }  # fmt: skip
    defaults = {
        "log_id": "log",
        "log_partition": 0,
        "topic": topics.POWER,
        "epoch": epoch,
        "version": 1,
        "duplicates": 0,
    }
    contested = dict.fromkeys((name for name in SOURCES if name.startswith("contested")), 0)
    return conform("sources", {**columns, **defaults, **contested, "last_event": T0})


def missing(gaps: SequenceGaps) -> dict[str, int]:
    return dict(gaps.by_topic())


def test_missing_numbers_are_a_gap_until_they_arrive() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(("a", 3, 9), ("b", 10, 9)))
    gaps.note(1, sources(("a", 8, 9)))
    assert missing(gaps) == {topics.POWER: 9, topics.TOKENS: 0}
    gaps.note(0, sources(("a", 9, 9)))
    assert missing(gaps)[topics.POWER] == 3
    gaps.note(0, sources(("a", 10, 9)))
    gaps.note(1, sources(("a", 10, 9)))
    assert missing(gaps)[topics.POWER] == 0


def test_another_run_of_a_source_does_not_close_its_gap() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(("a", 3, 9)))
    gaps.note(0, sources(("a", 1, 0), epoch=2))
    assert missing(gaps)[topics.POWER] == 7


def test_partitions_that_were_given_up_have_no_gaps() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(("a", 3, 9)))
    gaps.clear()
    assert missing(gaps)[topics.POWER] == 0


def test_a_lasting_gap_is_logged_once_and_again_when_it_has_grown() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(("a", 3, 9)))
    assert gaps.take_reports(T0) == []
    assert gaps.take_reports(T0 + REPORT_AFTER_MS) == [f"7 events of a, run 1, never came on {topics.POWER}"]
    assert gaps.take_reports(T0 + 2 * REPORT_AFTER_MS) == []
    gaps.note(0, sources(("a", 3, 12)))
    assert gaps.take_reports(T0 + 2 * REPORT_AFTER_MS) == [f"10 events of a, run 1, never came on {topics.POWER}"]


def test_a_gap_that_closes_in_time_is_not_logged() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(("a", 3, 9)))
    assert gaps.take_reports(T0) == []
    gaps.note(0, sources(("a", 10, 9)))
    assert gaps.take_reports(T0 + REPORT_AFTER_MS) == []


def test_few_gaps_are_logged_at_once_and_the_others_next_time() -> None:
    gaps = SequenceGaps()
    gaps.note(0, sources(*((f"s{i}", 3, 9) for i in range(REPORT_MAX + 5))))
    gaps.take_reports(T0)
    assert [len(gaps.take_reports(T0 + REPORT_AFTER_MS)) for _ in range(3)] == [REPORT_MAX, 5, 0]


def test_a_worker_shows_gaps_and_watermark_lag_until_it_gives_the_partition_up(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent()
    sent.power(interval(2))
    sent.tokens(request(2))
    sent.log.append(power([], T0 + 9_000), seq=5)  # 1 to 4 are missing
    sent.complete_to(40)
    driven = Driven(warehouse, sent.log)
    driven.clock.now_ms = T0 + 100_000
    rebalances = metric_value("wattlog_stream_rebalances_total") or 0

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        await driven.stream_worker.store_once()
        driven.clock.now_ms += 2_000
        await driven.stream_worker.store_once()
        assert metric_value("wattlog_stream_sequence_gaps", topic=topics.POWER) == 4
        assert metric_value("wattlog_stream_sequence_gaps", topic=topics.TOKENS) == 0
        assert metric_value("wattlog_stream_watermark_lag_seconds", partition="0") == 62
        assert "never came" not in caplog.text
        driven.clock.now_ms += REPORT_AFTER_MS
        await driven.stream_worker.store_once()
        assert "4 events of " in caplog.text
        await driven.stream_worker.revoke()

    asyncio.run(run())
    assert metric_value("wattlog_stream_watermark_lag_seconds", partition="0") is None
    assert metric_value("wattlog_stream_rebalances_total") == rebalances + 1
