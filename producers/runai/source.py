"""Run:ai as a source of a collector: window after window, and what failed of earlier ones, from a mark on disk.

A step reads one window of all its workloads and pods, or reads again what is due of those that failed. Its rows and its
mark are kept together (`producers.runtime.poll_loop`), so each workload's window is on the log once, whatever ends a
producer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from contracts import topics
from contracts.errors import BadInput, Unavailable
from producers.runai import meters, responses, windows
from producers.runai.batches import batches
from producers.runai.client import RunAiClient
from producers.runai.listing import RunAiListing
from producers.runai.metrics import RunAiMetrics
from producers.runai.normalise import RowTerms, normalise, printable
from producers.runai.responses import RunAiPod, RunAiWorkload, stamp
from producers.runai.schedule import WindowSchedule
from producers.runai.windows import ReadUnit, RunAiCheckpoint, RunAiWindow
from producers.runtime.batching import UsageRow
from producers.runtime.clock import Clock
from producers.runtime.poll_loop import Collected

log = logging.getLogger(__name__)

_ID = re.compile(r"[\w.:-]{0,64}", re.ASCII)
"""What Run:ai's ids look like: they go into addresses and identities."""
UNREADABLE = frozenset({"status_403", "status_404"})
"""Reasons for which something will not be readable later either."""
MAX_TOLD = 10
"""Workloads of one step that are told one by one."""
LOOK_MS = 10_000
"""How often a source sees whether a window is due, at most."""


class RunAiOptions(NamedTuple):
    """What is read of what, and when. `cluster` "": as Run:ai calls it."""

    schedule: WindowSchedule
    offset_ms: int
    workload_metrics: Sequence[str]
    pod_metrics: Sequence[str]
    give_up_ms: int
    max_windows: int
    concurrency: int
    cluster: str = ""
    default_cluster: str = "local"
    filtered: bool = False


class UnitResult(NamedTuple):
    """What became of a unit: its rows, and the metrics that could not be read."""

    unit: ReadUnit
    rows: list[UsageRow]
    refused: list[str]
    failed: tuple[str, ...] = ()
    why: str = ""
    reason: str = ""


class RunAiStep(NamedTuple):
    """The mark after a step, what became of its units, and what is given up with it."""

    mark: RunAiCheckpoint
    reads: list[UnitResult]
    given_up: Sequence[str] = ()


