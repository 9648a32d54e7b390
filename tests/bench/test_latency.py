"""The latency bench waits for the rows that the core will store. A window is visible when all its rows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import latency
from bench.harness.backlog import LATENESS_MS, SKEW_MS, WINDOW_MS
from bench.harness.fleet import Events, Fleet
from bench.harness.pacer import timetable
from contracts import codec, topics
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.partition import Partition

SECONDS = 30
FLEET = Fleet(base_ms=1_700_000_000_000 // 3_600_000 * 3_600_000, partitions=1, workloads=2)
KEY = (0, "w")


def _stored(fleet: Fleet) -> dict[tuple[int, str], int]:
    """Energy of every window in the ledger of the pacer's events."""
    events, offsets = Events(fleet), dict.fromkeys(topics.JOINED, 0)
    now_ms = fleet.base_ms + 3_600_000
    state = Partition("log", 0, PartitionConfig(WINDOW_MS, LATENESS_MS, SKEW_MS), Policy(), now_ms=now_ms)
    sent = [events.event(s) for _, s in timetable(fleet, SECONDS)]
    sent += [event for _, event in events.closing(fleet.base_ms + 3_000_000)]
    for event in sent:
        topic = codec.topic_of(event.batch)
        assert not state.ingest([LogMessage(topic, offsets[topic], *codec.encode(event))], now_ms)
        offsets[topic] += 1
    flush = state.advance(now_ms)
    assert flush is not None
    ledger, energy = flush.tables["ledger"], {}
    parts = np.asarray(ledger["active_uj"]) + np.asarray(ledger["idle_uj"])
    for start, workload, uj in zip(ledger["window_start"], ledger["workload"], parts, strict=True):
        energy[int(start), str(workload)] = energy.get((int(start), str(workload)), 0) + int(uj)
    return energy


def test_the_awaited_windows_are_those_of_the_ledger() -> None:
    expected, _ = latency.expected(FLEET, SECONDS)
    assert {k: v for k, v in _stored(FLEET).items() if v} == expected


def test_messages_are_sent_in_order_of_time_after_their_rows_end() -> None:
    events, times = Events(FLEET), []
    for due_ms, s in timetable(FLEET, SECONDS):
        times.append(due_ms)
        assert events.event(s).batch.event_ms <= due_ms
    assert times == sorted(times)
    assert times[-1] <= FLEET.base_ms + SECONDS * 1_000


@pytest.mark.parametrize("rate", latency.RATES)
def test_a_fleet_sends_the_configured_number_of_messages(rate: int) -> None:
    fleet = replace(latency.fleet_at(rate, FLEET.base_ms))
    nodes_and_gateways = fleet.partitions * fleet.workloads * (fleet.nodes + 1)
    assert 0.9 * rate <= nodes_and_gateways <= rate


def test_a_window_is_visible_with_the_first_write_that_completes_it() -> None:
    writes = [(11_000, [(*KEY, 5)]), (12_000, [(*KEY, 9)]), (13_000, [(*KEY, 9)])]
    assert latency.latencies(writes, {KEY: 9}, {KEY: 10_400}, [KEY]) == ([2_000], [1_600])


def test_a_window_that_never_becomes_visible_is_an_error() -> None:
    with pytest.raises(AssertionError, match="1 of 1 windows"):
        latency.latencies([(11_000, [(*KEY, 5)])], {KEY: 9}, {KEY: 10_400}, [KEY])
