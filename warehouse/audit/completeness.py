"""Completeness: events that producers numbered and the log lost, silent producers, and unmeasured GPU time.

Nothing here can be repaired from stored rows; it can only be detected and named.
"""

from __future__ import annotations

from heapq import nlargest
from typing import Any

from contracts.boundary import Boundary, part_of
from contracts.source_kinds import CALLS_ONLY
from warehouse.audit.findings import ContestedRun, GpuCoverage, GpuGap, SequenceGap, SilentProducer
from warehouse.audit.report import Audit
from warehouse.reader import LedgerReader

SILENT_MS = 300_000
"""A producer without events for so long before the end, or before the newest event of others, is silent; one that
passes on calls alone is idle."""

GpuKey = tuple[str, str, str]
"""(cluster, node, gpu_uuid)."""


class Coverage:
    """Covered time of GPUs, and apart of hosts and meters at the wall, added up over spans in the order of time.

    A GPU is expected to be covered without a gap between its first and its last window. Of those two windows only the
    covered part is expected, since the GPU may have come and gone within them. `worst` bounds how many gaps are named.
    """

    def __init__(self, worst: int) -> None:
        self._gpus: dict[GpuKey, dict[str, Any]] = {}
        self._worst = worst
        self._gaps: list[GpuGap] = []

    def add(self, gpu: dict[str, Any]) -> None:
        """Add a row of gpu_coverage.sql: one GPU in the next span."""
        key: GpuKey = (gpu["cluster"], gpu["node"], gpu["gpu_uuid"])
        gaps = [_gap(key, -minus, start, end) for minus, start, end in gpu.pop("gaps")]
        short = gpu.pop("short")
        known = self._gpus.get(key)
        if known is None:
            self._gpus[key] = gpu
            first_ms = gpu["first_ms"]
        else:
            first_ms = known["first_ms"]
            between_ms = gpu["first_ms"] - known["last_ms"] - known["last_length_ms"]
            if between_ms > 0:
                gaps.append(_gap(key, between_ms, gpu["first_ms"] - between_ms, gpu["first_ms"]))
            start, length = known["last_ms"], known["last_length_ms"]
            if start != first_ms and known["last_covered_ms"] < length:
                gaps.append(_gap(key, length - known["last_covered_ms"], start, start + length))
            known["covered_ms"] += gpu["covered_ms"]
            for part in ("last_ms", "last_length_ms", "last_covered_ms"):
                known[part] = gpu[part]
        # In its first window of all, and in its last so far, the GPU may have been there for a part of the time only.
        inside = [s for s in short if s[1] not in (first_ms, gpu["last_ms"])]
        gaps += [_gap(key, -minus, start, end) for minus, start, end in inside]
        if gaps and part_of(gpu["hardware"]) is Boundary.GPU:
            self._gaps = nlargest(self._worst, [*self._gaps, *gaps])

    def devices(self) -> list[GpuCoverage]:
        """Return the coverage of every GPU, host and meter at the wall."""
        return [_coverage(key, gpu) for key, gpu in self._gpus.items()]

    def report(self, audit: Audit) -> None:
        """Set the coverage fields of an audit."""
        devices = self.devices()
        gpus, meters = [d for d in devices if d.is_gpu], [d for d in devices if not d.is_gpu]
        if not devices:
            return
        covered, expected = sum(g.covered_ms for g in gpus), sum(g.expected_ms for g in gpus)
        audit.gpus, audit.gpus_with_gaps = len(gpus), sum(1 for g in gpus if g.missing_ms)
        audit.uncovered_ms, audit.coverage_ratio = expected - covered, covered / expected if expected else 1.0
        audit.meters, audit.meters_with_gaps = len(meters), sum(1 for m in meters if m.missing_ms)
        audit.meters_uncovered_ms = sum(m.missing_ms for m in meters)
        audit.first_window = min(d.first_window for d in devices)
        audit.last_window_end = max(d.last_window_end for d in devices)
        audit.least_covered, audit.least_covered_meters = self._least(gpus), self._least(meters)
        audit.gpu_gaps = self._gaps

    def _least(self, devices: list[GpuCoverage]) -> list[GpuCoverage]:
        return nlargest(self._worst, (d for d in devices if d.missing_ms), key=lambda d: (d.missing_ms, d.gpu_uuid))


def _gap(key: GpuKey, missing_ms: int, start: Any, end: Any) -> GpuGap:
    cluster, node, gpu_uuid = key
    return GpuGap(missing_ms=missing_ms, start=start, end=end, cluster=cluster, node=node, gpu_uuid=gpu_uuid)


def _coverage(key: GpuKey, gpu: dict[str, Any]) -> GpuCoverage:
    cluster, node, gpu_uuid = key
    expected_ms = gpu["covered_ms"]
    if gpu["first_ms"] != gpu["last_ms"]:
        between_ms = gpu["last_ms"] - gpu["first_ms"] - gpu["first_length_ms"]
        expected_ms = gpu["first_covered_ms"] + between_ms + gpu["last_covered_ms"]
    return GpuCoverage(
        covered_ms=gpu["covered_ms"],
        expected_ms=expected_ms,
        cluster=cluster,
        node=node,
        gpu_uuid=gpu_uuid,
        first_window=gpu["first_ms"],
        last_window_end=gpu["last_ms"] + gpu["last_length_ms"],
        hardware=gpu["hardware"],
    )


def check_producers(audit: Audit, reader: LedgerReader, start_ms: int, end_ms: int, worst: int) -> None:
    """Set the sequence gaps, duplicates, silent producers and idle senders of an audit."""
    (runs,) = reader.ask("audit/producer_runs", start_ms=start_ms, worst=worst)
    audit.producer_runs, audit.runs_with_gaps = runs["runs"], runs["runs_with_gaps"]
    audit.sequence_gaps, audit.duplicates = int(runs["sequence_gaps"]), int(runs["duplicates"])
    audit.gaps_by_producer = [
        SequenceGap(
            missing=-int(minus_missing),
            topic=topic,
            source=source,
            epoch=int(epoch),
            expected=int(expected),
            received=int(received),
            duplicates=int(duplicates),
            last_event=last_ms,
        )
        for minus_missing, topic, source, epoch, expected, received, duplicates, last_ms in runs["worst"]
    ]
    (contested,) = reader.ask("audit/contested_numbers", start_ms=start_ms, end_ms=end_ms, worst=worst)
    audit.contested_messages, audit.contested_runs = int(contested["messages"]), contested["runs"]
    audit.contested = [
        ContestedRun(-int(minus), topic, source, int(epoch), int(first), int(last), first_event=begin, last_event=end)
        for minus, topic, source, epoch, first, last, begin, end in contested["worst"]
    ]
    (silent,) = reader.ask(
        "audit/silent_producers", start_ms=start_ms, end_ms=end_ms, silent_ms=SILENT_MS, worst=worst,
        calls_only=CALLS_ONLY,
    )  # fmt: skip
    audit.silent_producers, audit.silent = silent["silent"], _silent(silent["worst"])
    audit.idle_senders, audit.idle = silent["idle"], _silent(silent["idle_worst"])


def _silent(rows: list[tuple[Any, ...]]) -> list[SilentProducer]:
    return [
        SilentProducer(last_event=last_ms, topic=topic, source=source, until=until_ms)
        for last_ms, topic, source, until_ms in rows
    ]
