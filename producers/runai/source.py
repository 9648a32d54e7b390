"""Run:ai as a polled source: one window after the other, and what failed of earlier ones.

A step reads one window of all its workloads and pods, or reads failed ones of earlier windows again. Its rows and its
checkpoint are stored in one transaction (`producers.runtime.poll_loop`), so the window of each workload is on the log
once, however the producer ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from contracts import topics
from contracts.errors import BadInput, Unavailable
from producers.api import PollResult
from producers.common.printable import printable
from producers.runai import meters, responses, windows
from producers.runai.batches import batches
from producers.runai.client import RunAiClient
from producers.runai.listing import RunAiListing
from producers.runai.metrics import RunAiMetrics
from producers.runai.normalise import NormalisedRows, RowTerms, normalise
from producers.runai.responses import RunAiPod, RunAiWorkload, stamp
from producers.runai.schedule import WindowSchedule
from producers.runai.windows import ReadUnit, RunAiCheckpoint, RunAiWindow
from producers.runtime.batching import UsageRow
from producers.runtime.clock import Clock
from producers.runtime.refusals import describe, read_each, refusal

log = logging.getLogger(__name__)

_ID = re.compile(r"[\w.:-]{0,64}", re.ASCII)
"""The form of Run:ai's ids, which become part of addresses and of rows' ids."""
UNREADABLE = frozenset({"status_403", "status_404"})
"""Reasons that no retry can change."""
MAX_NOTES = 10
"""Failed workloads of one step that are logged one by one."""
MAX_POLL_MS = 10_000
"""Longest time between two checks whether a window is due."""


class RunAiOptions(NamedTuple):
    """Options of a source. If `cluster` is "", Run:ai's name of each cluster is used."""

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
    """Result of reading a unit: its rows, and the metrics that could not be read, with the reason."""

    unit: ReadUnit
    rows: list[UsageRow]
    refused: list[str]
    failed: tuple[str, ...] = ()
    why: str = ""
    reason: str = ""


class RunAiStep(NamedTuple):
    """The checkpoint after a step, the results of its units, and messages about what is given up with it."""

    checkpoint: RunAiCheckpoint
    results: list[UnitResult]
    given_up: Sequence[str] = ()


