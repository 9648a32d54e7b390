"""Attribution rule and ClickHouse ledger that the peers' designs share. It runs in their own environments, so it
imports none of Wattlog's packages.

Attribution as one would write it: floats, one pass, no largest remainder. Rows are inserted in batches.
"""

from __future__ import annotations

import time
from typing import Any

import clickhouse_connect

from bench.harness.meter import Job, Meter

COLUMNS = (
    "window_start_ms", "workload", "hardware", "model", "tenant", "active_uj", "idle_uj", "prompt_tokens",
    "cached_tokens", "completion_tokens", "requests",
)  # fmt: skip
_TABLE = """
CREATE TABLE ledger (window_start_ms Int64, workload LowCardinality(String), hardware LowCardinality(String),
    model LowCardinality(String), tenant LowCardinality(String), active_uj Float64, idle_uj Float64,
    prompt_tokens Int64, cached_tokens Int64, completion_tokens Int64, requests Int64)
ENGINE = ReplacingMergeTree PARTITION BY intDiv(window_start_ms, 86400000)
ORDER BY (tenant, workload, model, hardware, window_start_ms)
"""
_TOTALS = """
SELECT tenant, sum(active_uj + idle_uj) AS energy, sum(prompt_tokens) AS prompt, sum(cached_tokens) AS cached,
    sum(completion_tokens) AS completion, sum(requests) AS requests FROM ledger FINAL GROUP BY tenant
"""
BATCH_ROWS, BATCH_S = 10_000, 1.0
NEARLY = 1 - 1e-9

Payers = dict[tuple[str, str], list[int]]
"""By (tenant, model): prompt, cached and completion tokens, requests."""
Row = tuple[Any, ...]


def attribute(
    start_ms: int, workload: str, hardware: str, energy_uj: float, seconds: float, payers: Payers, idle_mw: int
) -> list[Row]:
    """Ledger rows of one window of one workload: idle up to the floor, the rest active, both by work."""
    idle = min(energy_uj, idle_mw * 1000 * seconds)
    work = {payer: (t[0] - t[1]) + 3 * t[2] for payer, t in payers.items()}
    work_sum = sum(work.values())
    if not work_sum:
        unmetered = [
            (start_ms, workload, hardware, model, tenant, 0.0, 0.0, *t) for (tenant, model), t in payers.items()
        ]
        return [(start_ms, workload, hardware, "", "__idle__", 0.0, energy_uj, 0, 0, 0, 0), *unmetered]
    return [
        (start_ms, workload, hardware, model, tenant, (energy_uj - idle) * work[tenant, model] / work_sum,
         idle * work[tenant, model] / work_sum, *tokens)
        for (tenant, model), tokens in payers.items()
    ]  # fmt: skip


class Ledger:
    """Rows into ClickHouse. `complete` once all of the input's energy and requests are stored."""

    def __init__(self, job: Job) -> None:
        self._client = clickhouse_connect.get_client(dsn=job.warehouse)
        self._client.command(_TABLE)
        self._job = job
        self._rows: list[Row] = []
        self._stored_s = time.monotonic()
        self._energy_uj, self._requests = 0.0, 0

    def add(self, rows: list[Row]) -> None:
        """Keep rows until a batch is full or old."""
        self._rows += rows
        if len(self._rows) >= BATCH_ROWS or time.monotonic() - self._stored_s > BATCH_S:
            self.store()

    def store(self) -> None:
        """Insert what is kept."""
        rows, self._rows = self._rows, []
        self._stored_s = time.monotonic()
        if rows:
            self._client.insert("ledger", rows, column_names=COLUMNS)
            self._energy_uj += sum(r[5] + r[6] for r in rows)
            self._requests += sum(r[10] for r in rows)

    @property
    def complete(self) -> bool:
        """Return whether the stored rows are complete; buffered rows do not count."""
        return self._requests >= self._job.requests and self._energy_uj >= self._job.energy_uj * NEARLY

    def nearly(self) -> bool:
        """Return whether storing the buffered rows would complete the ledger, so that waiting can end."""
        energy = self._energy_uj + sum(r[5] + r[6] for r in self._rows)
        requests = self._requests + sum(r[10] for r in self._rows)
        return bool(requests >= self._job.requests and energy >= self._job.energy_uj * NEARLY)

    def report(self, meter: Meter) -> None:
        """Stop the watch, then ask the warehouse what it holds."""
        meter.stop()
        rows = self._client.query(_TOTALS).result_rows
        held = self._client.query("SELECT count() FROM ledger FINAL").result_rows[0][0]
        meter.report(
            {
                "energy_uj": sum(r[1] for r in rows), "prompt_tokens": sum(r[2] for r in rows),
                "cached_tokens": sum(r[3] for r in rows), "completion_tokens": sum(r[4] for r in rows),
                "requests": sum(r[5] for r in rows), "tenants": {r[0]: r[1] for r in rows}, "ledger_rows": held,
            }
        )  # fmt: skip


class Window:
    """One window of one workload, as an accumulator of plain Python."""

    __slots__ = ("energy_uj", "hardware", "payers", "seconds")

    def __init__(self) -> None:
        self.energy_uj, self.seconds, self.hardware = 0, 0.0, ""
        self.payers: Payers = {}

    def power(self, row: dict[str, Any]) -> None:
        self.energy_uj += row["energy_uj"]
        self.seconds += (row["t1_ms"] - row["t0_ms"]) / 1000
        self.hardware = row["hardware"]

    def tokens(self, row: dict[str, Any]) -> None:
        t = self.payers.setdefault((row["tenant"], row["model"]), [0, 0, 0, 0])
        t[0] += row["prompt_tokens"]
        t[1] += row["cached_tokens"]
        t[2] += row["completion_tokens"]
        t[3] += 1

    def rows(self, start_ms: int, workload: str, idle_mw: int) -> list[Row]:
        return attribute(start_ms, workload, self.hardware, self.energy_uj, self.seconds, self.payers, idle_mw)
