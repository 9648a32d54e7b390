"""Polled source over the `/metrics` pages of servers in pods, as many as there are.

Pages are fetched side by side. A pod that appears while it is watched counts from its start, because its counters began
with it. A pod that does not answer costs the others nothing, and is asked less and less often. Where several groups, or
an address of the configuration, select one pod, it counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from contracts.errors import BadInput, Unavailable, WattlogError
from producers.api import Finding, PollResult, TokenCounters, WorkloadBatch
from producers.bindings.config import PodLabelNames
from producers.bindings.kubernetes.pod_watch import PodsView
from producers.bindings.kubernetes.pods import PodDevice, holder_of
from producers.bindings.kubernetes.serving_pod import ServingPod
from producers.common.prometheus_text import PrometheusPage, parse_page
from producers.runtime.clock import Clock
from producers.runtime.refusals import ItemRefusal, at_place, refusal
from producers.servers.counter_snapshots import ServedSince, ServerCounterSnapshot, served_since
from producers.servers.page_scrape import prefill_note, scrape_of
from producers.servers.scrape import CountAs, ServedWorkload, workload_batches
from producers.servers.served_rows import ServedRow
from producers.servers.server_identity import CLOCK_MS

PATIENCE, MAX_PAUSE_MS = 3, 60_000
"""Failures in a row of a pod before it is asked less often, and the longest pause."""
MAX_FAILURES = 10_000
FORGET_MS = 3_600_000


@dataclass(frozen=True)
class PodGroup:
    """Servers in pods that one entry of the configuration selects. Empty names are taken from the pods' labels."""

    name: str
    view: Callable[[], PodsView]
    counters: TokenCounters
    limit: int
    cluster: str
    port: int | str = 8000
    path: str = "/metrics"
    scheme: str = "http"
    workload: str = ""
    tenant: str = ""
    count: CountAs = "requests"


class PodTarget(NamedTuple):
    """A pod's page: its key in the checkpoint, its address, and what it serves."""

    key: str
    url: str
    pod: ServingPod
    group: PodGroup
    port: int
    serves: ServedWorkload
    started_ms: int | None
    is_alone: bool = False
    """The API server says now that the pod has this address."""

    @property
    def place(self) -> str:
        """Pod and address, for people."""
        return f"{self.pod.place} at {self.url}"


class PodsCheckpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Snapshot of each pod's counters, by uid and port.

    `born_ms` are the creations of pods that wait to run or were not read yet, `seen_ms` when each group's pods were
    last known.
    """

    t_ms: int
    pods: dict[str, ServerCounterSnapshot] = {}
    born_ms: dict[str, int] = {}
    seen_ms: dict[str, int] = {}


class _PodFailures(NamedTuple):
    failures: int
    next_ms: int


@dataclass(frozen=True)
class PodServers:
    """Tokens and requests of all servers in pods. `fetch` returns a page's text; it is called in threads."""

    groups: Sequence[PodGroup]
    labels: PodLabelNames
    tenant_from: str
    every_ms: int
    fetch: Callable[[str], str]
    executor: Executor
    other_urls: Collection[str] = ()
    kind: str = "servers"
    name: str = "pods"
    _failures: dict[str, _PodFailures] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read all pods and return what they served since the checkpoint. Raises Unavailable without a list of pods."""
        before = msgspec.msgpack.decode(checkpoint, type=PodsCheckpoint) if checkpoint else None
        read = _PodsRead(dict(before.seen_ms) if before else {}, clock.wall_ms())
        targets = list(self._targets(read))
        known = before.pods if before else {}
        born_ms = dict(self._born(before, targets))
        due = [t for t in targets if self._is_due(t.key, clock.monotonic_ms())]
        pages = list(self.executor.map(lambda target: self._page(target, clock), due))
        snapshots = dict(known)
        for target, (page, t_ms) in zip(due, pages, strict=True):
            try:
                if isinstance(page, Exception):
                    raise page
                scrape = scrape_of(
                    target.group.counters, target.place, page, t_ms, started_ms=target.started_ms,
                    is_alone=target.is_alone,
                )  # fmt: skip
                served = served_since(
                    known.get(target.key), scrape, limit=target.group.limit, born_ms=born_ms.get(target.key)
                )
            except Exception as error:  # Of any class: one pod costs no other pod its tokens.
                self._fail(target.key, clock.monotonic_ms())
                if target.pod.is_ready:
                    read.refused.append(refusal(error, target.place))
                continue
            self._failures.pop(target.key, None)
            born_ms.pop(target.key, None)
            snapshots[target.key] = served.snapshot
            read.add(target, page, served)
            if (note := prefill_note(target.group.counters, page, scrape)) and target.group.name not in self._noted:
                self._noted.add(target.group.name)
                read.notes.append(f"{target.place}: {note}")
        kept = _kept(snapshots, {t.key for t in targets}, clock.wall_ms())
        after = PodsCheckpoint(clock.wall_ms(), kept, read.waiting_ms | born_ms, read.seen_ms)
        return read.result(msgspec.msgpack.encode(after), clock.wall_ms())

    def findings(self, clock: Clock) -> Iterator[Finding]:
        """Yield for each group the number of its pods, and why those that are ready cannot be read."""
        for group in self.groups:
            try:
                targets = list(replace(self, groups=(group,))._targets(_PodsRead({}, 0)))
            except WattlogError as error:
                yield group.name, error
                continue
            yield group.name, f"{len(targets)} pods: {', '.join(t.pod.place for t in targets[:5]) or 'none is running'}"
            for target in [t for t in targets if t.pod.is_ready][:20]:
                page, t_ms = self._page(target, clock)
                try:
                    if isinstance(page, Exception):
                        raise page
                    scrape_of(group.counters, target.place, page, t_ms)
                except WattlogError as error:
                    yield target.place, error

    def _targets(self, read: _PodsRead) -> Iterator[PodTarget]:
        """Yield each pod's page once. Set which groups' pods are known, and which pods wait to run.

        Raises Unavailable where no group's pods are known. One that fails costs the others nothing.
        """
        chosen: dict[str, PodTarget] = {}
        failures = 0
        for group in self.groups:
            try:
                view = group.view()
            except Unavailable as error:
                failures += 1
                if failures == len(self.groups):
                    raise
                read.refused.append(refusal(error, group.name))
                continue
            if view.is_current:
                read.seen_ms[group.name] = read.t_ms
            for pod in view.waiting:
                with suppress(BadInput):  # A port that it does not declare is named when it runs.
                    read.waiting_ms[_key(pod, pod.port(group.port))] = pod.created_ms or read.t_ms
            read.refused += [at_place(group.name, text) for text in view.refused]
            for pod in view.pods:
                try:
                    target = self._target(group, pod, is_current=view.is_current)
                except Exception as error:
                    read.refused.append(refusal(error, pod.place))
                    continue
                if target.url in self.other_urls or pod.is_stopped(target.port):
                    continue
                other = chosen.setdefault(target.url, target)
                if other.key != target.key:
                    read.refused.append(_shared_address(other, target))
                    chosen[target.url] = max(other, target, key=lambda one: one.pod.holds_address)
        yield from chosen.values()

    def _target(self, group: PodGroup, pod: ServingPod, *, is_current: bool) -> PodTarget:
        """Return a pod's page and workload. Raises BadInput for a pod whose port, workload or tenant is not known."""
        port = pod.port(group.port)
        device = PodDevice(pod.metadata.namespace, pod.metadata.name, "", "")
        holder, _ = holder_of(device, pod, self.labels, self.tenant_from)
        tenant = holder.tenant or group.tenant
        if not tenant:
            hint = f"say who pays: give it the label {self.labels.tenant}, or set `tenant`"
            raise BadInput("tenant", "", hint)
        ip = pod.status.pod_ip
        url = f"{group.scheme}://{f'[{ip}]' if ':' in ip else ip}:{port}{group.path}"
        serves = ServedWorkload(group.cluster, group.workload or holder.workload, tenant, group.count)
        started_ms = pod.started_ms(port) if is_current else None
        key = _key(pod, port)
        return PodTarget(key, url, pod, group, port, serves=serves, started_ms=started_ms, is_alone=is_current)

    @staticmethod
    def _born(before: PodsCheckpoint | None, targets: Sequence[PodTarget]) -> Iterator[tuple[str, int]]:
        """Yield the creation of each pod that was not read yet, and came to be while this source watched."""
        for target in targets:
            if before is None or target.key in before.pods:
                continue
            created_ms, seen_ms = target.pod.created_ms, before.seen_ms.get(target.group.name)
            if target.key in before.born_ms:
                yield target.key, before.born_ms[target.key]
            elif created_ms is not None and seen_ms is not None and created_ms >= seen_ms - CLOCK_MS:
                yield target.key, created_ms

    def _page(self, target: PodTarget, clock: Clock) -> tuple[PrometheusPage | Exception, int]:
        try:
            return parse_page(self.fetch(target.url)), clock.wall_ms()
        except Exception as error:
            return error, clock.wall_ms()

    def _is_due(self, key: str, now_ms: int) -> bool:
        return key not in self._failures or now_ms >= self._failures[key].next_ms

    def _fail(self, key: str, now_ms: int) -> None:
        failures = self._failures[key].failures + 1 if key in self._failures else 1
        pause_ms = min(self.every_ms * 2 ** min(failures - PATIENCE, 16), MAX_PAUSE_MS) if failures > PATIENCE else 0
        self._failures[key] = _PodFailures(failures, now_ms + pause_ms)
        if len(self._failures) > MAX_FAILURES:
            self._failures.pop(next(iter(self._failures)))