class RunAiSource:
    """See the module."""

    kind = "runai"

    def __init__(
        self,
        name: str,
        api: RunAiClient,
        listing: RunAiListing,
        terms: RowTerms,
        wanted: RunAiOptions,
        metrics: RunAiMetrics,
    ) -> None:
        self.name, self._api, self._listing, self._terms = name, api, listing, terms
        self._wanted, self._metrics = wanted, metrics
        self._clusters: dict[str, str] = {}
        self._in_look = 0
        boundary_ms = wanted.schedule.following(0)
        period_ms = wanted.schedule.following(boundary_ms) - boundary_ms
        self.every_ms = max(1_000, min(LOOK_MS, period_ms // 2))

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """One step. Raises Unavailable where Run:ai cannot be read at all, BadInput for a mark of another version."""
        wanted, now_ms = self._wanted, clock.wall_ms()
        if mark is None:
            begun = windows.first(wanted.schedule, now_ms, wanted.offset_ms)
            return Collected([], windows.encoded(begun), notes=[f"meters from {stamp(begun.read_ms)} on"])
        self._api.release()
        at, too_late = self._without_old(windows.decoded(mark), now_ms)
        try:
            after, reads, dropped = self._step(at, now_ms)
        except Unavailable:
            self._in_look = 0
            raise
        too_late += dropped
        following = windows.due(after, wanted.schedule, now_ms, wanted.offset_ms)
        self._in_look += 1
        more = following is not None and self._in_look < wanted.max_windows
        if not more:
            self._in_look = 0
        self._metrics.given_up.inc(len(too_late))
        self._metrics.waiting.set(len(after.failed))
        self._metrics.behind_s.set((now_ms - following.t1_ms) / 1000 if following else 0)
        refused = [*too_late, *(why for read in reads for why in read.refused)]
        made = list(batches((read.unit, row) for read in reads for row in read.rows))
        return Collected(made, windows.encoded(after), more, refused, list(_notes(reads)))

    def _without_old(self, mark: RunAiCheckpoint, now_ms: int) -> tuple[RunAiCheckpoint, list[str]]:
        """The mark without what is too old to be read, and what is to be said of that."""
        after, skipped = windows.forget(mark, self._wanted.schedule, now_ms, self._wanted.give_up_ms)
        old = windows.given_up(after.failed, now_ms, self._wanted.give_up_ms)
        told = _given_up(old)
        if skipped:
            told.insert(
                0,
                f"{self.name}: nothing was read from {stamp(skipped.t0_ms)} to {stamp(skipped.t1_ms)}, and it is too "
                "late now (`give_up_s`)",
            )
        return RunAiCheckpoint(after.read_ms, windows.without(after.failed, old)), told

    def _step(self, at: RunAiCheckpoint, now_ms: int) -> RunAiStep:
        """What failed and is to be read again, else the next window that is due."""
        if retries := windows.to_retry(at.failed, now_ms):
            reads = self._read_all(retries)
            return RunAiStep(
                RunAiCheckpoint(at.read_ms, (*windows.without(at.failed, retries), *_failed(reads, now_ms))), reads
            )
        window = windows.due(at, self._wanted.schedule, now_ms, self._wanted.offset_ms)
        return self._window(at, window, now_ms) if window else RunAiStep(at, [])

    def _window(self, at: RunAiCheckpoint, window: RunAiWindow, now_ms: int) -> RunAiStep:
        """Raises Unavailable where nothing of the window can be read, or too little: then all of it is read again."""
        units = list(self._units(window))
        reads = self._read_all(units)
        failed = _failed(reads, now_ms)
        kept, dropped = windows.made_room((*at.failed, *failed))
        if units and all(r.reason not in windows.OF_ITS_OWN and set(r.failed) == set(r.unit.metrics) for r in reads):
            raise Unavailable(
                f"None of {len(units)} workloads and pods can be read: {reads[0].why}", "The window is read again."
            )
        if failed and len(kept) > windows.MAX_FAILED:
            raise Unavailable(
                f"{len(failed)} of {len(units)} workloads and pods cannot be read, {len(at.failed)} wait from before: "
                f"{failed[0].why}",
                "The window is read again.",
            )
        return RunAiStep(RunAiCheckpoint(window.t1_ms, kept), reads, _given_up(dropped))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read_all(self, units: Sequence[ReadUnit]) -> list[UnitResult]:
        with ThreadPoolExecutor(self._wanted.concurrency, "runai") as pool:
            reads = list(pool.map(self._read, units))
        for read in reads:
            if read.reason == "stop":
                raise Unavailable(read.why, "The next run goes on.", reason="stop")
            if read.failed:
                self._metrics.failures.labels(read.reason).inc()
        return reads

    def _read(self, unit: ReadUnit) -> UnitResult:
        """A unit's metrics, nine a call. A call that fails leaves its metrics to be read again, no others."""
        if not all(map(_ID.fullmatch, (unit.cluster_id, unit.workload_id, unit.pod_id))):
            return UnitResult(unit, [], [f"{printable(unit.named)}: what should be its id is none"])
        pod = f"/pods/{unit.pod_id}" if unit.pod_id else ""
        path = f"/api/v1/workloads/{unit.workload_id}{pod}/metrics"
        rows: list[UsageRow] = []
        refused: list[str] = []
        failed: list[str] = []
        why = reason = ""
        for metrics in meters.calls(unit.metrics):
            asked = windows.part(unit, metrics)
            try:
                answer = self._api.get(path, self._params(asked))
                told = responses.read(answer.body, responses.Measurements, path).measurements or []
            except Unavailable as error:
                failed += metrics
                why, reason = str(error), error.reason
                continue
            found = normalise(asked, told, self._terms)
            if answer.partial and found.absent:
                failed += found.absent
                why, reason = "Run:ai says that its answer lacks something (207)", "partial"
            for metric, missing in found.missing.items():
                if metric not in failed:
                    self._metrics.missing.labels(metric).inc(missing)
            rows += found.rows
            refused += found.refused
        return UnitResult(unit, rows, refused, tuple(failed), why, reason)

    def _params(self, unit: ReadUnit) -> dict[str, str]:
        return {
            "metricType": ",".join(unit.metrics), "start": stamp(unit.t0_ms), "end": stamp(unit.t1_ms),
            "numberOfSamples": str(unit.window.samples(self._terms.samples)),
        }  # fmt: skip

    # -- what there is to read ---------------------------------------------------------------------------------------

    def _units(self, window: RunAiWindow) -> Iterator[ReadUnit]:
        wanted = self._wanted
        workloads = self._listing.workloads(window)
        pods = self._listing.pods(window) if wanted.pod_metrics else {}
        self._learn_clusters({w.cluster_id for w in workloads.values()} | {p.cluster_id for p in pods.values()})
        if wanted.workload_metrics:
            for workload in workloads.values():
                yield self._unit(window, workload)
        for pod in pods.values():
            owner = workloads.get(pod.workload_id)
            if owner or not wanted.filtered:  # A filter is of workloads: pods of others are none of ours.
                yield self._unit(window, owner or _owner(pod), pod)

    def _unit(self, window: RunAiWindow, workload: RunAiWorkload, pod: RunAiPod | None = None) -> ReadUnit:
        about = {
            "project": workload.project_name, "department": workload.department_name, "namespace": workload.namespace,
            "type": workload.type, "phase": workload.phase,
        }  # fmt: skip
        if pod:
            about |= {"pod": pod.name, "pod_id": pod.id, "node": pod.node_name}
        return ReadUnit(
            window.t0_ms, window.t1_ms, "pod" if pod else "workload", workload.cluster_id,
            self._cluster(workload.cluster_id), workload.id, _name(workload),
            tuple(self._wanted.pod_metrics if pod else self._wanted.workload_metrics), pod.id if pod else "",
            {k: printable(v) for k, v in about.items() if v},
        )  # fmt: skip

    def _learn_clusters(self, ids: set[str]) -> None:
        """Clusters' names, where they are not told and not known yet."""
        if self._wanted.cluster or ids <= self._clusters.keys():
            return
        try:
            self._clusters |= self._listing.clusters()
        except Unavailable as error:
            if error.reason not in UNREADABLE:
                raise  # Later it may be known: rows go under one name only.
            log.warning("clusters go under their ids, since their names may not be read: %s", error)
        self._clusters |= {i: i for i in ids - self._clusters.keys()}

    def _cluster(self, cluster_id: str) -> str:
        name = self._wanted.cluster or self._clusters.get(cluster_id) or self._wanted.default_cluster
        try:
            return topics.check_name("cluster", name)
        except BadInput:
            return cluster_id


def _owner(pod: RunAiPod) -> RunAiWorkload:
    """A pod's workload, as far as the pod knows it."""
    name = pod.workload_name or pod.workload_id
    return RunAiWorkload(pod.workload_id, name, pod.cluster_id, project_name=pod.project_name)


def _name(workload: RunAiWorkload) -> str:
    """A workload's name on the log; its id where the name cannot be one."""
    name = printable(workload.name)
    return workload.id if not name or topics.is_unallocated(name) else name


def _failed(reads: Iterable[UnitResult], now_ms: int) -> list[ReadUnit]:
    return [windows.failed_again(r.unit, r.failed, r.why, r.reason, now_ms) for r in reads if r.failed]


def _given_up(units: Iterable[ReadUnit]) -> list[str]:
    return [f"{_of(u)}: given up after {u.tries} tries: {', '.join(u.metrics)}: {u.why}" for u in units]


def _of(unit: ReadUnit) -> str:
    return f"{unit.named}, {stamp(unit.t0_ms)} to {stamp(unit.t1_ms)}"


def _notes(reads: Sequence[UnitResult]) -> Iterator[str]:
    """Workloads that could not be read, by name."""
    failed = [read for read in reads if read.failed]
    for read in failed[:MAX_TOLD]:
        yield f"{_of(read.unit)}, could not be read and will be again: {', '.join(read.failed)}: {read.why}"
    if len(failed) > MAX_TOLD:
        yield f"{len(failed) - MAX_TOLD} more workloads and pods could not be read and will be again"
