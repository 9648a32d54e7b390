"""Slurm jobs that hold GPUs: NVML says which processes compute on which GPU, the kernel which job they belong to.

The control group of a process is set by Slurm and cannot be left by a job; its environment is what it says of itself.
So a job is known by its group. Where Slurm does not use groups, SLURM_JOB_ID is believed only if `scontrol` says that
the job is of the user whose process it is. A job's account is its tenant and `account/name` its workload, for names of
jobs are their users' to choose; without `scontrol` it is `job-NUMBER`, and nobody pays when it is idle.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from contracts.errors import Unavailable
from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
    board_of_device,
    printable,
    tenant_fault,
    workload_fault,
)
from producers.bindings.processes.rules import ProcessLister
from producers.bindings.procfs import ProcessInfo, ProcFs

NAME = "slurm"
TIMEOUT_S = 2.0
MAX_JOBS = 1_000
"""Whose names are remembered."""
_GROUP = re.compile(r"^/(?:system\.slice/)?[^/]*slurm[^/]*/(?:uid_\d+/)?job_(\d+)(?:/|$)")


class SlurmJob(NamedTuple):
    """What Slurm's controller says of a job."""

    name: str
    account: str
    uid: int


class JobLookup(Protocol):
    """`Scontrol`."""

    def job(self, number: int) -> SlurmJob: ...


class _JobRecord(msgspec.Struct):
    name: str
    user_id: int
    account: str = ""


class _JobResponse(msgspec.Struct):
    jobs: list[_JobRecord]


class Scontrol:
    """Asks `scontrol show job N --json`. Its lines of key=value are not read: a job's name could hold any of them."""

    def __init__(self, command: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._command, self._timeout_s = command, timeout_s

    def job(self, number: int) -> SlurmJob:
        """Raises Unavailable: no such command, no answer in time, another answer."""
        asked = [str(self._command), "show", "job", str(number), "--json"]
        try:
            done = subprocess.run(asked, capture_output=True, timeout=self._timeout_s, check=True)  # noqa: S603
            (told,) = msgspec.json.decode(done.stdout, type=_JobResponse).jobs
        except (OSError, subprocess.SubprocessError, msgspec.MsgspecError, ValueError) as error:
            said = f"scontrol does not say what job {number} is: {type(error).__name__}"
            raise Unavailable(said, "Try `scontrol show job --json` as the agent's user.") from None
        return SlurmJob(told.name, told.account, told.user_id)


class SlurmBindings:
    """See the module. `jobs` is None where the controller is not asked."""

    name = NAME

    def __init__(self, running: ProcessLister, proc: ProcFs, jobs: JobLookup | None) -> None:
        self._running, self._proc, self._jobs = running, proc, jobs
        self._known: dict[int, SlurmJob] = {}
        self._silent = False

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        self._silent = False
        claims: dict[DeviceClaim, None] = {}
        odd: dict[BindingWarning, None] = {}
        asked = board_of_device(topology)
        for device, pids in ((d, pids) for d, pids in self._running().items() if d in asked):
            for pid in pids:
                if (process := self._proc.look(pid)) is not None:
                    for found in self._claims(device, process):
                        (odd if isinstance(found, BindingWarning) else claims)[found] = None  # type: ignore[index]
        return ClaimReport(tuple(claims), tuple(odd))

    def _claims(self, device: str, process: ProcessInfo) -> Iterator[DeviceClaim | BindingWarning]:
        """What a process claims, and what is odd about it. One that is of no job is no business of Slurm's."""
        group = _GROUP.match(process.cgroup)
        said = "" if group else self._proc.variable(process.pid, "SLURM_JOB_ID")
        if not group and not said.isdecimal():
            return
        number = int(group[1] if group else said)
        job = self._job(number)
        if not group and (job is None or job.uid != process.uid):
            yield BindingWarning("unverified", f"a process of user {process.uid} says that it is of job {number}")
            return
        if job is None and self._jobs is not None:
            yield BindingWarning("unknown_holder", f"job {number} holds {device}, and Slurm does not say what it is")
            yield DeviceClaim(device, None, str(number))
            return
        holder, odd = _holder(number, job)
        yield from odd
        yield DeviceClaim(device, holder, f"{holder.workload}/{holder.tenant}")

    def _job(self, number: int) -> SlurmJob | None:
        if self._jobs is None or number in self._known or self._silent:
            return self._known.get(number)
        try:
            job = self._jobs.job(number)
        except Unavailable:
            self._silent = True  # One wait a look is enough.
            return None
        if len(self._known) >= MAX_JOBS:
            del self._known[next(iter(self._known))]
        self._known[number] = job
        return job


def _holder(number: int, job: SlurmJob | None) -> tuple[WorkloadHolder, list[BindingWarning]]:
    if job is None:
        odd = [BindingWarning("no_tenant", f"job {number}: its account is not known without `scontrol`")]
        return WorkloadHolder(f"job-{number}", "", NAME, rule="job's number"), odd
    odd, tenant = [], job.account
    if fault := tenant_fault(tenant):
        odd.append(
            BindingWarning("bad_name", f"job {number}: its account {printable(tenant)!r} is no tenant's name: {fault}")
        )
        tenant = ""
    workload, rule = f"{tenant or 'job'}/{job.name}", "account and name"
    if fault := workload_fault(workload):
        odd.append(
            BindingWarning("bad_name", f"job {number}: its name {printable(job.name)!r} cannot be used: {fault}")
        )
        workload, rule = f"{tenant or 'job'}/job-{number}", "account and number"
    return WorkloadHolder(workload, tenant, NAME, rule=rule), odd
