"""The whole pipeline in this process: fed, waited for, and read back from log and tables."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable

from cli.embedded import Pipeline
from cli.log_feed import LogFeed, run_unless_crashed, wait_until_stored
from contracts.events import Event
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import FleetTotals
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse

SUMS = (
    "sum(active_uj + idle_uj) AS charged_uj, sum(unallocated_uj) AS unallocated_uj, sum(prompt_tokens) AS prompt, "
    "sum(cached_tokens) AS cached, sum(completion_tokens) AS completion, "
    "sum(requests) AS requests, sum(failures) AS failures"
)


def assert_ledger_is(warehouse: Warehouse, totals: FleetTotals) -> None:
    """Assert that the final ledger holds the fleet's totals, each event once."""
    by_cluster = warehouse.query(f"SELECT cluster, {SUMS} FROM ledger FINAL WHERE final = 1 GROUP BY cluster")
    assert {r["cluster"]: r["charged_uj"] + r["unallocated_uj"] for r in by_cluster} == dict(totals.energy_uj)
    assert sum(r["unallocated_uj"] for r in by_cluster) == totals.unallocated_uj
    by_tenant = warehouse.query(f"SELECT tenant, {SUMS} FROM ledger FINAL WHERE final = 1 GROUP BY tenant")
    for column, expected in {
        "requests": totals.requests, "failures": totals.failures, "prompt": totals.prompt_tokens,
        "cached": totals.cached_tokens, "completion": totals.completion_tokens,
    }.items():  # fmt: skip
        assert Counter({r["tenant"]: r[column] for r in by_tenant if r[column]}) == +expected, column


async def feed(running: Pipeline, events: Iterable[Event], *, wait: bool = True) -> None:
    """Send events; with `wait`, return when all of them are final and stored."""
    with Publisher(kafka_config(running.settings)) as publisher:
        feeding = LogFeed(publisher, running.stream_worker, running.settings.skew_ms)
        await run_unless_crashed(feeding.run(events, lambda _: None), running.crashed)
    if wait:
        await wait_until_stored(running.warehouse, running.log_id, feeding.sent, running.crashed)


async def until(running: Pipeline, true: Callable[[], bool], goal: str) -> None:
    """Wait until `true()`, called off the loop. Raises the error that ended the worker."""
    end_s = time.monotonic() + HANG_S
    while time.monotonic() < end_s:
        if await asyncio.to_thread(true):
            return
        if running.crashed is not None and running.crashed.done():
            raise running.crashed.result()
        await asyncio.sleep(0.05)
    raise AssertionError(f"still not, after {HANG_S:g} s: {goal}")
