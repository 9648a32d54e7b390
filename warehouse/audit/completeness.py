"""What is not there: events that producers numbered and the log lost, producers that fell silent, and time of GPUs that
nothing measured. Nothing here can be mended from what is stored; it can only be known, and named."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from warehouse.results import Time

if TYPE_CHECKING:
    from warehouse.audit.conservation import Audit
    from warehouse.reader import LedgerReader

SILENT_MS = 300_000
"""A producer is silent when it was not heard for so long before the end, or before the newest that others sent."""

Gpu = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """A producer's run (one numbering, 0, 1, 2 ...) of which events are missing: `expected` = greatest number + 1."""

    missing: int
    topic: str
    source: str
    epoch: int
    expected: int
    received: int
    duplicates: int
    last_event: Time


@dataclass(frozen=True, slots=True)
class SilentProducer:
    """Nothing of it after `last_event`, while others of its log and topic, or the period, went on to `until`."""

    last_event: Time
    topic: str
    source: str
    until: Time


@dataclass(frozen=True, slots=True, order=True)
class GpuGap:
    """Time between a GPU's first and last window that nothing measured: `missing_ms` of `[start, end)`."""

    missing_ms: int
    start: Time
    end: Time
    cluster: str
    node: str
    gpu_uuid: str


@dataclass(frozen=True, slots=True)
class GpuCoverage:
    """What is covered of a GPU's time from its first to its last window."""

    covered_ms: int
    expected_ms: int
    cluster: str
    node: str
    gpu_uuid: str
    first_window: Time
    last_window_end: Time

    @property
    def missing_ms(self) -> int:
        return self.expected_ms - self.covered_ms


class Coverage:
    """What GPUs cover, put together over spans in the order of time.

    A GPU is expected to be covered from its first to its last window without a gap; of those two windows themselves
    only what it covers, since it may have come and gone within them. `worst` bounds what is named.
    """

    def __init__(self, worst: int) -> None:
        self._gpus: dict[Gpu, dict[str, Any]] = {}
        self._worst = worst
        self._gaps: list[GpuGap] = []

    def add(self, gpu: dict[str, Any]) -> None:
        """A row of audit_coverage: one GPU in the next span."""
        name: Gpu = (gpu["cluster"], gpu["node"], gpu["gpu_uuid"])
        gaps = [GpuGap(-minus, start, end, *name) for minus, start, end in gpu.pop("holes")]
        short = gpu.pop("short")
        seen = self._gpus.get(name)
        if seen is None:
            self._gpus[name] = gpu
            seen_first = gpu["first_ms"]
        else:
            seen_first = seen["first_ms"]
            hole = gpu["first_ms"] - seen["last_ms"] - seen["last_length_ms"]
            if hole > 0:
                gaps.append(GpuGap(hole, gpu["first_ms"] - hole, gpu["first_ms"], *name))
            start, length = seen["last_ms"], seen["last_length_ms"]
            if start != seen_first and seen["last_covered_ms"] < length:
                gaps.append(GpuGap(length - seen["last_covered_ms"], start, start + length, *name))
            seen["covered_ms"] += gpu["covered_ms"]
            for part in ("last_ms", "last_length_ms", "last_covered_ms"):
                seen[part] = gpu[part]
        # Of the first window of all, and of the last so far, nobody knows whether the GPU was there in all of it.
        inside = [s for s in short if s[1] not in (seen_first, gpu["last_ms"])]
        gaps += [GpuGap(-minus, start, end, *name) for minus, start, end in inside]
        self._gaps = nlargest(self._worst, [*self._gaps, *gaps]) if gaps else self._gaps

    def gpus(self) -> list[GpuCoverage]:
        """Every GPU seen."""
        return [_covered(name, gpu) for name, gpu in self._gpus.items()]

    def tell(self, found: Audit) -> None:
        """Put the whole into an audit."""
        gpus = self.gpus()
        if not gpus:
            return
        covered, expected = sum(g.covered_ms for g in gpus), sum(g.expected_ms for g in gpus)
        least = nlargest(self._worst, (g for g in gpus if g.missing_ms), key=lambda g: (g.missing_ms, g.gpu_uuid))
        found.gpus, found.gpus_with_gaps = len(gpus), sum(1 for g in gpus if g.missing_ms)
        found.uncovered_ms, found.coverage_ratio = expected - covered, covered / expected if expected else 1.0
        found.first_window = min(g.first_window for g in gpus)
        found.last_window_end = max(g.last_window_end for g in gpus)
        found.least_covered, found.gpu_gaps = least, self._gaps


def _covered(name: Gpu, gpu: dict[str, Any]) -> GpuCoverage:
    end_ms = gpu["last_ms"] + gpu["last_length_ms"]
    expected = gpu["covered_ms"]
    if gpu["first_ms"] != gpu["last_ms"]:
        between = gpu["last_ms"] - gpu["first_ms"] - gpu["first_length_ms"]
        expected = gpu["first_covered_ms"] + between + gpu["last_covered_ms"]
    return GpuCoverage(gpu["covered_ms"], expected, *name, gpu["first_ms"], end_ms)


def producers(found: Audit, reader: LedgerReader, start_ms: int, end_ms: int, worst: int) -> None:
    """Put into an audit what producers' numbers say, and who fell silent."""
    (runs,) = reader.ask("audit/producer_runs", start_ms=start_ms, worst=worst)
    found.producer_runs, found.runs_with_gaps = runs["runs"], runs["runs_with_gaps"]
    found.sequence_gaps, found.duplicates = int(runs["sequence_gaps"]), int(runs["duplicates"])
    found.gaps_by_producer = [SequenceGap(-int(minus), *map(_plain, rest)) for minus, *rest in runs["worst"]]
    (silent,) = reader.ask("audit/silent_producers", start_ms=start_ms, end_ms=end_ms, silent_ms=SILENT_MS, worst=worst)
    found.silent_producers = silent["silent"]
    found.silent = [SilentProducer(*named) for named in silent["worst"]]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)
