"""High cardinality, beyond a worker's bounds: `python -m tests.streams.flood tenants --keys 1000000`.

A real stream worker in a process of its own, whose memory is measured, stores into chdb behind HTTP in this one. Every
key is in each of some windows. Then the ledger must balance, with every key in it. Writes one JSON object to stdout.
Exit status 1 if the ledger does not balance, or if more memory was used than docs/reliability.md states (`allowed_mb`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contracts import codec, topics
from contracts.events import Batch, Event, PowerBatch, TokenBatch
from contracts.settings import Settings
from streams import metrics
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, RejectedMessage
from streams.log_reader import OffsetLookup, TopicPartition
from streams.stream_worker import StreamWorker
from tests.support.paths import ROOT
from warehouse.client import connect
from warehouse.migrate import migrate
from warehouse.sink.sink import Sink

T0 = 1_760_000_000_000
WINDOW_MS = 10_000
ENERGY_UJ = 700_000_003
AS_IN_THE_IMAGE = {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""As the Dockerfile sets it: otherwise each thread keeps its freed memory."""
REQUESTS = 64
"""Requests per message."""


@dataclass
class Flood:
    """The messages: every key in every window, one window after the other."""

    kind: str
    keys: int
    windows: int
    name_length: int
    offsets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(topics.JOINED, 0))

    def messages(self) -> Iterator[LogMessage]:
        for window in range(self.windows):
            yield from self._tenants(window) if self.kind == "tenants" else self._workloads(window)

    def closing(self, t_ms: int) -> list[LogMessage]:
        return [self._message("end", power(0, "g", t_ms)), self._message("end", requests([], [], t_ms))]

    def _tenants(self, window: int) -> Iterator[LogMessage]:
        t_ms = T0 + window * WINDOW_MS
        yield self._message("chat", power(1, "g", t_ms))
        for i in range(0, self.keys, REQUESTS):
            here = range(i, min(i + REQUESTS, self.keys))
            yield self._message("chat", requests([self._name(k) for k in here], [f"{window}-{k}" for k in here], t_ms))

    def _workloads(self, window: int) -> Iterator[LogMessage]:
        t_ms = T0 + window * WINDOW_MS
        yield self._message("chat", requests(["acme"], [f"{window}"], t_ms))
        for k in range(self.keys):
            yield self._message(self._name(k), power(1, f"GPU-{k:032d}", t_ms))

    def _name(self, k: int) -> str:
        return f"{self.kind}-{k:0{self.name_length - len(self.kind) - 1}d}"

    def _message(self, workload: str, batch: Batch) -> LogMessage:
        topic = codec.topic_of(batch)
        offset, self.offsets[topic] = self.offsets[topic], self.offsets[topic] + 1
        return LogMessage(
            topic, offset, *codec.encode(Event(f"wattlog://flood/{topic}", 1, offset, "c", workload, batch))
        )


def power(n: int, gpu: str, t_ms: int) -> PowerBatch:
    return PowerBatch(
        node="n", gpus=((gpu, "H200"),), gpu=np.zeros(n, np.uint16), t0_ms=np.full(n, t_ms),
        t1_ms=np.full(n, t_ms + 1000), energy_uj=np.full(n, ENERGY_UJ), method=np.zeros(n, np.uint8),
        busy_ms=np.full(n, -1), owner="", t_ms=t_ms,
    )  # fmt: skip


def requests(tenants: list[str], ids: list[str], t_ms: int) -> TokenBatch:
    n = len(tenants)
    return TokenBatch(
        tenants=tuple(tenants), tenant=np.arange(n).astype(np.uint16), models=("m",), model=np.zeros(n, np.uint16),
        request_id=tuple(ids), t_start_ms=np.full(n, t_ms), t_first_ms=np.full(n, t_ms + 100),
        t_end_ms=np.full(n, t_ms + 900), prompt_tokens=np.full(n, 100), cached_tokens=np.zeros(n, np.int64),
        completion_tokens=np.full(n, 100), statuses=("ok",), status=np.zeros(n, np.uint16), t_ms=t_ms,
    )  # fmt: skip


class _Log:
    """A reader without a log that counts committed offsets."""

    def __init__(self) -> None:
        self.committed: dict[str, int] = {}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed.update({topic: offset for (topic, _), offset in offsets.items()})

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        raise AssertionError("nothing is missing")

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        raise AssertionError("nothing is missing")


async def _refused(rejected: RejectedMessage, partition: int) -> None:
    raise AssertionError(rejected.error)


