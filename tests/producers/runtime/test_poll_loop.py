"""The loop over sources: read items and their checkpoint are stored together, through any failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts.errors import Unavailable
from contracts.events import UsageBatch
from producers.api import PollResult, WorkloadBatch
from producers.runtime.clock import Clock
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock


class Lines:
    """A source that counts up: each poll gives the numbers since the checkpoint, at most `limit` of them."""

    kind, name = "lines", "access.log"

    def __init__(self, every_ms: int = 1_000, limit: int = 100) -> None:
        self.every_ms, self.limit = every_ms, limit
        self.fails: Callable[[int], bool] = lambda now_ms: False
        self.times: list[int] = []

    def collect(self, mark: bytes | None, clock: Clock) -> PollResult:
        now_ms = clock.monotonic_ms()
        self.times.append(now_ms)
        if self.fails(now_ms):
            raise Unavailable("no such file", "make it")
        first, last = int(mark or b"0"), now_ms // 100
        until = min(last, first + self.limit)
        n = until - first
        at = np.full(n, T0, np.int64)
        quantities = tuple(str(q) for q in range(first, until))
        batch = UsageBatch(
            meter=("line",) * n,
            unit=("1",) * n,
            tenant=("acme",) * n,
            quantity=quantities,
            t0_ms=at,
            t1_ms=at,
            t_ms=clock.wall_ms(),
        )
        return PollResult([WorkloadBatch("c", "w", batch)], str(until).encode(), more=until < last)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db")) as spool:
        yield spool


def run(
    source: Lines, time: FakeClock, log: FakeBroker, spool: Spool, registry: CollectorRegistry | None = None
) -> None:
    metrics = PollLoopMetrics(registry or CollectorRegistry())
    PollLoop([source], Delivery(spool, log), time, spool.checkpoints(), metrics).run()


def numbers(log: FakeBroker) -> list[int]:
    return [int(q) for e in log.stored if isinstance(e.batch, UsageBatch) for q in e.batch.quantity]


def test_a_source_is_polled_when_it_is_due_and_continues_from_its_checkpoint(spool: Spool) -> None:
    source, log = Lines(), FakeBroker()
    run(source, FakeClock(5_500), log, spool)
    assert source.times == [0, 1_000, 2_000, 3_000, 4_000, 5_000]
    assert numbers(log) == list(range(50))
    assert {e.source for e in log.stored} == {"lines://c/access.log/w"}
    assert [e.seq for e in log.stored] == list(range(6))


def test_a_source_with_more_items_is_polled_again_at_once(spool: Spool) -> None:
    source, log = Lines(every_ms=10_000, limit=30), FakeBroker()
    run(source, FakeClock(10_500), log, spool)
    assert numbers(log) == list(range(100))


def test_a_failing_source_is_reported_and_tried_again_and_nothing_is_lost(spool: Spool) -> None:
    source, log, registry = Lines(), FakeBroker(), CollectorRegistry()
    source.fails = lambda now_ms: 1_000 <= now_ms < 4_000
    run(source, FakeClock(5_500), log, spool, registry)
    assert numbers(log) == list(range(50))
    assert registry.get_sample_value("wattlog_producer_source_errors_total", {"source": "access.log"}) == 3
    assert registry.get_sample_value("wattlog_producer_source_up", {"source": "access.log"}) == 1


class Restarting(Lines):
    """A source whose server restarts before each reading."""

    def collect(self, mark: bytes | None, clock: Clock) -> PollResult:
        return super().collect(mark, clock)._replace(restarts=["restarted at noon"])


def test_each_restart_is_counted_and_one_a_minute_is_logged(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    run(Restarting(), FakeClock(130_500), FakeBroker(), spool, registry)
    assert registry.get_sample_value("wattlog_producer_source_restarts_total", {"source": "access.log"}) == 131
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "access.log: restarted at noon",
        "access.log: restarted at noon (59 more before it)",
        "access.log: restarted at noon (59 more before it)",
    ]


def test_missed_polls_are_not_made_up_for(spool: Spool) -> None:
    class Slow(Lines):
        def collect(self, mark: bytes | None, clock: Clock) -> PollResult:
            batch = super().collect(mark, clock)
            time.now_ms += 2_500
            return batch

    time, source, log = FakeClock(9_000), Slow(), FakeBroker()
    run(source, time, log, spool)
    assert source.times == [0, 3_000, 6_000]


def test_the_checkpoint_does_not_move_while_the_spool_is_full(tmp_path: Path) -> None:
    source, log, time = Lines(limit=10), FakeBroker(), FakeClock(20_000)
    log.silent = True
    with closing(Spool(tmp_path / "spool.db", max_bytes=1_000)) as spool:
        collector = PollLoop([source], Delivery(spool, log), time, {}, PollLoopMetrics(CollectorRegistry()))
        for _ in range(15):
            collector.poll_due()
            time.now_ms += 1_000
        log.silent = False
        for _ in range(400):
            collector.poll_due()
            time.now_ms += 100
        assert spool.events == 0
    assert numbers(log) == list(range(len(numbers(log))))
    assert len(numbers(log)) > 140
    assert [e.seq for e in log.stored] == list(range(len(log.stored)))


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=6))
def test_a_collector_killed_at_any_points_loses_nothing_and_counts_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool]]
) -> None:
    path, time, log, source = (
        tmp_path_factory.mktemp("killed") / "spool.db",
        FakeClock(10**9),
        FakeBroker(),
        Lines(limit=7),
    )
    for rounds, log.silent in runs:
        with closing(Spool(path)) as spool:
            collector = PollLoop(
                [source], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
            )
            for _ in range(rounds):
                collector.poll_due()
                time.now_ms += 500
        log.forget()  # messages in flight are lost with the process, and their answers too
        time.now_ms += 1_000
    log.silent = False
    time.end_ms = time.now_ms + 5_000
    with closing(Spool(path)) as spool:
        run(source, time, log, spool)
    distinct = {(e.source, e.epoch, e.seq): e for e in log.stored}  # as a worker sees them
    log.stored = list(distinct.values())
    assert sorted(numbers(log)) == list(range(len(numbers(log))))
