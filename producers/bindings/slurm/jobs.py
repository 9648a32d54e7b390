"""Binding source for Slurm jobs: the GPUs' driver lists the processes on each GPU, the kernel gives their jobs.

Slurm sets the control group of a process, and a job cannot leave it. Its environment is what the process says of
itself. A job is therefore known by its group, which is named by the job's number, or by its SLUID (Slurm 26.05 without
`CgroupJobIdPaths=yes`). A SLUID does not contain the number: that is in the title that the job's slurmstepd, a process
of root in the same group, gives itself. Where Slurm does not use groups, SLURM_JOB_ID is believed only if
`scontrol` says that the job is of the user whose process it is. A job's account is its tenant, and `account/name` its
workload, because users choose the names of their jobs. Without `scontrol` the workload is `job-NUMBER`, and it has no
tenant.
"""

from __future__ import annotations

import re
import subprocess
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
    tenant_fault,
    workload_fault,
)
from producers.bindings.process_claims import ProcessLister, claim_by_process
from producers.bindings.procfs import ProcessInfo, ProcFs
from producers.common.printable import printable
from producers.runtime.refusals import refusal

NAME = "slurm"
TIMEOUT_S = 2.0
MAX_JOBS = 1_000
"""Jobs whose names are remembered."""
_POD = r"(?:/kubelet[^/]*)?/(?:kubelet-)?kubepods[^/]*(?:/[^/]+)*?"
"""Group of a pod, in which slurmd may run."""
_V1 = r"(?:/system\.slice)?/[^/]*slurm[^/]*(?:/uid_\d+)?"
_V2 = r"(?!/user\.slice/)(?:/[^/]+\.slice){0,3}/(?:[^/]+_)?slurmstepd\.scope"
_GROUP = re.compile(rf"^(?:/\.\.)*(?:{_POD})?(?:{_V1}|{_V2})/job_([0-9]{{1,19}})(?:/|$)", re.ASCII)
_SLUID = re.compile(rf"^((?:/\.\.)*(?:{_POD})?{_V2}/(s[0-9A-HJKMNP-TV-Z]{{13}}))(?:/|$)", re.ASCII)
"""Group of a job by its SLUID: s and 13 characters of Crockford's base 32."""
_STEP_DAEMON = re.compile(r"slurmstepd: \[([0-9]{1,19})[.+]", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}")


class SlurmJob(NamedTuple):
    """A job as Slurm's controller describes it."""

    name: str
    account: str
    uid: int


class JobLookup(Protocol):
    """Look-up of jobs: `Scontrol`."""

    def job(self, number: int) -> SlurmJob: ...


class _JobRecord(msgspec.Struct):
    name: str
    user_id: int
    account: str = ""


class _JobResponse(msgspec.Struct):
    jobs: list[_JobRecord]


