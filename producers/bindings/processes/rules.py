"""Binding source for plain processes: the GPUs' driver lists the processes on each GPU, rules give their workloads."""

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
"""Returns process ids by the device (a GPU's or MIG instance's UUID) that they compute on. Raises Unavailable."""


class ProcessBindings:
    """Claims of the processes that compute on GPUs.

    The first rule that matches a process counts. Processes that match none count as one unknown holder.
    """

    name = NAME

    def __init__(self, running: ProcessLister, proc: ProcFs, rules: Sequence[ProcessRule]) -> None:
        self._running, self._proc, self._rules = running, proc, rules

    def read(self, boards: Boards, now_ms: int) -> ClaimReport:
        claims: dict[DeviceClaim, None] = {}
        warnings: dict[BindingWarning, None] = {}
        devices = board_of_device(boards)
        for device, pids in self._running().items():
            if device not in devices:
                continue
            for pid in pids:
                holder = self._holder(self._proc.process(pid))
                if holder is None:
                    message = f"no rule knows a process that computes on {device}"
                    warnings[BindingWarning("unknown_holder", message)] = None
                elif not holder.tenant:
                    message = f"the rule of {holder.workload} names no tenant"
                    warnings[BindingWarning("no_tenant", message)] = None
                replica = f"{holder.workload}/{holder.tenant}" if holder else ""
                claims[DeviceClaim(device, holder, replica)] = None
        return ClaimReport(tuple(claims), tuple(warnings))

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
