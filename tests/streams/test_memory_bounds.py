"""High cardinality: a worker continues, counts, names the highest; the ledger is the oracle's.

`python -m tests.streams.flood tenants --keys 1000000` is the same at length, with the memory measured.
"""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from contracts import topics
from tests.streams.driven_worker import T0, WINDOW_MS, Driven, ledger, settings
from tests.streams.sample_log import Sent, interval, request
from tests.support.oracle import Interval, Oracle, Request
from tests.support.partition_log import power, tokens
from tests.support.waiting import HANG_S
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse
from warehouse.reader import operator_reader

BOUND = 10_000
ROWS = 50


def early() -> float:
    return REGISTRY.get_sample_value("wattlog_stream_closed_early_total") or 0.0


def many_tenants(tenants: int, windows: int) -> Sent:
    """Each tenant sends one request in each window."""
    sent = Sent()
    for n in range(windows):
        sent.power(interval(10 * n, 10))
        for i in range(0, tenants, ROWS):
            sent.tokens(*(request(10 * n + 1, tenant=f"t{k}", name=f"r{n}.{k}") for k in range(i, i + ROWS)))
    return sent


def many_workloads(workloads: int) -> Sent:
    """Each workload has a GPU, and a request."""
    sent = Sent()
    for k in range(workloads):
        at = T0 + k % 3 * WINDOW_MS
        one = Interval(
            cluster="c",
            workload=f"w{k}",
            node="n",
            gpu=f"g{k}",
            hardware="h100",
            t0=at,
            t1=at + 5_000,
            energy_uj=1_000_003,
        )
        did = Request(
            cluster="c",
            workload=f"w{k}",
            tenant="acme",
            model="llama",
            request_id=f"r{k}",
            start=at,
            first=at + 100,
            end=at + 900,
            prompt=10,
            cached=2,
            completion=10,
        )
        sent.intervals.append(one)
        sent.requests.append(did)
        sent.log.append(power([one]), workload=f"w{k}")
        sent.log.append(tokens([did]), workload=f"w{k}")
    return sent


KINDS = [
    "tenants",
    pytest.param("workloads", marks=pytest.mark.slow),
    pytest.param("one window above the bound", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", KINDS)
def test_high_cardinality_closes_windows_early_and_the_ledger_is_the_same(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    sent = {
        "tenants": lambda: many_tenants(1_500, 6),
        "workloads": lambda: many_workloads(3_000),
        "one window above the bound": lambda: many_tenants(6_000, 1),
    }[kind]()
    sent.complete_to(400)
    bounded = settings(max_open_rows=BOUND, lateness_ms=120_000, skew_ms=5_000, idle_timeout_ms=30_000)
    driven = Driven(warehouse, sent.log, settings=bounded)
    driven.clock.now_ms = T0 + 1_000_000
    before, greatest = early(), 0.0

    async def feed(topic: str) -> None:
        for message in sent.log.messages[topic]:
            await driven.put(message)

    async def run() -> None:
        nonlocal greatest
        await driven.stream_worker.assign([0])
        ingesting = asyncio.create_task(driven.stream_worker.ingest_forever())
        feeding = [asyncio.create_task(feed(topic)) for topic in topics.JOINED]
        async with asyncio.timeout(HANG_S):
            while not all(task.done() for task in feeding) or not driven.stream_worker.idle:
                await driven.stream_worker.store_once()  # The clock stands still: nothing may wait for silence.
                greatest = max(greatest, REGISTRY.get_sample_value("wattlog_stream_open_rows") or 0)
                await asyncio.sleep(0.001)
        for _ in range(20):
            driven.clock.now_ms += 60_000
            await driven.stream_worker.store_once()
        ingesting.cancel()

    asyncio.run(run())
    assert ledger(warehouse) == Oracle(WINDOW_MS).ledger(sent.intervals, sent.requests)
    report = audit(operator_reader(warehouse))
    assert (report.balanced, report.restating) == (True, 0)
    assert early() > before
    assert f"max_open_rows ({BOUND}) is met" in caplog.text
    assert f"{'workloads' if kind == 'workloads' else 'tenants'} in c" in caplog.text
    assert greatest < 4 * BOUND  # one step, and the arrays that grow by doubling
