"""Energy by watts beside that by counters: which time it is of, exact sums, and an agent that is killed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.events import Event, PowerBatch, UsageBatch
from contracts.meter_names import UNWATCHED_METER, WATTS_METER
from contracts.units import MS_PER_HOUR
from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.gpu.readings import GpuReading
from producers.gpu.watts_record import EVERY_MS
from producers.runtime.agent import Agent
from producers.runtime.delivery import Delivery
from producers.runtime.spool import Spool
from tests.producers.runtime import test_agent
from tests.producers.runtime.agent_kills import run_through_kills
from tests.producers.runtime.test_agent import Gpus
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock

NODE = replace(test_agent.NODE, watts_ms=EVERY_MS)
UJ_PER_MS = 300_000
CHAT = (BindingShare(Binding("chat", "acme")),)
BOTH = (BindingShare(Binding("chat", "acme"), 2), BindingShare(Binding("code"), 1))
Row = tuple[str, int, int, int]
"""Workload, start and end since T0, microjoules."""


def by_meter(events: Sequence[Event], meter: str) -> list[Row]:
    return [
        (e.workload, int(b.t0_ms[n]) - T0, int(b.t1_ms[n]) - T0, int(b.quantity[n]))
        for e in events if isinstance(b := e.batch, UsageBatch) for n in range(len(b)) if b.meter[n] == meter
    ]  # fmt: skip


def energy(events: Sequence[Event]) -> int:
    return sum(int(e.batch.energy_uj.sum()) for e in events if isinstance(e.batch, PowerBatch))


def run(
    tmp_path: Path, alter: Callable[[GpuReading], GpuReading | None], end_ms: int = 20_000, shares: GpuShares = CHAT
) -> list[Event]:
    time, gpus = FakeClock(end_ms), Gpus("a")
    gpus.alter, log = alter, FakeBroker(time)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE, gpus, Delivery(spool, log), time, lambda: {"a": shares}).run()
    return log.stored


def total(rows: Sequence[Row]) -> int:
    return sum(row[3] for row in rows)


def test_watts_are_integrated_beside_a_counter_that_is_wrong(tmp_path: Path) -> None:
    sent = run(tmp_path, lambda r: replace(r, counter_mj=1_000 + 150 * r.monotonic_ms))
    assert energy(sent) == 20_000 * UJ_PER_MS // 2
    assert by_meter(sent, WATTS_METER) == [("chat", 0, 20_000, 20_000 * UJ_PER_MS)]
    assert by_meter(sent, UNWATCHED_METER) == []


def test_a_stretch_without_watts_is_not_bridged_and_its_energy_is_named(tmp_path: Path) -> None:
    sent = run(tmp_path, lambda r: replace(r, watts=None) if 20_000 < r.monotonic_ms <= 50_000 else r, 60_000)
    assert energy(sent) == 60_000 * UJ_PER_MS
    assert total(by_meter(sent, WATTS_METER)) == 29_000 * UJ_PER_MS
    assert total(by_meter(sent, UNWATCHED_METER)) == 31_000 * UJ_PER_MS


ABSENT = {"watts": {"watts": None}, "a counter": {"counter_mj": None}, "both": {"watts": None, "counter_mj": None}}


@pytest.mark.parametrize("part", ABSENT)
def test_no_watts_are_recorded_without_both_witnesses(part: str, tmp_path: Path) -> None:
    sent = run(tmp_path, lambda r: replace(r, **ABSENT[part]))
    assert by_meter(sent, WATTS_METER) == []
    assert total(by_meter(sent, UNWATCHED_METER)) == energy(sent)


def test_a_row_is_ten_minutes_at_most_and_none_crosses_an_hour(tmp_path: Path) -> None:
    rows = by_meter(run(tmp_path, lambda r: r, 2 * MS_PER_HOUR), WATTS_METER)
    assert len(rows) == 13  # T0 is within ten minutes.
    ends = [row[2] + T0 for row in rows[:-1]]
    assert all(end % EVERY_MS == 0 for end in ends) and any(end % MS_PER_HOUR == 0 for end in ends)
    assert total(rows) == 2 * MS_PER_HOUR * UJ_PER_MS


def test_hours_without_an_agent_have_their_energy_in_each_hour(tmp_path: Path) -> None:
    """The ledger spreads an interval that a counter bridged in the same way."""
    time = FakeClock(10_000)
    log = FakeBroker(time)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        for begin_ms, time.end_ms in ((0, 10_000), (9_000_000, 9_010_000)):
            time.now_ms = begin_ms
            Agent(
                NODE, Gpus("a"), Delivery(spool, log), time, lambda: {"a": CHAT}, checkpoints=spool.checkpoints()
            ).run()
    sent = log.stored
    rows = by_meter(sent, UNWATCHED_METER)
    assert [(row[2] + T0) % MS_PER_HOUR == 0 for row in rows] == [True] * (len(rows) - 1) + [False]
    assert total(rows) + total(by_meter(sent, WATTS_METER)) == energy(sent) == 9_010_000 * UJ_PER_MS


def test_a_shared_gpus_watts_are_split_as_its_energy_is(tmp_path: Path) -> None:
    rows = by_meter(run(tmp_path, lambda r: r, shares=BOTH), WATTS_METER)
    assert {row[0]: row[3] for row in rows} == {"chat": 4_000_000_000, "code": 2_000_000_000}


@given(st.lists(st.tuples(st.integers(0, 700_000), st.integers(1, 9)), min_size=2, max_size=40))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_integral_is_exact_to_half_a_microjoule(
    tmp_path_factory: pytest.TempPathFactory, watts: list[tuple[int, int]]
) -> None:
    mw = [one for one, _ in watts]
    sent = run(
        tmp_path_factory.mktemp("exact"),
        lambda r: replace(r, watts=mw[min(r.monotonic_ms // 1_000, len(mw) - 1)] / 1_000),
        1_000 * (len(mw) - 1),
    )
    half_uj = sum((before + after) * 1_000 for before, after in itertools.pairwise(mw))
    assert total(by_meter(sent, WATTS_METER)) == half_uj // 2


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_an_agent_that_is_killed_loses_no_watts_and_sends_none_twice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, time, gpus = tmp_path_factory.mktemp("killed") / "spool.db", FakeClock(10**9), Gpus("a", "b")
    log = FakeBroker(time)

    def agent(spool: Spool) -> Agent:
        return Agent(NODE, gpus, Delivery(spool, log), time, lambda: {"a": BOTH}, checkpoints=spool.checkpoints())

    run_through_kills(data, path, log, agent, max_down_ms=900_000)
    distinct = list({(e.source, e.epoch, e.seq): e for e in log.stored}.values())
    seen = total(by_meter(distinct, WATTS_METER)) + total(by_meter(distinct, UNWATCHED_METER))
    assert seen == energy(distinct) == 2 * UJ_PER_MS * time.end_ms
    ids = [id for e in distinct if isinstance(e.batch, UsageBatch) for id in e.batch.event_id]
    assert max(Counter(ids).values()) == 1


def test_a_counter_that_differs_for_hours_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, lambda r: replace(r, counter_mj=1_000 + 30 * r.monotonic_ms), MS_PER_HOUR)
    assert [record.getMessage()[:34] for record in caplog.records] == ["a: its counter and its watts differ"[:34]]
