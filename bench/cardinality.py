"""Does a record cost more in a larger fleet? And what does a key hold in memory? No broker: the core and the sink.

`python -m bench.cardinality [--quick]`. Writes build/bench/cardinality.json.

Cost: CPU seconds of decode, join, attribution and insert into chdb, per row in, with 1 to 10,000 tenants and 100 to
100,000 GPUs, the same number of rows a message. Each size is a process of its own. Memory: what tracemalloc counts
(numpy's arrays included), and Arrow, while so many windows with so many keys are open.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.harness import reports
from bench.harness.backlog import LATENESS_MS, SKEW_MS, WINDOW_MS, Shape, messages
from bench.harness.broker import ROOT
from bench.harness.fleet import BLOCK_S, HARDWARE, IDLE_MW, MS, Fleet, Totals
from bench.harness.meter import Used
from bench.harness.progress import show_progress
from contracts.codec import decode
from contracts.columns import I64
from streams.core.attribution.policy import FloorVersion, Policy
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.partition import Partition
from streams.core.stored_keys import touched_hours
from streams.startup import prepare_warehouse
from warehouse.client import connect
from warehouse.sink.sink import Sink

TENANTS = (1, 10, 100, 1_000, 10_000)
GPUS = (100, 1_000, 10_000, 100_000)
SHAPE = Shape(64, "packed")
STEP, ROUND = 2_048, 4
"""Messages in one step, and steps between two rounds of storing: about as a worker does in a backlog."""
ROWS = 1_000_000
FLAT_WITHIN = 0.20
POLICY = Policy((FloorVersion(HARDWARE, 0, 2**62, IDLE_MW, 1),))
CONFIG = PartitionConfig(WINDOW_MS, LATENESS_MS, SKEW_MS)


def sizes() -> list[tuple[str, int, Fleet]]:
    """(what varies, how much, the fleet). One partition; workloads of 25 to 256 GPUs."""
    base = Fleet(reports.base_ms(), partitions=1)
    result = [("tenants", n, replace(base, workloads=32, tenants=n)) for n in TENANTS]
    for n in GPUS:
        workloads = max(n // 256, 4)
        nodes = max(round(n / workloads / 8), 1)
        result.append(("GPUs", n, replace(base, workloads=workloads, nodes=nodes)))
    return result


def steps(fleet: Fleet, rows: int, totals: Totals) -> Iterator[list[LogMessage]]:
    """The worker's steps, encoded beforehand so that making them is not measured."""
    offsets: dict[str, int] = {}
    step: list[LogMessage] = []
    for topic, _, _, _, headers, value in messages(fleet, SHAPE, fleet.blocks(rows), totals):
        offsets[topic] = offsets.get(topic, -1) + 1
        step.append(LogMessage(topic, offsets[topic], headers, value))
        if len(step) == STEP:
            yield step
            step = []
    yield step


def cost(fleet: Fleet, rows: int, folder: Path) -> dict[str, Any]:
    """CPU seconds a row. Raises AssertionError where the ledger is not the input."""
    totals = Totals()
    batch_list = list(steps(fleet, rows, totals))
    with connect(f"chdb://{folder / 'warehouse'}") as warehouse:
        prepare_warehouse(warehouse)
        sink, state, now_ms = Sink(warehouse), Partition("bench", 0, CONFIG, POLICY), _now_ms()
        begun, core_s, stored = Used.now(), 0.0, 0
        for n, step in enumerate(batch_list, 1):
            at = time.thread_time()
            rejected = state.ingest(step, now_ms)
            flush = state.advance(now_ms) if n % ROUND == 0 or n == len(batch_list) else None
            core_s += time.thread_time() - at
            assert not rejected, rejected[0].error
            if flush:
                stored += _store(sink, state, flush.tables)
                sink.write("marks", state.finals_stored(flush))
        ended = Used.now()
        result = warehouse.query("SELECT toInt64(sum(active_uj + idle_uj + unallocated_uj)) AS uj FROM ledger FINAL")
    assert result[0]["uj"] == totals.energy_uj, f"{result[0]['uj']} uJ stored, not {totals.energy_uj}"
    cpu_s = ended.user_s + ended.system_s - begun.user_s - begun.system_s
    return {
        "rows": totals.rows, "stored_rows": stored, "cpu_s": cpu_s, "core_s": core_s,
        "us_per_row": cpu_s / totals.rows * 1e6, "core_us_per_row": core_s / totals.rows * 1e6,
    }  # fmt: skip


