"""Energy of Slurm's jobs beside that of the GPUs on their nodes. For operators.

A job's energy is one row, which says not when in the job it was used. So both are compared over whole jobs, in the hour
in which each ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from contracts.meter_names import JOB_METER, UNWATCHED_METER, WATTS_METER
from contracts.node_lists import expand_nodes
from contracts.units import MS_PER_HOUR
from warehouse.reader import LedgerReader
from warehouse.reconciliation.witnesses import F64, Subject

MAX_JOBS, MAX_NODE_ROWS, MAX_PLACES = 50_000, 2_000_000, 1_000_000
"""Jobs, ten minutes of nodes, and pairs of a job and a node. What is beyond is left out, the oldest jobs first."""
LEAST_MS = 2 * MS_PER_HOUR
"""Shorter jobs are not compared: rows of ten minutes lie across their ends."""


class JobHour(NamedTuple):
    """Jobs of a partition that ended in an hour: energy of their GPUs by agents, and all of their nodes by Slurm."""

    subject: Subject
    hour_no: int
    gpus_uj: float
    slurm_uj: float


def job_hours(reader: LedgerReader, span: Mapping[str, Any]) -> Iterator[JobHour]:
    """Yield jobs that ran within a span, all of whose nodes have GPUs with an agent."""
    period = {"start_ms": span["start_ms"], "end_ms": span["end_ms"]}
    jobs = reader.ask("reconciliation/jobs", jobs=JOB_METER, limit=MAX_JOBS, **period)
    jobs = [job for job in jobs if job["t1_ms"] - job["t0_ms"] >= LEAST_MS and job["t0_ms"] >= span["start_ms"]]
    if not jobs:
        return
    sums = _sums_by_node(reader, period)
    places = 0
    for job in jobs:
        nodes = expand_nodes(job["node_list"]) or frozenset()
        places += len(nodes)
        if places > MAX_PLACES:
            return
        columns = [sums.get((job["of_cluster"], node)) for node in nodes]
        known = [column for column in columns if column is not None]
        if not known or len(known) < len(columns):
            continue
        gpus_uj = sum(float(np.diff(np.interp((job["t0_ms"], job["t1_ms"]), times, uj))[0]) for times, uj in known)
        subject = Subject(job["of_cluster"], job["of_workload"])
        yield JobHour(subject, job["hour_no"], gpus_uj, job["energy_uj"])


def _sums_by_node(reader: LedgerReader, period: Mapping[str, Any]) -> dict[tuple[str, str], tuple[F64, F64]]:
    """Return the ends of rows, and the running sum of the GPUs' energy at each, by cluster and node."""
    rows: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    meters = [WATTS_METER, UNWATCHED_METER]
    for row in reader.ask("reconciliation/node_gpus", meters=meters, limit=MAX_NODE_ROWS, **period):
        rows[row["of_cluster"], row["of_node"]].append((row["t0_ms"], row["t1_ms"], row["energy_uj"]))
    return {
        node: (
            np.array([of[0][0], *(end for _, end, _ in of)], np.float64),
            np.cumsum([0, *(energy for _, _, energy in of)]).astype(np.float64),
        )
        for node, of in rows.items()
    }
