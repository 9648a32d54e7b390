"""Hours of work without growth: `python -m tests.kafka.soak --minutes 30 --rate auto`.

One `wattlog stream` on a real Kafka, its warehouse behind HTTP, a producer in a process of its own. `--rate auto` first
measures the capacity of this machine, with all processes on the same cores, and soaks at half of it. The worker's
memory is sampled every SAMPLE_S seconds. Writes build/soak.json. Exit status 1 unless memory is flat and the ledger
balances.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.kafka import jars
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.crew import Crew
from tests.kafka.chaos.firehose import ROWS
from tests.kafka.chaos.reports import BUILD, about, write
from tests.kafka.deployment import Deployment
from tests.kafka.workers import ROOT
from tests.support.clickhouse_http import serve
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse, connect
from warehouse.reader import operator_reader

SAMPLE_S = 2.0
WARM_UP = 0.2
"""Share of the soak that is left out of the slope: caches and pools fill first."""
FLAT_RATIO = 0.05
"""Memory is flat when its growth over the remainder is less than this share of it, by least squares."""
MEASURE_S, SETTLE_S = 20.0, 10.0
PARTITIONS = 6
_PRODUCTION = {"WATTLOG_KAFKA_PARTITIONS": str(PARTITIONS), "WATTLOG_IDLE_TIMEOUT_MS": "120000"}
"""Otherwise the defaults: windows of 10 s, 2 minutes of lateness."""


@dataclass
class Soak:
    """Samples and results. Memory in MB (10^6 bytes), of the worker's process."""

    minutes: float
    max_rows_per_s: float
    rows_per_s: float
    rows: int = 0
    messages: int = 0
    residual_uj: int = -1
    sequence_gaps: int = -1
    lost_uj: int = -1
    dead_letters: int = 0
    times_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    open_rows: list[int] = field(default_factory=list)
    unacked: list[int] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def _steady(self) -> tuple[np.ndarray, np.ndarray]:
        t, rss = np.asarray(self.times_s), np.asarray(self.rss_mb)
        steady = t >= WARM_UP * self.minutes * 60
        return t[steady], rss[steady]

    @property
    def slope_mb_per_h(self) -> float:
        t, rss = self._steady
        return float(np.polyfit(t / 3600, rss, 1)[0]) if len(t) > 2 else float("nan")

    @property
    def growth_ratio(self) -> float:
        """Growth of the part after warming up, along the slope."""
        t, rss = self._steady
        return self.slope_mb_per_h * float(t[-1] - t[0]) / 3600 / float(np.median(rss)) if len(t) > 2 else float("nan")

    @property
    def flat(self) -> bool:
        return bool(self.growth_ratio < FLAT_RATIO)

    @property
    def balanced(self) -> bool:
        return self.residual_uj == self.sequence_gaps == self.lost_uj == self.dead_letters == 0

    def figures(self) -> dict[str, Any]:
        _, rss = self._steady
        summary = {
            "rss_max_mb": max(self.rss_mb), "rss_median_mb": float(np.median(rss)),
            "slope_mb_per_h": round(self.slope_mb_per_h, 2), "growth_ratio": round(self.growth_ratio, 4),
            "flat": self.flat, "balanced": self.balanced, "samples": len(self.rss_mb),
            "max_open_rows": max(self.open_rows), "max_unacked": max(self.unacked),
        }  # fmt: skip
        return summary | asdict(self)


