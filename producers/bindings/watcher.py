"""Background reading of bindings, in a thread of its own, so that a source that hangs never delays a sample.

Sources are read in order, each for the GPUs that those before it left. A source that fails is believed as it answered
last, for `keep_ms`. After that its claims are unknown, so the GPUs that the sources before it left are unallocated
until it answers again: no source replaces one that fails. Only a source that is absent, and always was, is skipped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from producers.api import BindingSource
from producers.bindings.apportion import Binding, GpuShares, binding_weights
from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    SourceAbsent,
    board_of_device,
)
from producers.bindings.metrics import BindingMetrics
from producers.bindings.resolution import SharesByGpu, resolve_claims
from producers.runtime.refusals import RefusalReport, refusal

log = logging.getLogger(__name__)

EXIT_S = 2.0
"""Time that the exit waits for a reading; the thread is a daemon."""
MAX_LOGGED = 20
"""Warnings of one reading that are logged one by one."""


class BindingSnapshot(NamedTuple):
    """Shares of each GPU, warnings, and all GPUs, at a monotonic time."""

    shares: SharesByGpu
    warnings: Sequence[BindingWarning]
    gpus: Sequence[str]
    at_ms: int


@dataclass(slots=True)
class _SourceState:
    """A source and its last report."""

    source: BindingSource
    report: ClaimReport = field(default_factory=ClaimReport)
    read_ms: int | None = None
    is_failing: bool = False


class BindingReader:
    """Reads all sources once per call of `read`. Time is injected."""

    def __init__(
        self, list_boards: Callable[[], Boards], sources: Sequence[BindingSource], unallocated: Binding, *,
        keep_ms: int, metrics: BindingMetrics, refusals: RefusalReport,
    ) -> None:  # fmt: skip
        self._refusals = refusals
        self._list_boards, self._unallocated, self._keep_ms, self._metrics = list_boards, unallocated, keep_ms, metrics
        self._states = [_SourceState(source) for source in sources]
        self._boards: Boards = ()
        self._logged_warnings: set[BindingWarning] = set()
        self._logged_shares: SharesByGpu = {}

    def read(self, now_ms: int) -> BindingSnapshot:
        """Read the sources in order and return the snapshot. A source that fails is counted and logged."""
        try:
            self._boards = self._list_boards()
        except Exception as error:  # The boards of the last reading hold on.
            self._count_failure("topology", error, now_ms)
        free = {board.uuid for board in self._boards}
        boards_by_device = board_of_device(self._boards)
        claims: list[DeviceClaim] = []
        warnings: list[BindingWarning] = []
        for state in self._states:
            report = self._report(state, [board for board in self._boards if board.uuid in free], now_ms)
            if report is None:
                break
            accepted = [
                c for c in report.claims if c.device not in boards_by_device or boards_by_device[c.device] in free
            ]
            claims += accepted
            warnings += report.warnings
            free -= {boards_by_device[c.device] for c in accepted if c.device in boards_by_device}
        shares, conflicts = resolve_claims(self._boards, claims, self._unallocated)
        gpus = [board.uuid for board in self._boards]
        snapshot = BindingSnapshot(shares, list(dict.fromkeys([*warnings, *conflicts])), gpus, now_ms)
        self._log_changes(snapshot)
        self._metrics.update(snapshot.gpus, snapshot.shares, snapshot.warnings)
        return snapshot

    def _report(self, state: _SourceState, free: Boards, now_ms: int) -> ClaimReport | None:
        """Return a source's report on these boards, or its last one; None if that is older than `keep_ms`."""
        name = state.source.name
        try:
            state.report, state.read_ms = state.source.read(free, now_ms), now_ms
        except Exception as error:  # A fault of one source costs no other source its GPUs.
            was_failing, state.is_failing = state.is_failing, True
            if isinstance(error, SourceAbsent) and state.read_ms is None:
                self._metrics.failures.labels(name).inc()
                log.log(logging.DEBUG if was_failing else logging.WARNING, "bindings: %s is skipped: %s", name, error)
                return ClaimReport()
            self._count_failure(name, error, now_ms)
            if state.read_ms is None or now_ms - state.read_ms > self._keep_ms:
                return None
        else:
            self._refusals.add(name, state.report.refused, now_ms)
            if state.is_failing:
                log.warning("bindings: %s answers again", name)
            state.is_failing = False
        return state.report

    def _count_failure(self, name: str, error: Exception, now_ms: int) -> None:
        self._metrics.failures.labels(name).inc()
        self._refusals.add(name, [refusal(error, "bindings")], now_ms, outcome="tried again")
        log.debug("bindings: %s", name, exc_info=error)

    def _log_changes(self, snapshot: BindingSnapshot) -> None:
        """Log each change once."""
        warnings = set(snapshot.warnings)
        new = [warning for warning in snapshot.warnings if warning not in self._logged_warnings]
        for warning in new[:MAX_LOGGED]:
            log.warning("bindings: %s", warning.message)
        if len(new) > MAX_LOGGED:
            log.warning("bindings: %d more like these", len(new) - MAX_LOGGED)
        for warning in sorted(self._logged_warnings - warnings)[:MAX_LOGGED]:
            log.info("bindings: no longer so: %s", warning.message)
        self._logged_warnings = warnings
        for gpu in snapshot.gpus:
            if self._logged_shares.get(gpu) != snapshot.shares.get(gpu):
                log.info("bindings: %s: %s", gpu, describe_shares(snapshot.shares.get(gpu)))
        self._logged_shares = snapshot.shares


