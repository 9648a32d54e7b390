"""Cardinality report: the workload with most GPUs or tenants in open windows, for a warning in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple


class CardinalityReport(NamedTuple):
    """The largest number of names of one kind (`tenants`, `gpus` or `workloads`), its place and its newest name."""

    number: int
    kind: str
    where: str
    example: str

    def __str__(self) -> str:
        return f"{self.number} {self.kind} in {self.where}, one of them {self.example[:80]!r}"


def report_cardinality(gpus: Sequence[tuple[Any, ...]], payers: Sequence[tuple[Any, ...]]) -> CardinalityReport | None:
    """Return the workload with most GPUs or tenants, or the workloads themselves if they are more; None without keys.

    `gpus` are keys (subject, node, gpu_uuid, ...), `payers` are (subject, tenant, model), a subject being
    (cluster, workload). It looks at every key: call it for a log line, not in every step.
    """
    reports: list[CardinalityReport] = []
    workloads = {key[0] for keys in (gpus, payers) for key in keys}
    for kind, keys, at in (("gpus", gpus, 2), ("tenants", payers, 1)):
        if keys:
            (cluster, workload), count = Counter(key[0] for key in keys).most_common(1)[0]
            example = next(key for key in reversed(keys) if key[0] == (cluster, workload))
            reports.append(CardinalityReport(count, kind, f"{cluster}/{workload}", str(example[at])))
            last_cluster, last = keys[-1][0]
            reports.append(CardinalityReport(len(workloads), "workloads", last_cluster, last))
    return max(reports, default=None)
