"""Binding source for plain processes: the GPUs' driver lists the processes on each GPU, rules give their workloads."""

from __future__ import annotations

from collections.abc import Sequence

from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
)
from producers.bindings.config import ProcessRule
from producers.bindings.process_claims import ProcessLister, claim_by_process
from producers.bindings.procfs import ProcessInfo, ProcFs

NAME = "processes"


class ProcessBindings:
    """Claims of the processes that compute on GPUs.

    The first rule that matches a process counts. Processes that match none count as one unknown holder.
    """

    name = NAME

    def __init__(self, running: ProcessLister, proc: ProcFs, rules: Sequence[ProcessRule]) -> None:
        self._running, self._proc, self._rules = running, proc, rules

    def read(self, boards: Boards, now_ms: int) -> ClaimReport:
        return claim_by_process(self._running, self._proc, boards, self._claims)

    def _claims(self, device: str, process: ProcessInfo | None) -> ClaimReport:
        holder = self._holder(process)
        if holder is None:
            warning = BindingWarning("unknown_holder", f"no rule knows a process that computes on {device}")
            return ClaimReport([DeviceClaim(device, None)], [warning])
        claim = DeviceClaim(device, holder, f"{holder.workload}/{holder.tenant}")
        if holder.tenant:
            return ClaimReport([claim])
        return ClaimReport([claim], [BindingWarning("no_tenant", f"the rule of {holder.workload} names no tenant")])

    def _holder(self, process: ProcessInfo | None) -> WorkloadHolder | None:
        if process is None:
            return None
        for n, rule in enumerate(self._rules, 1):
            if rule.matches(process):
                return WorkloadHolder(
                    rule.workload, rule.tenant, NAME, container=process.container, team=rule.team,
                    cost_centre=rule.cost_centre, model=rule.model, rule=f"rule {n}",
                )  # fmt: skip
        return None
