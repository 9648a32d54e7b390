"""A contestant's stopwatch. Standard library only: it runs in the peers' environments too.

CPU is `getrusage(RUSAGE_SELF)`, user + system of all threads of the worker's process: between the moment before the
first message and the moment when the last one is done (attributed, inserted, committed). Imports, start-up and joining
the group come before.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Job:
    """Parameters of a contestant, as JSON in the file that is its argument."""

    bootstrap: str
    group: str
    topics: list[str]
    partitions: int
    ends: dict[str, dict[str, int]]
    """By topic and partition, the offset after the last message."""
    folder: str
    """For its warehouse, and whatever else it keeps."""
    result: str
    """The file to write the result to."""
    rows: int
    messages: int
    requests: int
    energy_uj: int
    closing_ms: int
    window_ms: int
    lateness_ms: int
    skew_ms: int
    idle_mw: int
    warehouse: str = ""
    """Address of the ClickHouse server; none: chdb in the contestant's own process, under `folder`."""
    warehouse_pid: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | None = None) -> Job:
        return cls(**json.loads(Path(path or sys.argv[1]).read_text("utf-8")))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), "utf-8")


def cpu_of(pid: int) -> float:
    """CPU seconds, user + system, that another process has used; 0 where there is none, or no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Used:
    """CPU seconds by kind, those of the ClickHouse server, and the wall clock, at one moment."""

    user_s: float
    system_s: float
    wall_s: float
    warehouse_s: float

    @classmethod
    def now(cls, warehouse_pid: int = 0) -> Used:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(used.ru_utime, used.ru_stime, time.perf_counter(), cpu_of(warehouse_pid) if warehouse_pid else 0.0)


class Meter:
    """`start` before the first message, `stop` after the last, then `report` what the warehouse holds."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._start: Used | None = None
        self._used: dict[str, float] = {}

    @property
    def started(self) -> bool:
        return self._start is not None

    def start(self) -> None:
        """The first call counts, unless `restart` is called."""
        if self._start is None:
            self.restart()

    def restart(self) -> None:
        """Nothing has come yet: begin anew."""
        self._start = Used.now(self._job.warehouse_pid)

    def stop(self) -> None:
        end, start = Used.now(self._job.warehouse_pid), self._start
        if start is None:
            raise RuntimeError("stopped before the first message")
        self._used = {
            "user_s": end.user_s - start.user_s, "system_s": end.system_s - start.system_s,
            "cpu_s": end.user_s + end.system_s - start.user_s - start.system_s, "wall_s": end.wall_s - start.wall_s,
            "warehouse_cpu_s": end.warehouse_s - start.warehouse_s,
            # In KiB on Linux, in bytes on macOS.
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (2**20 if sys.platform == "darwin" else 2**10),
        }  # fmt: skip

    def report(self, totals: dict[str, Any], **more: Any) -> None:
        """Write the result. `totals` come from the warehouse: see `bench.harness.check`."""
        result = {**self._used, "totals": totals, **more}
        Path(self._job.result).write_text(json.dumps(result), "utf-8")


def leave() -> None:
    """End at once: what frameworks do on their way out is not measured, and some never end by themselves."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
