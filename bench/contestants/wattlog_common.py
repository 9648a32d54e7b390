"""Parts shared by contestants that use Wattlog's core: the warehouse, its totals, and waiting for the commits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.harness.fleet import HARDWARE
from bench.harness.meter import Job
from contracts.settings import Settings
from streams.startup import prepare_warehouse
from warehouse.client import Warehouse
from warehouse.reference_data.attribution_tables import IdleFloor, put_idle_floors
from warehouse.reference_data.validity import END_MS

PATIENCE_S = 90.0

_TOTALS = """
SELECT tenant, toInt64(sum(active_uj + idle_uj + unallocated_uj)) AS energy_uj,
    toInt64(sum(prompt_tokens)) AS prompt, toInt64(sum(cached_tokens)) AS cached,
    toInt64(sum(completion_tokens)) AS completion, toInt64(sum(requests)) AS requests
FROM ledger FINAL WHERE final GROUP BY tenant ORDER BY tenant
"""


def settings_of(job: Job) -> Settings:
    """The worker's settings. `options` may add some, such as the transport."""
    overrides = {k: v for k, v in job.options.items() if k in Settings.model_fields}
    return Settings(
        data=Path(job.folder), kafka_bootstrap=job.bootstrap, kafka_group=job.group, kafka_partitions=job.partitions,
        window_ms=job.window_ms, lateness_ms=job.lateness_ms, skew_ms=job.skew_ms, log_level="WARNING",
        warehouse_dsn=job.warehouse, **overrides,
    )  # fmt: skip


def fill(warehouse: Warehouse, job: Job) -> None:
    """The tables, and the idle floor that everyone attributes with."""
    prepare_warehouse(warehouse)
    put_idle_floors(warehouse, [IdleFloor(HARDWARE, 0, END_MS, job.idle_mw, 1)])


def totals(warehouse: Warehouse) -> dict[str, Any]:
    """Sums over the final ledger; `tenants` are energies in microjoules."""
    rows = warehouse.query(_TOTALS)
    return {
        "energy_uj": sum(r["energy_uj"] for r in rows), "prompt_tokens": sum(r["prompt"] for r in rows),
        "cached_tokens": sum(r["cached"] for r in rows), "completion_tokens": sum(r["completion"] for r in rows),
        "requests": sum(r["requests"] for r in rows), "tenants": {r["tenant"]: r["energy_uj"] for r in rows},
        "ledger_rows": warehouse.query("SELECT toInt64(count()) AS n FROM ledger FINAL WHERE final")[0]["n"],
    }  # fmt: skip


class Commits:
    """Watches the group's offsets. One idle client: it costs the worker next to nothing until it is asked."""

    def __init__(self, job: Job) -> None:
        self._ends = {(t, int(p)): end for t, ends in job.ends.items() for p, end in ends.items()}
        self._consumer = Consumer(
            {"bootstrap.servers": job.bootstrap, "group.id": job.group, "enable.auto.commit": False, "log_level": 0}
        )

    def all_there(self) -> bool:
        positions = [TopicPartition(t, p) for t, p in self._ends]
        committed = self._consumer.committed(positions, timeout=10)
        return all(tp.offset >= self._ends[tp.topic, tp.partition] for tp in committed)


class Patience:
    """Raises TimeoutError when nothing moves for PATIENCE_S."""

    def __init__(self) -> None:
        self._before: object = None
        self._moved_s = time.monotonic()

    def check(self, state: object) -> None:
        if state != self._before:
            self._before, self._moved_s = state, time.monotonic()
        elif time.monotonic() - self._moved_s > PATIENCE_S:
            raise TimeoutError(f"nothing moved for {PATIENCE_S:g} s; last seen: {state}")
