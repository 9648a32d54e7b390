"""Time until a row is visible: a paced producer, a `wattlog stream` worker and a real Kafka, in real time.

`python -m bench.latency [--rates 300,1000,3000] [--seconds 50]`. Writes build/bench/latency.json.

A (window, workload) is visible when a write has returned that held all energy measured in it. One latency counts from
the window's end, the other from the moment when its last message was produced. Nodes send once a second, so the last
interval of a window is known up to a second after its end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import reports
from bench.harness.backlog import LATENESS_MS, SKEW_MS, WINDOW_MS, make_topics
from bench.harness.broker import ROOT, Broker, broker
from bench.harness.fleet import IDLE_MW, MS, Fleet
from bench.harness.meter import Job
from bench.harness.pacer import timetable
from bench.harness.progress import Progress, show_progress
from contracts import topics

RATES = (300, 1_000, 3_000)
PARTITIONS = 12
PER_WORKLOAD = 5
"""Messages a second of one workload: four nodes and a gateway."""
WARM_UP_WINDOWS = 1
SETTLE_S = 6.0
"""After the last message: longer than any target."""
START_S = 10.0
"""What worker and producer get to start in."""

Key = tuple[int, str]
"""(window_start in epoch ms, workload)"""


def fleet_at(rate: int, base_ms: int) -> Fleet:
    """A fleet that sends so many messages a second, or a few fewer."""
    return Fleet(base_ms, partitions=PARTITIONS, workloads=max(rate // PER_WORKLOAD // PARTITIONS, 1))


def expected(fleet: Fleet, seconds: int) -> tuple[dict[Key, int], dict[Key, int]]:
    """(energy in µJ, when its last message was due in epoch ms) of every window of every workload that ended."""
    energy: dict[Key, int] = {}
    last_ms: dict[Key, int] = {}
    for due_ms, s in timetable(fleet, seconds):
        if s.node < 0:
            continue
        _, t0, uj = s.intervals()
        first = t0 // WINDOW_MS * WINDOW_MS
        # What lies before the window's end of an interval that crosses it: the floor, as everywhere in the ledger.
        before = np.where(t0 + MS > first + WINDOW_MS, uj * (first + WINDOW_MS - t0) // MS, uj)
        for start, part, total_uj in zip(first.tolist(), before.tolist(), uj.tolist(), strict=True):
            for at, amount in ((start, part), (start + WINDOW_MS, total_uj - part)):
                if amount:
                    key = at, s.block.workload
                    energy[key] = energy.get(key, 0) + amount
                    last_ms[key] = max(last_ms.get(key, 0), due_ms)
    return energy, last_ms


def latencies(
    seen: Iterable[tuple[int, list[Any]]], energy: dict[Key, int], last_ms: dict[Key, int], keys: list[Key]
) -> tuple[list[int], list[int]]:
    """(from the window's end, from its last message) in ms, of each key. Raises AssertionError for one never seen."""
    complete: dict[Key, int] = {}
    for at_ms, held in seen:
        for start, workload, uj in held:
            if energy.get((start, workload)) == uj:
                complete.setdefault((start, workload), at_ms)
    missing = [key for key in keys if key not in complete]
    if missing:
        raise AssertionError(f"{len(missing)} of {len(keys)} windows were never complete, the first: {missing[0]}")
    return [complete[k] - k[0] - WINDOW_MS for k in keys], [complete[k] - last_ms[k] for k in keys]


def measure(at: Broker, rate: int, seconds: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """One rate. Raises RuntimeError where the worker or the producer ends early."""
    progress.say(f"{rate:,} messages a second: starting")
    at.anew()
    make_topics(at.bootstrap, topics.ALL, PARTITIONS)
    base_ms = (int((time.time() + START_S) * 1000) // WINDOW_MS + 1) * WINDOW_MS
    fleet = fleet_at(rate, base_ms)
    home = Path(tempfile.mkdtemp(prefix=f"latency-{rate}-", dir=folder))
    worker, result = _worker(at, fleet, home)
    try:
        order = home / "pace.json"
        order.write_text(json.dumps({"fleet": asdict(fleet), "bootstrap": at.bootstrap, "seconds": seconds}), "utf-8")
        progress.say(f"{rate:,} messages a second: {seconds} s of it")
        paced = subprocess.run(
            [sys.executable, "-m", "bench.harness.pacer", str(order)], cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if paced.returncode:
            raise RuntimeError(f"the producer failed:\n{paced.stderr[-2000:]}")
        time.sleep(SETTLE_S)
        _end(worker, home)
    finally:
        worker.kill()
        worker.wait()
    ran = json.loads(result.read_text("utf-8"))
    return _figures(ran, json.loads(paced.stdout), fleet, rate, seconds)


def _figures(ran: dict[str, Any], paced: dict[str, Any], fleet: Fleet, rate: int, seconds: int) -> dict[str, Any]:
    energy, last_ms = expected(fleet, seconds)
    first = fleet.base_ms + WARM_UP_WINDOWS * WINDOW_MS
    # The last window's last messages would be sent after the end.
    end = fleet.base_ms + (seconds * MS // WINDOW_MS - 1) * WINDOW_MS
    keys = sorted(key for key in energy if first <= key[0] < end)
    from_end, from_last = latencies(ran["seen"], energy, last_ms, keys)
    return {
        "rate": rate, "messages_per_s": round(paced["messages"] / seconds), "rows_per_s": fleet.rows_per_block // 64,
        "gpus": PARTITIONS * fleet.workloads * fleet.nodes * fleet.gpus, "windows": len(keys),
        "from_window_end_ms": _percentiles(from_end), "from_last_message_ms": _percentiles(from_last),
        "producer_late_p99_ms": round(paced["late_p99_ms"], 1), "worker_cpu_s": round(ran["cpu_s"], 2),
        "worker_peak_rss_mb": round(ran["peak_rss_mb"]),
    }  # fmt: skip


def _percentiles(values: list[int]) -> dict[str, int]:
    return {f"p{p}": round(float(np.percentile(values, p))) for p in (50, 95, 99)}


def _worker(at: Broker, fleet: Fleet, home: Path) -> tuple[subprocess.Popen[bytes], Path]:
    job = Job(
        bootstrap=at.bootstrap, group=f"bench-{home.name}", topics=list(topics.JOINED), partitions=PARTITIONS, ends={},
        folder=str(home / "data"), result=str(home / "result.json"), rows=0, messages=0, requests=0, energy_uj=0,
        closing_ms=0, window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, skew_ms=SKEW_MS, idle_mw=IDLE_MW,
    )  # fmt: skip
    path = home / "job.json"
    job.write(path)
    env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")} | {"PYTHONWARNINGS": "ignore"}
    with (home / "stderr").open("wb") as stderr:
        command = [sys.executable, "-m", "bench.contestants.live_worker", str(path)]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=stderr, stderr=stderr), Path(job.result)


def _end(worker: subprocess.Popen[bytes], home: Path) -> None:
    worker.send_signal(signal.SIGTERM)
    try:
        status = worker.wait(60)
    except subprocess.TimeoutExpired:
        status = None
    if status:
        log_tail = "\n".join((home / "stderr").read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"the worker ended with status {status}:\n{log_tail}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="messages a second, with commas between")
    parser.add_argument("--seconds", type=int, default=50, help="how long each is kept up (50)")
    parser.add_argument("--quick", action="store_true", help="one low rate, 40 s")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    options = parser.parse_args(argv)
    rates, seconds = ([300], 40) if options.quick else ([int(r) for r in options.rates.split(",")], options.seconds)
    with tempfile.TemporaryDirectory(prefix="wattlog-bench-") as temporary, show_progress("latency") as progress:
        folder = Path(temporary)
        progress.total(len(rates))
        with broker(folder) as at:
            if not at.real:
                progress.say(f"left out: needs a real Apache Kafka ({at.description})")
                return
            results = []
            for rate in rates:
                results.append(measure(at, rate, seconds, folder, progress))
                progress.step()
            about = reports.about(at, asdict(fleet_at(0, 0)), seconds=seconds)
    reports.write(options.out, "latency", {"about": about, "results": results})


if __name__ == "__main__":
    main()