def work(flood: Flood, dsn: str, settings: Settings) -> dict[str, Any]:
    """The worker's process: the whole flood, stored and committed. Returns its figures."""
    shift_ms = T0 + (flood.windows + 1) * WINDOW_MS - time.time_ns() // 1_000_000

    def clock() -> int:
        return time.time_ns() // 1_000_000 + shift_ms

    async def run() -> None:
        nonlocal shift_ms
        await stream_worker.assign([0])
        tasks = [asyncio.create_task(c) for c in (stream_worker.ingest_forever(), stream_worker.store_forever())]
        for message in flood.messages():
            await stream_worker.put(message.topic, 0, (message,))
        shift_ms += settings.lateness_ms + 60_000
        for message in flood.closing(clock()):
            await stream_worker.put(message.topic, 0, (message,))
        while log.committed != flood.offsets:
            await asyncio.sleep(0.1)
            if failed := [t for t in tasks if t.done()]:
                failed[0].result()
        for task in tasks:
            task.cancel()

    log, began_s = _Log(), time.monotonic()
    with connect(dsn) as warehouse:
        stream_worker = StreamWorker(
            settings=settings,
            sink=Sink(warehouse),
            policy=Policy(),
            log_id="log",
            publish=_refused,
            reader=log,
            clock=clock,
        )
        base_mb = _peak_mb()
        asyncio.run(run())
    return {
        "base_mb": base_mb, "peak_mb": _peak_mb(), "wall_s": round(time.monotonic() - began_s, 1),
        "cpu_s": round(time.process_time(), 1), "messages": stream_worker.messages,
        "windows_closed_early": int(metrics.CLOSED_EARLY._value.get()), "late_events": int(metrics.LATE._value.get()),
        "windows_restated": int(metrics.RESTATED._value.get()),
    }  # fmt: skip


def _peak_mb() -> int:
    """Greatest resident memory of this process so far. Not getrusage's: that remembers its parent's, across exec."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 // 10**6


def allowed_mb(settings: Settings, keys: int) -> int:
    """The memory that docs/reliability.md states for names of at most 32 characters."""
    return 250 + settings.max_open_rows * 8 // 10_000 + keys * 18 // 10_000


def judge(flood: Flood, dsn: str, folder: Path) -> dict[str, Any]:
    """Audit the ledger."""
    with connect(dsn) as warehouse:
        (energy,) = warehouse.query(
            "SELECT sum(active_uj + idle_uj + unallocated_uj) AS uj, sum(requests) AS requests, "
            "uniqExact(tenant) AS tenants, uniqExact(workload) AS workloads FROM ledger FINAL WHERE final"
        )
    tenants = flood.kind == "tenants"
    expected = {
        "uj": flood.windows * (1 if tenants else flood.keys) * ENERGY_UJ,
        "requests": flood.windows * (flood.keys if tenants else 1),
    }
    actual = energy["tenants" if tenants else "workloads"]
    return {"balanced": all(energy[k] == v for k, v in expected.items()) and actual >= flood.keys, "keys_found": actual}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.streams.flood", description=__doc__)
    parser.add_argument("kind", choices=("tenants", "workloads"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--name-length", type=int, default=19)
    parser.add_argument("--max-open-rows", type=int, default=Settings.model_fields["max_open_rows"].default)
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    flood = Flood(options.kind, options.keys, options.windows, options.name_length)
    settings = Settings(max_open_rows=options.max_open_rows)
    if options.dsn:
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        print(json.dumps(work(flood, options.dsn, settings)))
        return 0
    from tests.support.clickhouse_http import serve  # Not in the worker: the import loads chdb, which is large.

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "warehouse"
        with connect(f"chdb://{folder}") as warehouse:
            migrate(warehouse)
            with serve(folder) as address:
                dsn = f"{address}/wattlog"
                child = subprocess.run(
                    [sys.executable, "-m", "tests.streams.flood", *sys.argv[1:], "--dsn", dsn],
                    cwd=ROOT, stdout=subprocess.PIPE, check=True, env={**os.environ, **AS_IN_THE_IMAGE},
                )  # fmt: skip
                result = {**vars(options), **json.loads(child.stdout), **judge(flood, dsn, folder)}
    result["allowed_mb"] = allowed_mb(settings, options.keys)
    print(json.dumps(result))
    return 0 if result["balanced"] and result["peak_mb"] <= result["allowed_mb"] else 1


if __name__ == "__main__":
    sys.exit(main())
