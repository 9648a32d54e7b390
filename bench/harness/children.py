"""One contestant, one run: a process of its own that drains the backlog."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.harness import clickhouse
from bench.harness.backlog import LATENESS_MS, SKEW_MS, WINDOW_MS, Backlog
from bench.harness.broker import ROOT
from bench.harness.check import check
from bench.harness.environments import python_of
from bench.harness.fleet import IDLE_MW
from bench.harness.line_up import Contestant
from bench.harness.meter import Job

LIMIT_S = 240.0
_numbers = itertools.count(1)


class ContestantError(RuntimeError):
    """A contestant ended without a result. The text has the end of its stderr."""


def run(contestant: Contestant, backlog: Backlog, bootstrap: str, folder: Path, **options: Any) -> dict[str, Any]:
    """CPU, wall, memory and totals of one run. The totals are checked.

    Raises ContestantError, `check.DisagreementError` or `environments.PeerMissingError`.
    """
    python = python_of(contestant.environment)
    home = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    try:
        with contextlib.ExitStack() as stack:
            job = job_of(contestant, backlog, bootstrap, home, options)
            Path(job.folder).mkdir()
            if contestant.stores and not contestant.options.get("embedded"):
                job.warehouse, job.warehouse_pid = stack.enter_context(clickhouse.server(home / "warehouse"))
            path = home / "job.json"
            job.write(path)
            result = _child([str(python), "-m", contestant.module, str(path)], contestant, home, Path(job.result))
        check(contestant.name, result["totals"], backlog.totals, exact=contestant.exact)
        result["rows"] = backlog.totals.rows
        result["rows_per_cpu_s"] = backlog.totals.rows / result["cpu_s"]
        result["rows_per_wall_s"] = backlog.totals.rows / result["wall_s"]
        return result
    finally:
        shutil.rmtree(home, ignore_errors=True)


def job_of(contestant: Contestant, backlog: Backlog, bootstrap: str, home: Path, options: dict[str, Any]) -> Job:
    t = backlog.totals
    return Job(
        bootstrap=bootstrap, group=f"bench-{os.getpid()}-{next(_numbers)}", topics=list(backlog.shape.topics),
        partitions=backlog.partitions, folder=str(home / "data"), result=str(home / "result.json"),
        ends={topic: {str(p): end for p, end in ends.items()} for topic, ends in backlog.ends.items()},
        rows=t.rows, messages=backlog.messages, requests=t.requests, energy_uj=t.energy_uj,
        closing_ms=backlog.closing_ms, window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, skew_ms=SKEW_MS,
        idle_mw=IDLE_MW, options={**contestant.options, **options},
    )  # fmt: skip


def _child(command: list[str], contestant: Contestant, home: Path, result: Path) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")}
    env |= {"PYTHONWARNINGS": "ignore", "TMPDIR": str(home)}
    errors = home / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
        try:
            status = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            process.kill()
            process.wait()
    if status or not result.exists():
        log_tail = "\n".join(errors.read_text(errors="replace").splitlines()[-25:])
        ended = f"ended with status {status}" if status is not None else f"was not done after {LIMIT_S:g} s"
        raise ContestantError(f"{contestant.name}, {contestant.shape.name}: {ended}\n{log_tail}")
    figures: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return figures