class BindingWatcher:
    """Current shares of each GPU. The agent calls it at every sample; a call never waits.

    It is a context manager, and its thread lives as long. `changed` is set when a GPU appears, and makes it read at
    once. A snapshot is good for `keep_ms`: if the thread itself hangs
    for longer, every GPU is unallocated.
    """

    def __init__(
        self, reader: BindingReader, monotonic_ms: Callable[[], int], *, every_ms: int, keep_ms: int,
        metrics: BindingMetrics, first_s: float = 5.0, changed: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self._reader, self._monotonic_ms, self._every_ms, self._keep_ms = reader, monotonic_ms, every_ms, keep_ms
        self._metrics, self._first_s = metrics, first_s
        self._snapshot = BindingSnapshot({}, (), (), monotonic_ms())
        self._first, self._stop, self._is_stale = threading.Event(), threading.Event(), False
        self._changed = changed or threading.Event()
        self._thread = threading.Thread(target=self._run, name="bindings", daemon=True)

    def __enter__(self) -> BindingWatcher:
        """Start the thread and wait up to `first_s` for its first snapshot, so that the first interval has a holder."""
        self._thread.start()
        if not self._first.wait(self._first_s):
            log.error("bindings: nothing is known after %g s; GPUs are unallocated until it is", self._first_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._changed.set()
        self._thread.join(EXIT_S)

    def __call__(self) -> SharesByGpu:
        """Return the shares of each GPU; none if the snapshot is too old."""
        snapshot = self._snapshot
        age_ms = self._monotonic_ms() - snapshot.at_ms
        self._metrics.age.set(age_ms / 1000)
        is_stale = age_ms > self._keep_ms + self._every_ms
        if is_stale != self._is_stale:
            self._is_stale = is_stale
            state = f"not read for {age_ms / 1000:.0f} s: all GPUs are unallocated" if is_stale else "read again"
            log.error("bindings: %s", state)
        if is_stale:
            self._metrics.update(snapshot.gpus, {}, snapshot.warnings)
            return {}
        return snapshot.shares

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            try:
                self._snapshot = self._reader.read(self._monotonic_ms())
            except Exception:  # A bug must not end the thread silently: the snapshot grows stale, which is logged.
                log.exception("bindings: a reading failed")
                self._metrics.failures.labels("look").inc()
            self._first.set()
            if not self._stop.is_set():
                self._changed.wait(self._every_ms / 1000)


def describe_shares(shares: GpuShares | None) -> str:
    """Return a sentence on the holders of a GPU and the reasons, for people."""
    if not shares:
        return "unallocated"
    weight_sum = sum(share.weight for share in shares)
    parts = []
    for share in shares:
        about = dict(share.about)
        weight = f" {share.weight}/{weight_sum}" if len(shares) > 1 else ""
        place = "/".join(about[k] for k in ("namespace", "pod", "container") if k in about)
        reason = ", ".join(filter(None, (about.get("source", ""), place, about.get("rule", ""))))
        payer = f", idle paid by {share.binding.owner}" if share.binding.owner else ""
        parts.append(f"{share.binding.workload}{weight} ({reason or 'unallocated'}{payer})")
    return ("shared: " if len(binding_weights(shares)) > 1 else "") + "; ".join(parts)
