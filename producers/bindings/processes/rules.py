"""Plain processes that hold GPUs: NVML says which processes compute on which GPU, a table of rules whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
    board_of_device,
    tenant_fault,
    workload_fault,
)
from producers.bindings.procfs import ProcessInfo, ProcFs

NAME = "processes"
ProcessLister = Callable[[], Mapping[str, Sequence[int]]]
"""Processes by the device (a GPU's or MIG instance's UUID) that they compute on. Raises Unavailable."""


class ProcessRule(BaseModel):
    """Processes for which everything holds that is given here are of this workload. Patterns may hold `*` and `?`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field(description="Workload, as its requests name it.")
    tenant: str = Field("", description="Who pays when it is idle.")
    team: str = Field("", description="Team.")
    cost_centre: str = Field("", description="Cost centre.")
    model: str = Field("", description="Model that it serves.")
    command: str = Field("", description="Pattern of the command line.")
    user: str = Field("", description="Pattern of the user's name, or of its number.")
    cgroup: str = Field("", description="Pattern of the control group's path.")
    container: str = Field("", description="Pattern of the container's id.")

    @field_validator("workload")
    @classmethod
    def _workload(cls, workload: str) -> str:
        if fault := workload_fault(workload):
            raise ValueError(fault)
        return workload

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, tenant: str) -> str:
        if tenant and (fault := tenant_fault(tenant)):
            raise ValueError(fault)
        return tenant

    @model_validator(mode="after")
    def _says_something(self) -> ProcessRule:
        if not (self.command or self.user or self.cgroup or self.container):
            raise ValueError("give at least one of command, user, cgroup and container")
        return self

    def matches(self, process: ProcessInfo) -> bool:
        pairs = ((self.command, process.command), (self.cgroup, process.cgroup), (self.container, process.container))
        if not all(fnmatchcase(said, pattern) for pattern, said in pairs if pattern):
            return False
        return not self.user or any(fnmatchcase(said, self.user) for said in (process.user, str(process.uid)))


class ProcessBindings:
    """See the module. The first rule that matches counts; processes that match none count as one unknown holder."""

    name = NAME

    def __init__(self, running: ProcessLister, proc: ProcFs, rules: Sequence[ProcessRule]) -> None:
        self._running, self._proc, self._rules = running, proc, rules

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        claims: dict[DeviceClaim, None] = {}
        odd: dict[BindingWarning, None] = {}
        asked = board_of_device(topology)
        for device, pids in ((d, pids) for d, pids in self._running().items() if d in asked):
            for pid in pids:
                holder = self._whose(self._proc.look(pid))
                if holder is None:
                    odd[BindingWarning("unknown_holder", f"no rule knows a process that computes on {device}")] = None
                elif not holder.tenant:
                    odd[BindingWarning("no_tenant", f"the rule of {holder.workload} names no tenant")] = None
                replica = f"{holder.workload}/{holder.tenant}" if holder else ""
                claims[DeviceClaim(device, holder, replica)] = None
        return ClaimReport(tuple(claims), tuple(odd))

    def _whose(self, process: ProcessInfo | None) -> WorkloadHolder | None:
        if process is None:
            return None
        for n, rule in enumerate(self._rules, 1):
            if rule.matches(process):
                return WorkloadHolder(
                    rule.workload, rule.tenant, NAME, container=process.container, team=rule.team,
                    cost_centre=rule.cost_centre, model=rule.model, rule=f"rule {n}",
                )  # fmt: skip
        return None
