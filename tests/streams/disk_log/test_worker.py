"""The worker on the log on disk: the ledger of a simulated fleet, through kills, refusals and usage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contracts import codec, topics
from contracts.errors import LedgerError
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.batching import UsageRow, usage_batch
from producers.simulation.events import FleetTotals, SimulatedFleet
from streams.core.attribution.policy import Policy
from streams.disk_log.log_file import DiskLog, NewMessage
from streams.disk_log.worker import DiskWorker
from streams.startup import load_policy, prepare_warehouse
from tests.support.pipeline import assert_ledger_is
from tests.support.waiting import until
from warehouse.client import Warehouse
from warehouse.sink.sink import Sink

START_MS = 1_758_000_000_000
NOW = START_MS + 600_000


def encoded(event: Event) -> NewMessage:
    headers, value = codec.encode(event)
    return NewMessage(codec.topic_of(event.batch), headers, value)


@dataclass
class Node:
    """A log and a warehouse, and the workers that ran on them."""

    path: Path
    warehouse: Warehouse
    settings: Settings = field(default_factory=lambda: Settings(lateness_ms=2_000, idle_timeout_ms=60_000))
    policy: Policy | None = None

    @asynccontextmanager
    async def working(self, *, killed: bool = False) -> AsyncIterator[tuple[DiskLog, DiskWorker]]:
        """Run a worker. One that is killed stores and commits nothing at its end."""
        with closing(DiskLog(self.path, max_bytes=10**9)) as log:
            policy = self.policy or load_policy(self.warehouse, self.settings)
            worker = DiskWorker(self.settings, log, Sink(self.warehouse), policy)
            await worker.start()
            try:
                yield log, worker
            finally:
                if killed:
                    for task in worker._tasks:
                        task.cancel()
                    await asyncio.gather(*worker._tasks, return_exceptions=True)
                else:
                    await worker.stop()
            assert worker.crashed is not None and not worker.crashed.done()


@pytest.fixture
def node(tmp_path: Path, warehouse: Warehouse) -> Node:
    prepare_warehouse(warehouse)
    return Node(tmp_path / "log.db", warehouse)


def append(log: DiskLog, events: list[Event]) -> None:
    log.append([encoded(event) for event in events], NOW)


def all_committed(log: DiskLog, leeway: int = 0) -> bool:
    return all(log.end(topic) - log.committed(topic) <= leeway for topic in topics.JOINED)


@pytest.mark.slow
def test_a_worker_that_is_killed_again_and_again_leaves_the_ledger_of_one_that_is_not(node: Node) -> None:
    totals = FleetTotals()
    events = list(SimulatedFleet(5).events(START_MS, 60_000, totals=totals, closing_ms=30_000))
    step = len(events) // 4 + 1

    async def go() -> None:
        for n in range(0, len(events), step):
            async with node.working(killed=True) as (log, worker):
                append(log, events[n : n + step])
                await until(lambda w=worker, n=n: w.stream_worker.messages > n // 8)  # type: ignore[misc]
        async with node.working() as (log, _):
            await until(lambda: log.committed(topics.POWER) > 0 and stored(node, totals))

    asyncio.run(go())
    assert_ledger_is(node.warehouse, totals)


def stored(node: Node, totals: FleetTotals) -> bool:
    with suppress(AssertionError):
        assert_ledger_is(node.warehouse, totals)
        return True
    return False


def usage_event(seq: int) -> Event:
    row = UsageRow(meter="tool_calls", unit="calls", quantity="1", tenant="acme", t0_ms=START_MS, t1_ms=START_MS,
                   origin="agent", event_id=f"u-{seq}")  # fmt: skip
    return Event(
        source="agent://c/n/w", epoch=1, seq=seq, cluster="c", workload="w", batch=usage_batch([row], START_MS)
    )


def test_usage_is_stored_and_an_unreadable_message_is_a_dead_letter(node: Node) -> None:
    async def go() -> None:
        async with node.working() as (log, _):
            append(log, [usage_event(0)])
            log.append([NewMessage(topics.USAGE, [("ce_id", b"?")], b"?")], NOW)
            append(log, [usage_event(1)])
            await until(lambda: log.committed(topics.USAGE) == 3)
            [letter] = log.read(topics.DEADLETTER, 0)
            assert letter.value == b"?"

    asyncio.run(go())
    assert node.warehouse.query("SELECT sum(quantity) AS n FROM usage FINAL") == [{"n": 2}]


def test_an_unreadable_message_of_a_joined_topic_does_not_hold_the_others_up(node: Node) -> None:
    async def go() -> None:
        async with node.working() as (log, worker):
            log.append([NewMessage(topics.POWER, [], b"?")], NOW)
            append(log, list(SimulatedFleet(5).events(START_MS, 5_000)))
            await until(lambda: log.end(topics.DEADLETTER) == 1 and worker.stream_worker.messages > 1)
            await until(lambda: log.committed(topics.POWER) >= 1)

    asyncio.run(go())


def test_a_log_older_than_the_warehouse_is_refused(node: Node, tmp_path: Path) -> None:
    async def go() -> None:
        async with node.working() as (log, _):
            identity = log.log_id
            log.append([NewMessage(topics.POWER, [], b"?")], NOW)
            await until(lambda: log.committed(topics.POWER) == 1)
        node.path = tmp_path / "restored.db"
        with closing(DiskLog(node.path, max_bytes=1)) as old:
            old._db.execute("UPDATE identity SET id = ?", (identity,))
        async with node.working():
            raise AssertionError("it started")

    with pytest.raises(LedgerError, match="is older than the warehouse"):
        asyncio.run(go())
