"""Hours of work in which nothing may grow: `python -m tests.kafka.soak --minutes 30 --rate auto`.

One `wattlog stream` on a real Kafka, its warehouse behind HTTP, a producer in a process of its own. `--rate auto` first
measures what this machine takes, all of it on the same cores, and soaks at half of that. The worker's memory is asked
for every SAMPLE_S seconds. Writes build/soak.json; exit status 1 unless memory is flat and the books balance.
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
"""So much of the soak is left out of the slope: caches and pools fill first."""
FLAT_RATIO = 0.05
"""Memory is flat when over the rest it grows by less than this part of itself, by least squares."""
MEASURE_S, SETTLE_S = 20.0, 10.0
PARTITIONS = 6
_PRODUCTION = {"WATTLOG_KAFKA_PARTITIONS": str(PARTITIONS), "WATTLOG_IDLE_TIMEOUT_MS": "120000"}
"""Else as nobody sets it: windows of 10 s, 2 minutes of lateness."""


@dataclass
class Soak:
    """What was seen. Memory in MB (10^6 bytes), of the worker's process."""

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
        """Of the part after warming up, along the slope."""
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
        told = {
            "rss_max_mb": max(self.rss_mb), "rss_median_mb": float(np.median(rss)),
            "slope_mb_per_h": round(self.slope_mb_per_h, 2), "growth_ratio": round(self.growth_ratio, 4),
            "flat": self.flat, "balanced": self.balanced, "samples": len(self.rss_mb),
            "max_open_rows": max(self.open_rows), "max_unacked": max(self.unacked),
        }  # fmt: skip
        return told | asdict(self)


class Rig:
    """A broker, a warehouse, one worker."""

    def __init__(self, deployment: Deployment, warehouse: Warehouse) -> None:
        self.deployment, self.warehouse = deployment, warehouse
        self.crew = Crew(deployment)
        self._epoch = self._second = 0

    def hose(self, rate: float, seconds: float, *, close: bool = False) -> subprocess.Popen[str]:
        """Start the producer: its next run, from where event time stands."""
        self._epoch += 1
        args = [self.deployment.kafka.bootstrap, "--rate", str(rate), "--seconds", str(seconds)]
        args += ["--begin", str(self._second), "--epoch", str(self._epoch), *(["--close"] if close else [])]
        command = [sys.executable, "-m", "tests.kafka.chaos.firehose", *args]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def sent(self, hose: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the producer; what it sent."""
        out, _ = hose.communicate(timeout=600)
        assert hose.returncode == 0, "the producer failed"
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        self._second = told["next_second"]
        return told

    @property
    def shown(self) -> dict[str, float]:
        (member,) = self.crew.members
        assert member.worker.running, member.worker.error_text()
        return member.shown()

    def read(self) -> float:
        return self.shown.get("wattlog_stream_messages_total", 0.0)


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
            made = Rig(deployment, warehouse)
            try:
                made.crew.scale(1)
                made.crew.until_held(PARTITIONS)
                yield made
            finally:
                for worker in deployment.workers:
                    worker.kill()


def measure(at: Rig, sent: list[dict[str, Any]]) -> float:
    """Rows a second that this machine takes from producer to ledger, over MEASURE_S seconds."""
    hose = at.hose(0, SETTLE_S + MEASURE_S)
    time.sleep(SETTLE_S)
    begun, before = time.monotonic(), at.read()
    time.sleep(MEASURE_S)
    rate = (at.read() - before) / (time.monotonic() - begun) * ROWS
    sent.append(at.sent(hose))
    total = sum(s["messages"] for s in sent)
    at.crew.until(lambda: at.read() >= total, "the backlog is read")
    return rate


def soak(at: Rig, minutes: float, rate: float, most: float, sent: list[dict[str, Any]], show: Any) -> Soak:
    """Feed at that rate for so long, and sample."""
    found = Soak(minutes, round(most), round(rate))
    hose = at.hose(rate, minutes * 60, close=True)
    begun = time.monotonic()
    while hose.poll() is None:
        shown = at.shown
        if "process_resident_memory_bytes" in shown:
            found.times_s.append(round(time.monotonic() - begun, 1))
            found.rss_mb.append(round(shown["process_resident_memory_bytes"] / 1e6, 1))
            found.open_rows.append(int(shown["wattlog_stream_open_rows"]))
            found.unacked.append(int(shown["wattlog_stream_unacked_messages"]))
            found.cpu_s = shown["process_cpu_seconds_total"]
            show(found)
        time.sleep(SAMPLE_S)
    sent.append(at.sent(hose))
    _settle(at, found, sent)
    return found


def _settle(at: Rig, found: Soak, sent: list[dict[str, Any]]) -> None:
    """Everything final; the books."""
    energy, requests = sum(s["energy_uj"] for s in sent), sum(s["requests"] for s in sent)

    def stored() -> bool:
        (row,) = at.warehouse.query("SELECT sum(requests) AS n FROM token_usage FINAL")
        return bool(row["n"] >= requests)

    at.crew.until(stored, "every request is in a final window")
    at.crew.until(lambda: not at.shown.get("wattlog_stream_open_windows", 1), "no window is open")
    books = audit(operator_reader(at.warehouse))
    found.residual_uj, found.sequence_gaps = books.residual_uj, books.sequence_gaps
    found.lost_uj = energy - books.measured_uj
    found.dead_letters = int(at.shown.get("wattlog_stream_dead_letters_total", 0))
    found.rows, found.messages = sum(s["rows"] for s in sent), sum(s["messages"] for s in sent)


def table(found: Soak) -> Table:
    shown = Table("figure", "value", title=f"soak, {found.minutes:g} min at {found.rows_per_s:,.0f} rows/s")
    for name, value in found.figures().items():
        if not isinstance(value, list):
            shown.add_row(name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", default="auto", help="rows a second, or `auto`: half of what this machine takes")
    given = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="wattlog-soak-") as folder, rig(Path(folder)) as at:
        sent: list[dict[str, Any]] = []
        most = 0.0
        if given.rate == "auto":
            with console.status("measuring what this machine takes"):
                most = measure(at, sent)
            console.print(f"takes {most:,.0f} rows/s")
        rate = most / 2 if given.rate == "auto" else float(given.rate)
        with Live(console=console, refresh_per_second=1) as live:
            found = soak(at, given.minutes, rate, most, sent, lambda s: live.update(_line(s)))
    path = write("soak.json", about() | found.figures())
    console.print(table(found))
    console.print(f"written to {path.relative_to(BUILD.parent)}")
    sys.exit(not (found.flat and found.balanced))


def _line(found: Soak) -> str:
    t = found.times_s[-1]
    return (
        f"{t / 60:5.1f} of {found.minutes:g} min  {found.rows_per_s:,.0f} rows/s  rss {found.rss_mb[-1]:,.0f} MB "
        f"(max {max(found.rss_mb):,.0f})  open rows {found.open_rows[-1]:,}  unacked {found.unacked[-1]:,}"
    )


if __name__ == "__main__":
    main()