def _shared_address(one: PodTarget, other: PodTarget) -> ItemRefusal:
    name = max(one, other, key=lambda target: target.pod.holds_address).pod.place
    text = f"{one.pod.place} and {other.pod.place} have one address, {one.url}: only {name} is read"
    return ItemRefusal(text, "several_servers")


def _key(pod: ServingPod, port: int) -> str:
    return f"{pod.metadata.uid or pod.place}/{port}"


def _kept(
    snapshots: dict[str, ServerCounterSnapshot], present: Collection[str], t_ms: int
) -> dict[str, ServerCounterSnapshot]:
    """Return the snapshots to remember: of pods that are there, and for an hour of others, in case they return."""
    return {key: s for key, s in snapshots.items() if key in present or t_ms - s.t_ms < FORGET_MS}


class _PodsRead:
    """Rows and reports of one reading of all pods, at `t_ms`.

    `seen_ms` is when each group's pods were last known, `waiting_ms` the creation of each pod that waits to run.
    """

    def __init__(self, seen_ms: dict[str, int], t_ms: int) -> None:
        self.rows: dict[tuple[str, ServedWorkload, str], list[ServedRow]] = {}
        self.refused, self.restarts, self.notes = list[str](), list[str](), list[str]()
        self.seen_ms, self.t_ms, self.waiting_ms = seen_ms, t_ms, dict[str, int]()

    def add(self, target: PodTarget, page: PrometheusPage, served: ServedSince) -> None:
        """Add what a pod served."""
        rows = self.rows.setdefault((target.group.name, target.serves, target.group.counters.name), [])
        rows += served.rows
        self.restarts += [f"{target.place} {text}" for text in served.restarts]
        self.refused += [at_place(target.place, text) for text in (*page.refused, *served.refused)]
        self.notes += [f"{target.place}: {text}" for text in served.notes]

    def result(self, checkpoint: bytes, t_ms: int) -> PollResult:
        """Return all of it, with the rows of a group and workload as one batch."""
        batches: list[WorkloadBatch] = []
        for (group, serves, kind), rows in self.rows.items():
            node = f"{group} (compared)" if serves.count == "compare" else group
            batches += workload_batches(serves, rows, kind, node, t_ms)
        return PollResult(
            batches, checkpoint, refused=self.refused, restarts=self.restarts, notes=self.notes
        )  # fmt: skip
