"""The size of a partition is bounded by closing windows early, in bounded flushes, without changing a ledger row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from contracts.rows import length
from streams.core import progress, sequence
from streams.core.attribution.policy import Policy
from streams.core.cardinality import CardinalityReport, report_cardinality
from streams.core.decoding import PartitionConfig
from streams.core.partition import Partition
from tests.streams.core.attribution.test_matches_oracle import END, FLOORS, quick, same_as_oracle, world, write
from tests.support.oracle import Interval, Request
from tests.support.partition_log import NEVER, Died, Log, Worker, close, policy, power, tokens

T0 = 1_700_000_000_000
LATER = NEVER + 3_600_000
"""Both topics have been silent for an hour."""


def interval(t_s: int, gpu: str = "g0", length_s: int = 10) -> Interval:
    return Interval(
        cluster="c",
        workload="w",
        node="n",
        gpu=gpu,
        hardware="H100",
        t0=T0 + 1000 * t_s,
        t1=T0 + 1000 * (t_s + length_s),
        energy_uj=10**9,
    )


def request(t_s: int, tenant: str = "acme", name: str = "r") -> Request:
    start = T0 + 1000 * t_s
    return Request(
        cluster="c",
        workload="w",
        tenant=tenant,
        model="m",
        request_id=name,
        start=start,
        first=start + 100,
        end=start + 1_000,
        prompt=100,
        cached=0,
        completion=100,
    )


def six_windows() -> Worker:
    """Six open windows: no event is late, and the watermark has passed none of them by its lateness."""
    log = Log()
    for t in range(0, 60, 10):
        log.append(power([interval(t)]))
        log.append(tokens([request(t)]))
    worker = Worker(log)
    for topic in topics.JOINED:
        worker.read(topic, 100)
    return worker


def windows(worker: Worker) -> list[int]:
    """Start times of the final windows, in seconds."""
    return sorted({(start - T0) // 1000 for start, *_ in worker.store.ledger()})


@quick
@given(world, st.data())
def test_closing_windows_early_at_any_moment_never_changes_the_final_ledger(rows, data):
    """For any later events, any steps of storing, and a worker that dies in between."""
    ivs, reqs = rows
    log = Log()
    write(log, ivs, reqs, data.draw)
    close(log, END)
    worker = Worker(log, policy=policy(FLOORS), config=PartitionConfig(lateness_ms=120_000, skew_ms=0))
    now = NEVER // 4
    for _ in range(data.draw(st.integers(0, 20))):
        action = data.draw(st.sampled_from(["power", "tokens", "tokens", "flush", "flush", "provisional", "die"]))
        if action in ("power", "tokens"):
            worker.read(topics.POWER if action == "power" else topics.TOKENS, data.draw(st.integers(1, 4)), now)
        elif action == "flush":
            limit, at_once = data.draw(st.sampled_from([0, 200, 1_000])), data.draw(st.sampled_from([0, 3, 300, 10**6]))
            die_at = data.draw(st.sampled_from([-1, -1, 0, 2, 5, 7]))
            try:
                worker.flush(
                    now, die_at=die_at, at_most_rows=limit, close_rows=at_once, late=data.draw(st.booleans())
                )  # fmt: skip
            except Died:
                worker.start()
        elif action == "provisional":
            worker.provisional()
        else:
            worker.start()
    same_as_oracle(worker.run(), ivs, reqs)


def test_the_oldest_windows_are_closed_down_to_the_bound():
    worker = six_windows()
    limit = worker.partition.open_rows // 2 + 20
    assert not worker.flush(0), "nothing is due"
    assert worker.flush(0, at_most_rows=limit)
    assert windows(worker) == [0, 10, 20]
    assert worker.partition.open_rows <= limit


def test_windows_closed_before_their_lateness_are_counted_and_others_are_not():
    worker = six_windows()
    worker.log.append(power([], T0 + 155_000), source="beat")
    worker.log.append(tokens([], T0 + 155_000), source="beat")
    for topic in topics.JOINED:
        worker.read(topic, 1)
    flush = worker.partition.advance(0, at_most_rows=0)
    assert (length(flush.tables["gpu_energy"]), flush.closed_early) == (6, 3), "the lateness of three had passed"


def test_no_window_is_closed_within_the_bound():
    worker = six_windows()
    assert not worker.flush(0, at_most_rows=worker.partition.open_rows)


def test_a_flush_has_a_bounded_size_and_the_next_continues():
    worker = six_windows()
    one = worker.partition.open_rows // 6
    for expected in ([0, 10], [0, 10, 20, 30], [0, 10, 20, 30, 40, 50]):
        assert worker.flush(LATER, close_rows=2 * one + 1)
        assert windows(worker) == expected
    assert not worker.flush(LATER)


def test_a_window_larger_than_a_flush_is_closed_alone():
    worker = six_windows()
    assert worker.flush(LATER, close_rows=1)
    assert windows(worker) == [0]


def test_later_events_restate_a_window_closed_early_and_only_add_to_an_open_one():
    worker = six_windows()
    worker.flush(0, at_most_rows=0, close_rows=1)
    worker.log.append(tokens([request(0, "late"), request(10, "in time")]))
    worker.read(topics.TOKENS, 1)
    worker.run()
    rows = [r for r in worker.store.live("ledger") if r["tenant"] and r["requests"]]
    revisions = {((r["window_start"] - T0) // 1000, r["tenant"]): r["revision"] for r in rows}
    assert revisions[0, "late"] == revisions[0, "acme"] == 1
    assert revisions[10, "in time"] == revisions[10, "acme"] == 0


def test_late_facts_wait_for_more_where_the_caller_allows_it():
    worker = six_windows()
    worker.flush(0, at_most_rows=0)
    for k in range(3):
        worker.log.append(tokens([request(0, f"late{k}")]))
        worker.read(topics.TOKENS, 1)
        assert not worker.flush(0, late=False)
    assert worker.partition.late_facts.rows > 3
    assert worker.flush(0)
    revisions = {r["revision"] for r in worker.store.live("ledger") if r["window_start"] == T0}
    assert (revisions, worker.partition.late_facts.rows) == ({3}, 0), "all three at once"


def test_late_facts_are_stored_in_bounded_parts():
    worker = six_windows()
    worker.flush(0, at_most_rows=0)
    for k in range(3):
        worker.log.append(tokens([request(0, f"late{k}")]))
    worker.read(topics.TOKENS, 3)
    assert [len(worker.partition.advance(0, close_rows=1).late_places) for _ in range(3)] == [1, 1, 1]
    assert worker.partition.advance(0) is None


def test_keys_of_provisional_rows_are_held_until_their_window_is_final():
    worker = six_windows()
    before = worker.partition.open_rows
    worker.provisional()
    assert worker.partition.open_rows == before + len(worker.store.live("ledger"))
    worker.flush(0, at_most_rows=0)
    assert worker.partition.open_rows == 0


def test_a_partition_says_whether_storing_would_release_rows():
    worker = six_windows()
    assert worker.partition.has_unstored
    worker.flush(0, at_most_rows=0)
    assert not worker.partition.has_unstored


def test_a_topic_is_not_idle_while_reading_is_paused():
    worker = six_windows()
    p = Partition("log", 0, PartitionConfig(idle_timeout_ms=1_000), Policy(), now_ms=0)
    p.ingest(worker.log.messages[topics.POWER], T0 + 10**6)
    now = T0 + 10**6 + 5_000
    assert p.watermark(now) == T0 + 60_000 - 5_000 + 5_000, "both are silent, so it goes on with the clock"
    p.progress.exclude_wait(5_000)
    assert p.watermark(now) == T0 + 60_000 - 5_000


# -- sources ----------------------------------------------------------------------------------------------------------


def test_sources_beyond_the_bound_are_forgotten_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "MAX_SOURCES", 10)
    log = Log()
    for k in range(25):
        log.append(power([interval(k)]), source=f"s{k:02}")
    worker = Worker(log)
    worker.read(topics.POWER, 25)
    worker.flush(0, at_most_rows=0)
    assert worker.partition.counters().forgotten == 16
    remembered = {source for source, _ in worker.partition.progress.topics[topics.POWER].runs}
    assert remembered == {f"s{k:02}/{topics.POWER}" for k in range(16, 25)}, "those heard last"


def test_silent_sources_are_pruned_once_a_minute_of_event_time(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(sequence, "prune", lambda *_: calls.append(1) or 0)
    worker = six_windows()
    for _ in range(6):
        worker.flush(0, at_most_rows=0, close_rows=1)
    assert len(calls) == 4, "at the first settling, for both topics and what is stored of both"


# -- high cardinality --------------------------------------------------------------------------------------------------


def test_the_key_of_highest_cardinality_is_named_with_its_workload():
    log = Log()
    log.append(tokens([request(0, f"session-{k}") for k in range(5)]), workload="chat")
    log.append(tokens([request(0)]), workload="batch")
    log.append(power([interval(0, "g0"), interval(0, "g1")]), workload="batch")
    worker = Worker(log)
    for topic in topics.JOINED:
        worker.read(topic, 3)
    p = worker.partition
    assert report_cardinality(p.windows.gpus, p.windows.payers) == CardinalityReport(
        5, "tenants", "c/chat", "session-4"
    )
    assert str(report_cardinality(p.windows.gpus, p.windows.payers)) == "5 tenants in c/chat, one of them 'session-4'"
    assert (len(p.windows.gpus), len(p.windows.payers)) == (2, 6)


def test_workloads_are_named_where_their_cardinality_is_highest():
    log = Log()
    for k in range(4):
        log.append(power([interval(0)]), workload=f"job-{k}")
    worker = Worker(log)
    worker.read(topics.POWER, 4)
    assert report_cardinality(worker.partition.windows.gpus, worker.partition.windows.payers) == CardinalityReport(
        4, "workloads", "c", "job-3"
    )


def test_an_empty_partition_has_no_highest_cardinality():
    assert report_cardinality((), ()) is None