class Rig:
    """A broker, a warehouse and one worker."""

    def __init__(self, deployment: Deployment, warehouse: Warehouse) -> None:
        self.deployment, self.warehouse = deployment, warehouse
        self.crew = Crew(deployment)
        self._epoch = self._second = 0

    def hose(self, rate: float, seconds: float, *, close: bool = False) -> subprocess.Popen[str]:
        """Start the producer's next run, from where event time stands."""
        self._epoch += 1
        args = [self.deployment.kafka.bootstrap, "--rate", str(rate), "--seconds", str(seconds)]
        args += ["--begin", str(self._second), "--epoch", str(self._epoch), *(["--close"] if close else [])]
        command = [sys.executable, "-m", "tests.kafka.chaos.firehose", *args]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def sent(self, hose: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the producer and return its totals."""
        out, _ = hose.communicate(timeout=600)
        assert hose.returncode == 0, "the producer failed"
        totals: dict[str, Any] = json.loads(out.splitlines()[-1])
        self._second = totals["next_second"]
        return totals

    @property
    def metrics(self) -> dict[str, float]:
        (member,) = self.crew.members
        assert member.worker.running, member.worker.error_text()
        return member.metrics()

    def read(self) -> float:
        return self.metrics.get("wattlog_stream_messages_total", 0.0)


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    with (
        KafkaBroker(folder / "kafka", jars.resolve()) as kafka,
        connect(f"chdb://{folder / 'warehouse'}", database="default", readers=1),
        serve(folder / "warehouse") as address,
    ):
        deployment = Deployment(kafka, folder, f"{address}/soak", env=_PRODUCTION)
        migrated = deployment.run("migrate")
        assert migrated.status == 0, migrated.err
        with connect(f"chdb://{folder / 'warehouse'}", database="soak") as warehouse:
            instance = Rig(deployment, warehouse)
            try:
                instance.crew.scale(1)
                instance.crew.until_held(PARTITIONS)
                yield instance
            finally:
                for worker in deployment.workers:
                    worker.kill()


def measure(at: Rig, sent: list[dict[str, Any]]) -> float:
    """Rows per second that this machine carries from producer to ledger, over MEASURE_S seconds."""
    hose = at.hose(0, SETTLE_S + MEASURE_S)
    time.sleep(SETTLE_S)
    begun, before = time.monotonic(), at.read()
    time.sleep(MEASURE_S)
    rate = (at.read() - before) / (time.monotonic() - begun) * ROWS
    sent.append(at.sent(hose))
    total = sum(s["messages"] for s in sent)
    at.crew.until(lambda: at.read() >= total, "the backlog is read")
    return rate


def soak(at: Rig, minutes: float, rate: float, capacity: float, sent: list[dict[str, Any]], show: Any) -> Soak:
    """Send at that rate for `minutes`, and sample."""
    result = Soak(minutes, round(capacity), round(rate))
    hose = at.hose(rate, minutes * 60, close=True)
    begun = time.monotonic()
    while hose.poll() is None:
        metrics = at.metrics
        if "process_resident_memory_bytes" in metrics:
            result.times_s.append(round(time.monotonic() - begun, 1))
            result.rss_mb.append(round(metrics["process_resident_memory_bytes"] / 1e6, 1))
            result.open_rows.append(int(metrics["wattlog_stream_open_rows"]))
            result.unacked.append(int(metrics["wattlog_stream_unacked_messages"]))
            result.cpu_s = metrics["process_cpu_seconds_total"]
            show(result)
        time.sleep(SAMPLE_S)
    sent.append(at.sent(hose))
    _settle(at, result, sent)
    return result


def _settle(at: Rig, result: Soak, sent: list[dict[str, Any]]) -> None:
    """Wait until all is final, and audit the ledger."""
    energy, requests = sum(s["energy_uj"] for s in sent), sum(s["requests"] for s in sent)

    def stored() -> bool:
        (row,) = at.warehouse.query("SELECT sum(requests) AS n FROM token_usage FINAL")
        return bool(row["n"] >= requests)

    at.crew.until(stored, "every request is in a final window")
    at.crew.until(lambda: not at.metrics.get("wattlog_stream_open_windows", 1), "no window is open")
    books = audit(operator_reader(at.warehouse))
    result.residual_uj, result.sequence_gaps = books.residual_uj, books.sequence_gaps
    result.lost_uj = energy - books.measured_uj
    result.dead_letters = int(at.metrics.get("wattlog_stream_dead_letters_total", 0))
    result.rows, result.messages = sum(s["rows"] for s in sent), sum(s["messages"] for s in sent)


def table(result: Soak) -> Table:
    grid = Table("figure", "value", title=f"soak, {result.minutes:g} min at {result.rows_per_s:,.0f} rows/s")
    for name, value in result.figures().items():
        if not isinstance(value, list):
            grid.add_row(name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", default="auto", help="rows a second, or `auto`: half of what this machine takes")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="wattlog-soak-") as folder, rig(Path(folder)) as at:
        sent: list[dict[str, Any]] = []
        capacity = 0.0
        if options.rate == "auto":
            with console.status("measuring what this machine takes"):
                capacity = measure(at, sent)
            console.print(f"takes {capacity:,.0f} rows/s")
        rate = capacity / 2 if options.rate == "auto" else float(options.rate)
        with Live(console=console, refresh_per_second=1) as live:
            result = soak(at, options.minutes, rate, capacity, sent, lambda s: live.update(_line(s)))
    path = write("soak.json", about() | result.figures())
    console.print(table(result))
    console.print(f"written to {path.relative_to(BUILD.parent)}")
    sys.exit(not (result.flat and result.balanced))


def _line(result: Soak) -> str:
    t = result.times_s[-1]
    return (
        f"{t / 60:5.1f} of {result.minutes:g} min  {result.rows_per_s:,.0f} rows/s  rss {result.rss_mb[-1]:,.0f} MB "
        f"(max {max(result.rss_mb):,.0f})  open rows {result.open_rows[-1]:,}  unacked {result.unacked[-1]:,}"
    )


if __name__ == "__main__":
    main()
