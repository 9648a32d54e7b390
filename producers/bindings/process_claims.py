"""Claims of the processes that compute on GPUs, for sources that know a process's workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from producers.bindings.claims import BindingWarning, Boards, ClaimReport, DeviceClaim, board_of_device
from producers.bindings.procfs import ProcessInfo, ProcFs
from producers.runtime.refusals import read_each

ProcessLister = Callable[[], Mapping[str, Sequence[int]]]
"""Returns process ids by the device (a GPU's or MIG instance's UUID) that they compute on. Raises Unavailable."""


def claim_by_process(
    running: ProcessLister, proc: ProcFs, boards: Boards, claims_of: Callable[[str, ProcessInfo | None], ClaimReport]
) -> ClaimReport:
    """Collect what `claims_of` reports of each (device, process) on these boards, each claim and warning once.

    The process is None if it has ended or is not visible. One that cannot be read makes its device one that an unknown
    workload holds.
    """
    claims: dict[DeviceClaim, None] = {}
    warnings: dict[BindingWarning, None] = {}
    refused: list[str] = []
    devices = board_of_device(boards)

    def read(item: tuple[str, int]) -> ClaimReport:
        device, pid = item
        return claims_of(device, proc.process(pid))

    for device, pids in running().items():
        if device not in devices:
            continue
        placed = [(f"process {pid} on {device}", (device, pid)) for pid in pids]
        reports = list(read_each(placed, read, refused))
        if len(reports) < len(placed):
            reports.append(ClaimReport([DeviceClaim(device, None)]))
        for report in reports:
            claims |= dict.fromkeys(report.claims)
            warnings |= dict.fromkeys(report.warnings)
    return ClaimReport(tuple(claims), tuple(warnings), tuple(refused))