class RunAiSource:
    """Meters the workloads and pods of one Run:ai, whose host is `name`."""

    kind = "runai"

    def __init__(
        self, name: str, api: RunAiClient, listing: RunAiListing, terms: RowTerms, options: RunAiOptions,
        metrics: RunAiMetrics,
    ) -> None:  # fmt: skip
        self.name, self._api, self._listing, self._terms = name, api, listing, terms
        self._options, self._metrics = options, metrics
        self._clusters: dict[str, str] = {}
        self._windows_in_a_row = 0
        boundary_ms = options.schedule.following(0)
        period_ms = options.schedule.following(boundary_ms) - boundary_ms
        self.every_ms = max(1_000, min(MAX_POLL_MS, period_ms // 2))

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read one step. Raises Unavailable if Run:ai cannot be read at all, BadInput for another version's
        checkpoint.
        """
        options, now_ms = self._options, clock.wall_ms()
        if checkpoint is None:
            first = windows.first_checkpoint(options.schedule, now_ms, options.offset_ms)
            return PollResult([], windows.encode_checkpoint(first), notes=[f"meters from {stamp(first.read_ms)} on"])
        self._api.release()
        self._listing.refused.clear()
        before, given_up = self._without_expired(windows.decode_checkpoint(checkpoint), now_ms)
        try:
            step = self._step(before, now_ms)
        except Unavailable:
            self._windows_in_a_row = 0
            raise
        given_up += step.given_up
        following = windows.due_window(step.checkpoint, options.schedule, now_ms, options.offset_ms)
        self._windows_in_a_row += 1
        more = following is not None and self._windows_in_a_row < options.max_windows
        if not more:
            self._windows_in_a_row = 0
        self._metrics.given_up.inc(len(given_up))
        self._metrics.waiting.set(len(step.checkpoint.failed))
        self._metrics.behind_s.set((now_ms - following.t1_ms) / 1000 if following else 0)
        refused = [*given_up, *self._listing.refused, *(error for result in step.results for error in result.refused)]
        workload_batches = batches((result.unit, row) for result in step.results for row in result.rows)
        after = windows.encode_checkpoint(step.checkpoint)
        return PollResult(list(workload_batches), after, more, refused, list(_notes(step.results)))

    def _without_expired(self, checkpoint: RunAiCheckpoint, now_ms: int) -> tuple[RunAiCheckpoint, list[str]]:
        """Return the checkpoint without what is too old to be read, and messages about that."""
        after, skipped = windows.skip_too_old(checkpoint, self._options.schedule, now_ms, self._options.give_up_ms)
        expired = windows.expired_units(after.failed, now_ms, self._options.give_up_ms)
        messages = _given_up(expired)
        if skipped:
            messages.insert(
                0,
                f"{self.name}: nothing was read from {stamp(skipped.t0_ms)} to {stamp(skipped.t1_ms)}, and it is too "
                "late now (`give_up_s`)",
            )
        return RunAiCheckpoint(after.read_ms, windows.without_units(after.failed, expired)), messages

    def _step(self, before: RunAiCheckpoint, now_ms: int) -> RunAiStep:
        """Read failed units that are due, else the next window that is due."""
        if retries := windows.due_retries(before.failed, now_ms):
            results = self._read_all(retries)
            failed = (*windows.without_units(before.failed, retries), *_failed(results, now_ms))
            return RunAiStep(RunAiCheckpoint(before.read_ms, failed), results)
        window = windows.due_window(before, self._options.schedule, now_ms, self._options.offset_ms)
        return self._read_window(before, window, now_ms) if window else RunAiStep(before, [])

    def _read_window(self, before: RunAiCheckpoint, window: RunAiWindow, now_ms: int) -> RunAiStep:
        """Read a window. Raises Unavailable if nothing or too little of it can be read: then it is read again."""
        units = list(self._units(window))
        results = self._read_all(units)
        failed = _failed(results, now_ms)
        kept, dropped = windows.make_room((*before.failed, *failed))
        if units and all(
            r.reason not in windows.UNIT_REASONS and set(r.failed) == set(r.unit.metrics) for r in results
        ):
            raise Unavailable(
                f"None of {len(units)} workloads and pods can be read: {results[0].why}", "The window is read again."
            )
        if failed and len(kept) > windows.MAX_FAILED:
            raise Unavailable(
                f"{len(failed)} of {len(units)} workloads and pods cannot be read, {len(before.failed)} wait from "
                f"before: {failed[0].why}",
                "The window is read again.",
            )
        return RunAiStep(RunAiCheckpoint(window.t1_ms, kept), results, _given_up(dropped))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read_all(self, units: Sequence[ReadUnit]) -> list[UnitResult]:
        with ThreadPoolExecutor(self._options.concurrency, "runai") as pool:
            results = list(pool.map(self._read, units))
        for result in results:
            if result.reason == "stop":
                raise Unavailable(result.why, "The next run goes on.", reason="stop")
            if result.failed:
                self._metrics.failures.labels(result.reason).inc()
        return results

    def _read(self, unit: ReadUnit) -> UnitResult:
        """Read the metrics of a unit, nine in a call. If a call fails, only its metrics are read again."""
        if not all(map(_ID.fullmatch, (unit.cluster_id, unit.workload_id, unit.pod_id))):
            return UnitResult(unit, [], [f"{printable(unit.title)}: its id is malformed"])
        pod = f"/pods/{unit.pod_id}" if unit.pod_id else ""
        path = f"/api/v1/workloads/{unit.workload_id}{pod}/metrics"
        rows: list[UsageRow] = []
        refused: list[str] = []
        failed: list[str] = []
        why = reason = ""
        for metrics in meters.split_into_calls(unit.metrics):
            requested = windows.with_metrics(unit, metrics)
            try:
                answer = self._api.get(path, self._params(requested))
                raw = responses.decode(answer.body, responses.RunAiMeasurements, path).measurements
                items = responses.decode_items(raw, responses.RunAiMeasurement, path)
                measurements = responses.well_formed(items, refused)
            except Exception as error:  # Of any class: it is this unit's, and no other's.
                failed += metrics
                why, reason = describe(error), type(error).__name__
                if isinstance(error, Unavailable):
                    why, reason = str(error), error.reason
                if reason == responses.MALFORMED or not isinstance(error, Unavailable):
                    refused.append(refusal(error, _title(unit)))
                continue
            for result in read_each([(_title(requested), measurements)], partial(self._normalise, requested), refused):
                if answer.partial and result.absent:
                    failed += result.absent
                    why, reason = "Run:ai says that its answer is incomplete (207)", "partial"
                for metric, missing in result.missing.items():
                    if metric not in failed:
                        self._metrics.missing.labels(metric).inc(missing)
                rows += result.rows
                refused += result.refused
        return UnitResult(unit, rows, refused, tuple(failed), why, reason)

    def _normalise(self, unit: ReadUnit, measurements: Sequence[responses.RunAiMeasurement]) -> NormalisedRows:
        return normalise(unit, measurements, self._terms)

    def _params(self, unit: ReadUnit) -> dict[str, str]:
        return {
            "metricType": ",".join(unit.metrics), "start": stamp(unit.t0_ms), "end": stamp(unit.t1_ms),
            "numberOfSamples": str(unit.window.samples(self._terms.samples)),
        }  # fmt: skip

    # -- units of a window -------------------------------------------------------------------------------------------

    def _units(self, window: RunAiWindow) -> Iterator[ReadUnit]:
        options = self._options
        workloads = self._listing.workloads(window)
        pods = self._listing.pods(window) if options.pod_metrics else {}
        self._learn_clusters({w.cluster_id for w in workloads.values()} | {p.cluster_id for p in pods.values()})
        if options.workload_metrics:
            for workload in workloads.values():
                yield self._unit(window, workload)
        for pod in pods.values():
            owner = workloads.get(pod.workload_id)
            if owner or not options.filtered:  # A filter selects workloads: pods of other workloads are not metered.
                yield self._unit(window, owner or _owner(pod), pod)

    def _unit(self, window: RunAiWindow, workload: RunAiWorkload, pod: RunAiPod | None = None) -> ReadUnit:
        about = {
            "project": workload.project_name, "department": workload.department_name, "namespace": workload.namespace,
            "type": workload.type, "phase": workload.phase,
        }  # fmt: skip
        if pod:
            about |= {"pod": pod.name, "pod_id": pod.id, "node": pod.node_name}
        return ReadUnit(
            t0_ms=window.t0_ms,
            t1_ms=window.t1_ms,
            resource="pod" if pod else "workload",
            cluster_id=workload.cluster_id,
            cluster=self._cluster(workload.cluster_id),
            workload_id=workload.id,
            workload=_name(workload),
            metrics=tuple(self._options.pod_metrics if pod else self._options.workload_metrics),
            pod_id=pod.id if pod else "",
            about={k: printable(v) for k, v in about.items() if v},
        )

    def _learn_clusters(self, ids: set[str]) -> None:
        """Fetch the names of clusters, unless one is configured or all are known."""
        if self._options.cluster or ids <= self._clusters.keys():
            return
        try:
            self._clusters |= self._listing.clusters()
        except Unavailable as error:
            if error.reason not in UNREADABLE:
                raise  # Its name may be readable later, and rows must not go under two names.
            log.warning("clusters are called by their ids, because their names may not be read: %s", error)
        self._clusters |= {i: i for i in ids - self._clusters.keys()}

    def _cluster(self, cluster_id: str) -> str:
        name = self._options.cluster or self._clusters.get(cluster_id) or self._options.default_cluster
        try:
            return topics.check_name("cluster", name)
        except BadInput:
            return cluster_id


def _owner(pod: RunAiPod) -> RunAiWorkload:
    """Return a pod's workload, as far as the pod describes it."""
    name = pod.workload_name or pod.workload_id
    return RunAiWorkload(pod.workload_id, name, pod.cluster_id, project_name=pod.project_name)


def _name(workload: RunAiWorkload) -> str:
    """Return a workload's name on the log, or its id if the log cannot store the name."""
    name = printable(workload.name)
    return workload.id if not name or topics.is_unallocated(name) else name


def _failed(results: Iterable[UnitResult], now_ms: int) -> list[ReadUnit]:
    return [windows.retry_later(r.unit, r.failed, r.why, r.reason, now_ms) for r in results if r.failed]


def _given_up(units: Iterable[ReadUnit]) -> list[str]:
    return [f"{_title(u)}: given up after {u.tries} tries: {', '.join(u.metrics)}: {u.why}" for u in units]


def _title(unit: ReadUnit) -> str:
    return f"{unit.title}, {stamp(unit.t0_ms)} to {stamp(unit.t1_ms)}"


def _notes(results: Sequence[UnitResult]) -> Iterator[str]:
    """Yield a message for each workload that could not be read, up to `MAX_NOTES`."""
    failed = [result for result in results if result.failed]
    for result in failed[:MAX_NOTES]:
        yield f"{_title(result.unit)}, could not be read and will be again: {', '.join(result.failed)}: {result.why}"
    if len(failed) > MAX_NOTES:
        yield f"{len(failed) - MAX_NOTES} more workloads and pods could not be read and will be again"