def _store(sink: Sink, state: Partition, tables: Any) -> int:
    for name, table in tables.items():
        sink.write(name, table)
    sink.refresh_hours(*touched_hours(tables["ledger"]))
    if (sources := state.progress.take_source_rows()) is not None:
        sink.write("sources", sources)
    return sum(len(table["window_start"]) for table in tables.values())


def memory(fleet: Fleet, windows: int, kind: str) -> dict[str, Any]:
    """Bytes held per key and open window: keys are GPUs (power only), or (tenant, workload) (tokens only)."""
    state, now_ms = Partition("bench", 0, CONFIG, POLICY), _now_ms()
    batch_list = [m for step in steps(fleet, 1, Totals()) for m in step]
    wanted_kind = "power" if kind == "GPU" else "tokens"
    within = [m for m in batch_list if wanted_kind in m.topic and _before(m, fleet.base_ms + windows * WINDOW_MS)]
    gc.collect()
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    for at in range(0, len(within), STEP):
        state.ingest(within[at : at + STEP], now_ms)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held += pa.total_allocated_bytes() - arrow
    counters = state.counters()
    return {"kind": kind, "windows": counters.open_windows, "rows": counters.open_rows, "bytes": held}


def _before(message: LogMessage, end_ms: int) -> bool:
    """Return whether all rows of a message end by `end_ms` plus a second."""
    batch = decode(message.headers, message.value).batch
    times: I64 = batch.t1_ms if hasattr(batch, "t1_ms") else batch.t_end_ms
    return bool(len(times)) and int(times.max()) <= end_ms + MS


def held_per_key() -> list[dict[str, Any]]:
    """Memory over windows and over keys: twice the windows or the keys should hold twice as much."""
    result = []
    for gpus, windows in ((1_024, 2), (1_024, 4), (4_096, 2), (4_096, 4)):
        fleet = Fleet(reports.base_ms(), partitions=1, workloads=gpus // 32)
        result.append({"keys": gpus, **memory(fleet, windows, "GPU")})
    for requests, windows in ((16, 2), (16, 4), (64, 2), (64, 4)):
        fleet = Fleet(reports.base_ms(), partitions=1, workloads=requests)
        result.append({"keys": requests, **memory(fleet, windows, "request")})
    for f in result:
        f["bytes_per_row"] = f["bytes"] / max(f["rows"], 1)
    return result


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _one(kind: str, size: int, rows: int) -> dict[str, Any]:
    fleet = next(f for k, n, f in sizes() if (k, n) == (kind, size))
    with tempfile.TemporaryDirectory(prefix="wattlog-bench-") as folder:
        return {"what": kind, "size": size, **cost(fleet, rows, Path(folder))}


def _in_child(kind: str, size: int, rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.cardinality", "--one", kind, str(size), "--rows", str(rows)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{size} {kind}: exit status {process.returncode}\n{process.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cardinality", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two sizes each, few rows")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each size (2)")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of each run, at least ({ROWS:,})")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    options = parser.parse_args(argv)
    if options.one:
        print(json.dumps(_one(options.one[0], int(options.one[1]), options.rows)))
        return
    wanted_kind = [s for s in sizes() if not options.quick or s[1] in (1, 100, 1_000)]
    repeats, rows = (1, 100_000) if options.quick else (options.repeats, options.rows)
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with show_progress("cardinality") as progress:
        progress.total(repeats * len(wanted_kind) + 1)
        for _ in range(repeats):
            for kind, size, _ in wanted_kind:
                progress.say(f"{size:,} {kind}")
                runs.setdefault((kind, size), []).append(_in_child(kind, size, rows))
                progress.step()
        progress.say("memory")
        held = held_per_key()
    results = [
        {**here[0], **{f: reports.spread([r[f] for r in here]) for f in ("us_per_row", "core_us_per_row", "cpu_s")}}
        for here in runs.values()
    ]
    about = reports.about(None, asdict(sizes()[0][2]), repeats=repeats, window_ms=WINDOW_MS, block_s=BLOCK_S)
    reports.write(options.out, "cardinality", {"about": about, "results": results, "memory": held})


if __name__ == "__main__":
    main()
