"""Plain processes that hold GPUs: NVML says which processes compute on which GPU, a table of rules whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
    board_of_device,
)
from producers.bindings.config import ProcessRule
from producers.bindings.procfs import ProcessInfo, ProcFs

NAME = "processes"
ProcessLister = Callable[[], Mapping[str, Sequence[int]]]
"""Processes by the device (a GPU's or MIG instance's UUID) that they compute on. Raises Unavailable."""


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
