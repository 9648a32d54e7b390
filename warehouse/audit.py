"""Conservation, checked again in SQL from what is stored, over any period: `wattlog audit`.

It trusts nothing that the stream job computed but the rows themselves. Residuals are sums of absolute differences at
the finest grain, so that two errors never cancel. While workers write, what they are about to finish is left out
(windows beyond their partition's mark); a late fact that is stored but not yet restated shows until it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.client import Warehouse

WORST = 20
"""Unbalanced windows that are named."""
SPAN_ROWS = 5_000_000
"""Rows that one step of the audit goes through; a day is the least."""
_END_MS = 7_258_118_400_000  # 2200-01-01


@dataclass(frozen=True, slots=True, order=True)
class UnbalancedWindow:
    """A window of a workload whose measured energy is not what its ledger rows say."""

    residual_uj: int
    window_start_ms: int
    cluster: str
    workload: str


@dataclass(slots=True)
class Audit:
    """What the books say of a period. Energies in integer microjoules.

    `measured_uj` is the sum of facts, the three after it of the ledger's final rows. `residual_uj` sums
    |measured - active - idle - unallocated| over windows, workloads and hardware types. `token_residual_tokens` and
    `request_residual` do the same for tokens and requests (and failures) per tenant and model, `hour_residual_uj` and
    `hour_residual_counts` (tokens, work, requests) for the hours against their windows.

    `coverage_ratio` is covered time over expected time, summed over GPUs. A GPU is expected to be covered from its
    first to its last window of the period without a gap; of those two windows themselves only what it covers, since it
    may have come and gone within them. 1.0 where nothing is expected.
    """

    windows: int = 0
    measured_uj: int = 0
    active_uj: int = 0
    idle_uj: int = 0
    unallocated_uj: int = 0
    residual_uj: int = 0
    token_residual_tokens: int = 0
    request_residual: int = 0
    hours: int = 0
    hours_without_windows: int = 0
    hour_residual_uj: int = 0
    hour_residual_counts: int = 0
    sequence_gaps: int = 0
    duplicates: int = 0
    coverage_ratio: float = 1.0
    unbalanced_windows: list[UnbalancedWindow] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No residual anywhere, and nothing lost on the log. Coverage is told, not judged: a GPU may be off."""
        return not (
            self.residual_uj
            or self.token_residual_tokens
            or self.request_residual
            or self.hour_residual_uj
            or self.hour_residual_counts
            or self.sequence_gaps
        )


def audit(warehouse: Warehouse, start_ms: int | None = None, end_ms: int | None = None) -> Audit:
    """Audit the windows that start in `[start_ms, end_ms)` (UTC epoch ms; None: all there are).

    Sequence gaps cannot be placed in time: those of every producer's run that was heard from since `start_ms` count.
    Raises BadQuery for a period that is none.
    """
    start, end = start_ms or 0, _END_MS if end_ms is None else end_ms
    if not 0 <= start < end <= _END_MS:
        raise BadQuery("period", (start_ms, end_ms), "the start must lie before the end, both from 1970 to 2200")
    found = Audit()
    coverage = _Coverage()
    for span in _spans(warehouse, start, end):
        _add_energy(found, warehouse, *span)
        (tokens,) = warehouse.ask("audit_tokens", start_ms=span[0], end_ms=span[1])
        found.token_residual_tokens += int(tokens["token_residual"])
        found.request_residual += int(tokens["request_residual"])
        for gpu in warehouse.ask("audit_coverage", start_ms=span[0], end_ms=span[1]):
            coverage.add(gpu)
    found.coverage_ratio = coverage.ratio
    _add_hours(found, warehouse, start, end)
    (sources,) = warehouse.ask("audit_sources", start_ms=start)
    found.sequence_gaps, found.duplicates = int(sources["sequence_gaps"]), int(sources["duplicates"])
    return found


def _spans(warehouse: Warehouse, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """The period in steps of whole days with at most SPAN_ROWS rows; days without rows are passed over."""
    first = last = rows = 0
    for day in warehouse.ask("audit_spans", start_ms=start_ms, end_ms=end_ms):
        if rows and rows + day["rows"] > SPAN_ROWS:
            yield max(first, start_ms), min(last, end_ms)
            rows = 0
        first = first if rows else day["day_ms"]
        last, rows = day["day_ms"] + MS_PER_DAY, rows + day["rows"]
    if rows:
        yield max(first, start_ms), min(last, end_ms)


def _add_energy(found: Audit, warehouse: Warehouse, start_ms: int, end_ms: int) -> None:
    (row,) = warehouse.ask("audit_energy", start_ms=start_ms, end_ms=end_ms, worst=WORST)
    worst = [UnbalancedWindow(-int(uj), t, cluster, workload) for uj, t, cluster, workload in row.pop("worst")]
    found.unbalanced_windows = sorted([*found.unbalanced_windows, *worst], reverse=True)[:WORST]
    for name, value in row.items():
        setattr(found, name, getattr(found, name) + int(value))


def _add_hours(found: Audit, warehouse: Warehouse, start_ms: int, end_ms: int) -> None:
    """Whole hours only: of an hour that the period cuts, the windows outside are not at hand."""
    for span in _spans(warehouse, -(-start_ms // MS_PER_HOUR) * MS_PER_HOUR, end_ms // MS_PER_HOUR * MS_PER_HOUR):
        (row,) = warehouse.ask("audit_hours", start_ms=span[0], end_ms=span[1])
        found.hours += row["hours"]
        found.hours_without_windows += row["hours_without_windows"]
        found.hour_residual_uj += int(row["residual_uj"])
        found.hour_residual_counts += int(row["residual_counts"])


class _Coverage:
    """What GPUs cover, put together over spans in the order of time."""

    def __init__(self) -> None:
        self._gpus: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(self, gpu: dict[str, Any]) -> None:
        key = (gpu["cluster"], gpu["node"], gpu["gpu_uuid"])
        seen = self._gpus.setdefault(key, gpu)
        if seen is not gpu:
            seen["covered_ms"] += gpu["covered_ms"]
            seen["last_ms"], seen["last_covered_ms"] = gpu["last_ms"], gpu["last_covered_ms"]

    @property
    def ratio(self) -> float:
        covered = expected = 0
        for gpu in self._gpus.values():
            covered += gpu["covered_ms"]
            if gpu["first_ms"] == gpu["last_ms"]:
                expected += gpu["covered_ms"]
                continue
            between = gpu["last_ms"] - gpu["first_ms"] - gpu["first_length_ms"]
            expected += gpu["first_covered_ms"] + between + gpu["last_covered_ms"]
        return covered / expected if expected else 1.0
