"""`wattlog stream`, with a note of when each write of ledger rows returned: from then on a query sees them.

The hook is in the worker, because polling the warehouse from beside it would compete with it, and could not tell times
closer than its own interval.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.contestants.wattlog_common import settings_of
from bench.harness.meter import Job
from cli.embedded import worker_until_stopped
from cli.event_loop import run_until_stopped
from warehouse.sink.sink import Sink

Written = tuple[int, Any]

_write = Sink.write
_notes: list[Written] = []


def write(self: Sink, name: str, table: Any, *fence: Any, **more: Any) -> None:
    _write(self, name, table, *fence, **more)
    if name == "ledger":
        _notes.append((time.time_ns() // 1_000_000, table))


def seen() -> list[tuple[int, list[tuple[int, str, int]]]]:
    """Return the time of every write, and the energy of each (window, workload) in it. A write holds whole windows."""
    out = []
    for at_ms, table in _notes:
        energy: dict[tuple[int, str], int] = {}
        parts = np.asarray(table["active_uj"]) + np.asarray(table["idle_uj"]) + np.asarray(table["unallocated_uj"])
        starts = np.asarray(table["window_start"]).tolist()
        for start, workload, uj in zip(starts, table["workload"], parts.tolist(), strict=True):
            energy[start, workload] = energy.get((start, workload), 0) + uj
        out.append((at_ms, [(start, str(workload), uj) for (start, workload), uj in energy.items()]))
    return out


def main() -> None:
    job: Any = Job.read()
    Sink.write = write  # type: ignore[method-assign]
    run_until_stopped(worker_until_stopped(settings_of(job)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    Path(job.result).write_text(
        json.dumps({"seen": seen(), "cpu_s": used.ru_utime + used.ru_stime, "peak_rss_mb": used.ru_maxrss / 1024}),
        "utf-8",
    )


if __name__ == "__main__":
    main()
