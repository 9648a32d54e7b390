"""The simulated fleet: repeatable to the byte, plausible, and marked SIMULATED."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from contracts import codec, topics
from contracts.events import Event, Method, PowerBatch, TokenBatch
from producers.simulation.events import Faults, FleetTotals, SimulatedFleet, clusters, idle_floors, prices, tenants
from producers.simulation.fleet import ACME, H100, INITECH, busy, default_spec, watts

MONDAY_NOON = 1_767_614_400_000  # 2026-01-05T12:00:00Z
MINUTES = 60_000


def stream(minutes: int = 3, seed: int = 1, faults: Faults | None = None) -> list[Event]:
    return list(SimulatedFleet(seed, faults=faults).events(MONDAY_NOON, minutes * MINUTES))


def identity(event: Event) -> tuple[str, int, int]:
    return event.source, event.epoch, event.seq


def power_rows(events: list[Event]) -> dict[str, list[tuple[int, int, int, int]]]:
    """Per GPU: (t0, t1, energy, method) in order of time; each event once."""
    rows: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    for event in {identity(e): e for e in events}.values():
        b = event.batch
        if isinstance(b, PowerBatch):
            for g, t0, t1, e, m in zip(b.gpu, b.t0_ms, b.t1_ms, b.energy_uj, b.method, strict=True):
                rows[b.gpus[g][0]].append((int(t0), int(t1), int(e), int(m)))
    return {gpu: sorted(intervals) for gpu, intervals in rows.items()}


def test_a_seed_determines_the_bytes() -> None:
    once, again, other = ([codec.encode(e) for e in stream(2, seed)] for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    short, long = stream(1), stream(2)
    assert [codec.encode(e) for e in long[: len(short)]] == [codec.encode(e) for e in short]


def test_every_event_keeps_its_contract_in_order_of_event_time() -> None:
    events = stream()
    for event in events:
        event.batch.check()
    times = [e.batch.event_ms for e in events]
    assert times == sorted(times)
    assert {codec.topic_of(e.batch) for e in events} == set(topics.JOINED)


def test_each_source_writes_to_one_topic_and_counts_without_gaps() -> None:
    seen: dict[str, list[int]] = defaultdict(list)
    topic_of: dict[str, set[str]] = defaultdict(set)
    for event in stream():
        seen[event.source].append(event.seq)
        topic_of[event.source].add(codec.topic_of(event.batch))
    assert all(numbers == list(range(len(numbers))) for numbers in seen.values())
    assert all(len(topics) == 1 for topics in topic_of.values())


def test_the_intervals_of_a_gpu_follow_each_other_without_gap_or_overlap() -> None:
    gpus = power_rows(stream())
    assert len(gpus) == 48
    for rows in gpus.values():
        assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
        assert {row[3] for row in rows} == {Method.COUNTER}


def test_the_oracle_agrees_with_the_totals() -> None:
    totals = FleetTotals()
    energy, requests, failures, tokens = Counter[str](), Counter[str](), 0, 0
    sent = 0
    for event in SimulatedFleet(3, faults=Faults(failed=0.1)).events(
        MONDAY_NOON, 3 * MINUTES, totals=totals, closing_ms=60_000
    ):
        sent += 1
        b = event.batch
        if isinstance(b, PowerBatch):
            energy[event.cluster] += int(b.energy_uj.sum())
        elif isinstance(b, TokenBatch):
            requests.update(b.tenants[t] for t in b.tenant)
            failures += int((b.status > 0).sum())
            tokens += int(b.completion_tokens.sum())
    assert totals.energy_uj == energy
    assert totals.requests == requests
    assert sum(totals.failures.values()) == failures > 0
    assert sum(totals.completion_tokens.values()) == tokens
    assert totals.events == sent
    assert SimulatedFleet(3, faults=Faults(failed=0.1)).totals(MONDAY_NOON, 3 * MINUTES).energy_uj == energy


def test_every_row_is_within_the_requested_time() -> None:
    for event in stream(2):
        b = event.batch
        first = b.t0_ms if isinstance(b, PowerBatch) else b.t_start_ms
        assert len(b) == 0 or first.min() >= MONDAY_NOON
        assert b.event_ms <= MONDAY_NOON + 2 * MINUTES


def test_closing_heartbeats_complete_every_source() -> None:
    events = list(SimulatedFleet(1).events(MONDAY_NOON, MINUTES, closing_ms=150_000))
    closing = [e for e in events if e.batch.event_ms == MONDAY_NOON + MINUTES + 150_000]
    assert {e.source for e in closing} == {e.source for e in events}
    assert not any(len(e.batch) for e in closing)


def test_unallocated_gpus_idle_under_the_name_of_their_node() -> None:
    spare = {gpu.uuid for gpu in default_spec().spare}
    seen = {
        uuid: int(b.energy_uj.sum()) / len(b) / len(b.gpus)
        for e in stream(1)
        for b in [e.batch]
        if topics.is_unallocated(e.workload) and isinstance(b, PowerBatch) and len(b)
        for uuid, _ in b.gpus
    }
    assert seen.keys() == spare


def test_joules_per_output_token_are_in_the_range_of_measured_ones() -> None:
    """0.07 (8B, best) to 3.8 (70B, batch of 8) J/token on an H100, by ML.ENERGY v3; older boards cost more."""
    energy, tokens = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for event in stream(5):
        b, key = event.batch, (event.cluster, event.workload)
        if isinstance(b, PowerBatch):
            energy[key] += int(b.energy_uj.sum())
        elif isinstance(b, TokenBatch):
            tokens[key] += int(b.completion_tokens.sum())
    per_token = {key: energy[key] / 1e6 / tokens[key] for key in tokens}
    assert len(per_token) == 8
    assert min(per_token.values()) > 0.1
    assert max(per_token.values()) < 4
    assert 0.1 < sum(energy.values()) / 1e6 / sum(tokens.values()) < 3


def test_watts_range_from_the_idle_floor_to_the_boards_limit() -> None:
    assert watts(H100, busy([0.0, 1e9])).tolist() == [70, 700]


def test_tenants_have_daily_and_weekly_rhythms() -> None:
    day = MONDAY_NOON + np.arange(24) * 3_600_000
    assert day[INITECH.level(day).argmax()] == MONDAY_NOON + 2 * 3_600_000  # 14:00
    assert INITECH.level(MONDAY_NOON + 5 * 86_400_000) == pytest.approx(0.2 * INITECH.level(MONDAY_NOON))
    assert ACME.level(day).max() <= 1


def test_a_counter_reset_on_demand_is_an_estimate_and_counted() -> None:
    totals = FleetTotals()
    events = list(SimulatedFleet(1, faults=Faults(counter_reset=0.5)).events(MONDAY_NOON, 3 * MINUTES, totals=totals))
    methods = Counter(row[3] for rows in power_rows(events).values() for row in rows)
    assert methods[Method.ESTIMATED] >= 2 * totals.resets > 20  # The time up to the reset, and that until it is sure.


def test_a_gap_on_demand_leaves_longer_intervals_and_the_same_joules() -> None:
    full, gappy = power_rows(stream()), power_rows(stream(faults=Faults(gap=0.5)))
    longest = max(row[1] - row[0] for rows in gappy.values() for row in rows)
    assert longest >= 10_000
    compared = 0
    for gpu, rows in gappy.items():
        if rows[-1][1] == full[gpu][-1][1] and rows[0][0] == full[gpu][0][0]:
            assert sum(row[2] for row in rows) == sum(row[2] for row in full[gpu])
            compared += 1
    assert compared > 24


def test_late_double_and_swapped_events_are_the_same_events_in_another_order() -> None:
    calm, wild = stream(), stream(faults=Faults(late=0.05, duplicate=0.05, out_of_order=0.1))
    assert {identity(e): codec.encode(e) for e in wild} == {identity(e): codec.encode(e) for e in calm}
    assert len(wild) > len(calm)
    times = [e.batch.event_ms for e in wild]
    assert times != sorted(times)
    assert max(a - b for a, b in itertools.pairwise(times)) >= 60_000 - 5_000


def test_a_bad_day_has_every_fault_and_keeps_its_contract() -> None:
    for event in stream(faults=Faults.all()):
        event.batch.check()


def test_reference_data_covers_the_whole_fleet_and_is_marked_simulated() -> None:
    spec = default_spec()
    names = {gpu.cluster for gpu in spec.gpus}
    assert {row["hardware"] for row in idle_floors()} == {gpu.hardware.name for gpu in spec.gpus}
    assert {(row["cluster"], row["kind"]) for row in prices()} == set(
        itertools.product(names, ("energy", "pue", "carbon"))
    )
    assert {row["tenant"] for row in tenants()} == {t.name for t in spec.tenants}
    assert all(row["simulated"] for row in (*clusters(), *tenants()))
    assert all("SIMULATED" in row["source"] for row in (*prices(), *idle_floors()))
