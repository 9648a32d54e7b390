"""Results as JSON under build/bench: what was measured, where, with which versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.harness.backlog import Backlog
from bench.harness.broker import ROOT, Broker
from bench.harness.environments import pins
from bench.harness.line_up import Contestant
from contracts.units import MS_PER_HOUR

BUILD = ROOT / "build" / "bench"
_VERSIONS = (
    "faust-streaming",
    "aiokafka",
    "confluent-kafka",
    "numpy",
    "msgspec",
    "chdb",
    "clickhouse-connect",
    "pyarrow",
)
_HOURS_BACK = 6


def base_ms() -> int:
    """Return the start of the input (epoch ms): a full hour, some hours ago, since workers reject future events."""
    return (time.time_ns() // 1_000_000 // MS_PER_HOUR - _HOURS_BACK) * MS_PER_HOUR


def about(at: Broker | None, fleet: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the conditions of a run: time, commit, machine, versions, input."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit(),
        "broker": at.description if at else "",
        "cpu": _cpu(), "cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(), "versions": {n: metadata.version(n) for n in _VERSIONS},
        "peers": {p.stem: p.read_text("utf-8").split() for p in sorted(pins("x").parent.glob("*.txt"))},
        "fleet": dict(fleet), **more,
    }  # fmt: skip


def summary(contestant: Contestant, backlog: Backlog, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One contestant's runs: median and spread (least, most) of the figures that are compared."""
    figures = ("rows_per_cpu_s", "rows_per_wall_s", "cpu_s", "user_s", "system_s", "wall_s", "warehouse_cpu_s",
               "peak_rss_mb")  # fmt: skip
    return {
        "name": contestant.name, "kind": contestant.kind, "shape": contestant.shape.name,
        "rows": backlog.totals.rows, "messages": backlog.messages,
        "bytes_per_row": round(backlog.value_bytes / backlog.totals.rows, 1),
        "tenants": runs[0]["totals"].get("tenants"), "ledger_rows": runs[0]["totals"].get("ledger_rows"),
        **{f: spread([r[f] for r in runs]) for f in figures},
    }  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


def write(folder: Path, name: str, result: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return path


def load(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _commit() -> str:
    process = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return process.stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
