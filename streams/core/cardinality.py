"""Which name explodes: what there is most of among the keys that a partition holds, to be told to an operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple


class CardinalityReport(NamedTuple):
    """So many of a kind (`tenants`, `gpus` or `workloads`), where, and the newest of them."""

    number: int
    kind: str
    where: str
    example: str

    def __str__(self) -> str:
        return f"{self.number} {self.kind} in {self.where}, one of them {self.example[:80]!r}"


def report_cardinality(gpus: Sequence[tuple[Any, ...]], payers: Sequence[tuple[Any, ...]]) -> CardinalityReport | None:
    """Of keys (subject, node, gpu_uuid, ...) and (subject, tenant, model), a subject being (cluster, workload): the
    workload with most of either, or the workloads themselves where they are more. None if there are no keys."""
    found: list[CardinalityReport] = []
    workloads = {key[0] for keys in (gpus, payers) for key in keys}
    for kind, keys, at in (("gpus", gpus, 2), ("tenants", payers, 1)):
        if keys:
            (cluster, workload), count = Counter(key[0] for key in keys).most_common(1)[0]
            example = next(key for key in reversed(keys) if key[0] == (cluster, workload))
            found.append(CardinalityReport(count, kind, f"{cluster}/{workload}", str(example[at])))
            last_cluster, last = keys[-1][0]
            found.append(CardinalityReport(len(workloads), "workloads", last_cluster, last))
    return max(found, default=None)
