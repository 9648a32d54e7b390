"""Records of `sacct`: the runs of jobs with their steps, and what their energy says. Pure.

A job's own line has the sum of its steps; with `PrologFlags=Contain` it has the energy of the step `extern` alone,
which covers the whole allocation (Slurm's `src/slurmctld/step_mgr.c`). So steps are never added to the job. A step
counts all that its nodes draw. Without `extern`, steps that ran at one time (the batch script and what it started)
therefore count a node twice: such a line is refused.

0 is unknown: `sacct` prints it where a job has no energy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from contracts.errors import BadInput

FIELDS = (
    "Cluster", "JobIDRaw", "JobID", "State", "Start", "End", "NNodes", "NodeList", "Partition", "Account", "User",
    "ConsumedEnergyRaw",
)  # fmt: skip
"""Fields of a line, in its order. None of them may hold a `|`."""
MAX_ENERGY_J = 2**62
NO_ENERGY = frozenset({0, 2**32 - 2, 2**32 - 1})
"""Energies that are none: absent, and Slurm's NO_VAL and INFINITE. Those of 64 bits are above MAX_ENERGY_J."""
UNFINISHED = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STAGE_OUT"})
GRAIN_S = 60
"""Time by which the energy of a run may be older than the run: sensors are read once in a while."""
_NUMBER = re.compile(r"[0-9]{1,30}", re.ASCII)
_ABSENT = ("", "Unknown", "None")


class JobStep(NamedTuple):
    """A step of a run. Times are epoch seconds, None where Slurm knows none."""

    name: str
    start_s: int | None
    end_s: int | None
    energy_j: int | None


class JobRun(NamedTuple):
    """One run of a job: a requeued job has several. `job` is the number as users know it: `7`, `7_2`, `7+1`.

    `energy_j` is None where it is unknown. `nodes` is a list as Slurm writes it.
    """

    cluster: str
    number: str
    job: str
    state: str
    start_s: int | None
    end_s: int | None
    node_count: int
    nodes: str
    partition: str
    account: str
    user: str
    energy_j: int | None
    steps: tuple[JobStep, ...] = ()

    @property
    def event_id(self) -> str:
        """Identity: a requeued job has the same number and another start."""
        return f"{self.cluster}/{self.number}/{self.start_s}"

    @property
    def has_nodes(self) -> bool:
        """True unless it was cancelled before it got any."""
        return self.nodes not in ("", "None assigned")

    def has_ended(self, now_s: int) -> bool:
        """Return True if it ran and has ended. An end in the future is of a clock that is ahead: it is read again."""
        if self.start_s is None or self.end_s is None or not self.has_nodes or self.state in UNFINISHED:
            return False
        return self.start_s <= self.end_s <= now_s


def parse_line(line: str) -> JobRun:
    """Return the run or step of a line: a step's `number` has its name behind a dot. Raises BadInput."""
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != len(FIELDS):
        hint = f"{len(cells)} cells instead of {len(FIELDS)}: give --parsable2 --noheader and these fields"
        raise BadInput("line", line[:80], hint)
    cluster, number, job, state, start, end, node_count, nodes, partition, account, user, energy = cells
    if not re.fullmatch(r"[0-9]{1,19}(?:\.\S{1,64})?", number, re.ASCII):
        raise BadInput("JobIDRaw", number[:80], "is no number of a job")
    return JobRun(
        cluster=cluster, number=number, job=job, state=state.partition(" ")[0], start_s=_time_s("Start", start),
        end_s=_time_s("End", end), node_count=int(node_count) if _NUMBER.fullmatch(node_count) else 0, nodes=nodes,
        partition=partition, account=account, user=user, energy_j=_energy_j(energy),
    )  # fmt: skip


def _time_s(field: str, text: str) -> int | None:
    """Return epoch seconds. Local times are refused: of an hour that occurs twice, they do not say which."""
    if text in _ABSENT:
        return None
    if not (_NUMBER.fullmatch(text) and int(text) < 2**33):
        raise BadInput(field, text[:80], "is not in epoch seconds: set SLURM_TIME_FORMAT=%s")
    return int(text) or None


def _energy_j(text: str) -> int | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadInput("ConsumedEnergyRaw", text[:80], "is no whole number")
    energy_j = int(text)
    return None if energy_j in NO_ENERGY or energy_j > MAX_ENERGY_J else energy_j


def join_steps(lines: Iterable[JobRun]) -> Iterator[JobRun]:
    """Yield runs with their steps, which follow them."""
    run: JobRun | None = None
    steps: list[JobStep] = []
    for line in lines:
        number, _, step = line.number.partition(".")
        if not step:
            if run:
                yield run._replace(steps=tuple(steps))
            run, steps = line, []
        elif run and (run.cluster, run.number) == (line.cluster, number):
            steps.append(JobStep(step, line.start_s, line.end_s, line.energy_j))
    if run:
        yield run._replace(steps=tuple(steps))


def energy_fault(run: JobRun, max_node_w: float) -> str:
    """Return why the energy of an ended run cannot be believed; "" if it can."""
    assert run.energy_j is not None and run.start_s is not None and run.end_s is not None
    if counts_twice(run):
        return "its steps ran at one time, and Slurm added them, so a node counts twice: set PrologFlags=Contain"
    seconds, nodes = run.end_s - run.start_s, max(run.node_count, 1)
    if run.energy_j > max_node_w * nodes * (seconds + GRAIN_S):
        return f"{run.energy_j:,} J in {seconds:,} s on {nodes:,} nodes are more than max_node_w: a counter leapt"
    return ""


def counts_twice(run: JobRun) -> bool:
    """Return True if the run's energy is the sum of steps that overlap."""
    if any(step.name == "extern" for step in run.steps):
        return False
    spans = sorted(
        (step.start_s, step.end_s) for step in run.steps
        if step.energy_j and step.start_s is not None and step.end_s is not None
    )  # fmt: skip
    return any(b[0] < a[1] for a, b in pairwise(spans))