class Scontrol:
    """Look-up by `scontrol show job N --json`. Its lines of key=value are not parsed: a job's name may contain them."""

    def __init__(self, command: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._command, self._timeout_s = command, timeout_s

    def job(self, number: int) -> SlurmJob:
        """Return a job. Raises Unavailable: no such command, no answer in time, another answer."""
        command = [str(self._command), "show", "job", str(number), "--json"]
        try:
            process = subprocess.run(command, capture_output=True, timeout=self._timeout_s, check=True)  # noqa: S603
            (record,) = msgspec.json.decode(process.stdout, type=_JobResponse).jobs
        except Exception as error:
            message = f"scontrol does not say what job {number} is: {type(error).__name__}"
            raise Unavailable(message, "Try `scontrol show job --json` as the agent's user.") from None
        return SlurmJob(record.name, record.account, record.user_id)


class SlurmBindings:
    """Claims of the jobs whose processes compute on GPUs. `jobs` is None where the controller is not asked."""

    name = NAME

    def __init__(self, running: ProcessLister, proc: ProcFs, jobs: JobLookup | None) -> None:
        self._running, self._proc, self._jobs = running, proc, jobs
        self._known_jobs: dict[int, SlurmJob] = {}
        self._numbers: dict[str, int] = {}
        """Numbers of jobs by their SLUIDs."""
        self._has_searched = False
        self._controller_fails = False
        self._refused: list[str] = []

    def read(self, boards: Boards, now_ms: int) -> ClaimReport:
        self._controller_fails = self._has_searched = False
        self._refused.clear()
        report = claim_by_process(self._running, self._proc, boards, self._claims)
        return report._replace(refused=(*report.refused, *self._refused))

    def _claims(self, device: str, process: ProcessInfo | None) -> ClaimReport:
        """Return a process's claim and warnings; none for a process that has ended or is outside of any job."""
        if process is None:
            return ClaimReport()
        group = _GROUP.match(process.cgroup)
        sluid = None if group else _SLUID.match(process.cgroup)
        number = int(group[1]) if group else self._number_of(sluid[2]) if sluid else None
        is_by_group = number is not None
        if number is None:
            number = self._own_number(process)
        if number is None and sluid:
            message = f"the job {sluid[2]} (SLUID) holds {device}, and its number is not known"
            warning = BindingWarning("unknown_holder", message)
            return ClaimReport([DeviceClaim(device, None, sluid[2])], [warning])
        if number is None:
            return ClaimReport()
        job = self._job(number)
        if not is_by_group and (job is None or job.uid != process.uid):
            message = f"a process of user {process.uid} says that it is of job {number}"
            return ClaimReport(warnings=[BindingWarning("unverified", message)])
        if job is None and self._jobs is not None:
            message = f"job {number} holds {device}, and Slurm does not say what it is"
            return ClaimReport([DeviceClaim(device, None, str(number))], [BindingWarning("unknown_holder", message)])
        holder, warnings = _holder(number, job)
        return ClaimReport([DeviceClaim(device, holder, f"{holder.workload}/{holder.tenant}")], warnings)

    def _number_of(self, sluid: str) -> int | None:
        """Return the number of a job by its group, None if its slurmstepd is not visible.

        Processes are searched at most once per reading, and only while a job is not known.
        """
        if sluid not in self._numbers and not self._has_searched:
            self._has_searched = True
            for process in self._proc.processes():
                group = _SLUID.match(process.cgroup)
                title = _STEP_DAEMON.match(process.command)
                if (
                    group
                    and title
                    and process.uid == 0
                    and re.fullmatch(r"/step_[^/]+/slurm", process.cgroup[group.end(1) :])
                ):
                    self._numbers[group[2]] = int(title[1])
            while len(self._numbers) > MAX_JOBS:
                del self._numbers[next(iter(self._numbers))]
        return self._numbers.get(sluid)

    def _own_number(self, process: ProcessInfo) -> int | None:
        """Return the job's number by the process's own environment."""
        text = self._proc.variable(process.pid, "SLURM_JOB_ID")
        return int(text) if _NUMBER.fullmatch(text) else None

    def _job(self, number: int) -> SlurmJob | None:
        if self._jobs is None or number in self._known_jobs or self._controller_fails:
            return self._known_jobs.get(number)
        try:
            job = self._jobs.job(number)
        except Exception as error:
            self._controller_fails = True  # One timeout per reading is enough.
            self._refused.append(refusal(error, f"job {number}"))
            return None
        if len(self._known_jobs) >= MAX_JOBS:
            del self._known_jobs[next(iter(self._known_jobs))]
        self._known_jobs[number] = job
        return job


def _holder(number: int, job: SlurmJob | None) -> tuple[WorkloadHolder, list[BindingWarning]]:
    if job is None:
        message = f"job {number}: its account is not known without `scontrol`"
        return WorkloadHolder(f"job-{number}", "", NAME, rule="job's number"), [BindingWarning("no_tenant", message)]
    warnings, tenant = list[BindingWarning](), job.account
    if fault := tenant_fault(tenant):
        message = f"job {number}: its account {printable(tenant)!r} is no tenant's name: {fault}"
        warnings.append(BindingWarning("bad_name", message))
        tenant = ""
    workload, rule = f"{tenant or 'job'}/{job.name}", "account and name"
    if fault := workload_fault(workload):
        message = f"job {number}: its name {printable(job.name)!r} cannot be used: {fault}"
        warnings.append(BindingWarning("bad_name", message))
        workload, rule = f"{tenant or 'job'}/job-{number}", "account and number"
    return WorkloadHolder(workload, tenant, NAME, rule=rule), warnings
