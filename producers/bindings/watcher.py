"""Asks who holds which GPU every so often, in a thread of its own, so that nobody who hangs can hold up a sample.

Sources are asked in order, each for the GPUs that those before it left. One that does not answer is believed as it
spoke last, for `keep_ms`. After that it is not known what it would claim, so what the sources before it left is
nobody's until it answers again: those after it are asked for what it leaves, and not in its stead. Only one that is not
there at all, and never was, is passed over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.errors import WattlogError
from producers.api import BindingSource
from producers.bindings.apportion import Binding, GpuShares, binding_weights
from producers.bindings.assignment import resolve_claims
from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    SourceAbsent,
    board_of_device,
)
from producers.bindings.metrics import BindingMetrics

log = logging.getLogger(__name__)

EXIT_S = 2.0
"""How long the end waits for a look; the thread is a daemon."""
MAX_LOGGED = 20
"""Oddities of one look that are told one by one."""


class BindingSnapshot(NamedTuple):
    """What a look found: who holds which GPU, what is odd, and how many GPUs there are. `at_ms` is monotonic."""

    holdings: Mapping[str, GpuShares]
    oddities: Sequence[BindingWarning]
    gpus: Sequence[str]
    at_ms: int


@dataclass(slots=True)
class _SourceState:
    """A source, and what it said last."""

    source: BindingSource
    found: ClaimReport = field(default_factory=ClaimReport)
    read_ms: int | None = None
    failing: bool = False


class BindingReader:
    """One look after the other; time is handed in."""

    def __init__(
        self, topology: Callable[[], Boards], sources: Sequence[BindingSource], nobody: Binding, *, keep_ms: int,
        metrics: BindingMetrics,
    ) -> None:  # fmt: skip
        self._topology, self._nobody, self._keep_ms, self._metrics = topology, nobody, keep_ms, metrics
        self._asked = [_SourceState(source) for source in sources]
        self._boards: Boards = ()
        self._blind = False
        self._told: set[BindingWarning] = set()
        self._holders: Mapping[str, GpuShares] = {}

    def look(self, now_ms: int) -> BindingSnapshot:
        """Asks every source that is due. Never raises for one that does not answer: that is counted and told."""
        try:
            self._boards, self._blind = self._topology(), False
        except WattlogError as error:
            self._failed("topology", error, first=not self._blind)
            self._blind = True
        free = {b.uuid for b in self._boards}
        devices = board_of_device(self._boards)
        claims: list[DeviceClaim] = []
        odd: list[BindingWarning] = []
        for asked in self._asked:
            found = self._ask(asked, [b for b in self._boards if b.uuid in free], now_ms)
            if found is None:
                break
            mine = [c for c in found.claims if c.device not in devices or devices[c.device] in free]
            claims += mine
            odd += found.oddities
            free -= {devices[c.device] for c in mine if c.device in devices}
        holdings, odder = resolve_claims(self._boards, claims, self._nobody)
        seen = BindingSnapshot(holdings, list(dict.fromkeys([*odd, *odder])), [b.uuid for b in self._boards], now_ms)
        self._tell(seen)
        return seen

    def _ask(self, asked: _SourceState, free: Boards, now_ms: int) -> ClaimReport | None:
        """What a source says of these boards, or said last; None where that is too long ago."""
        name = asked.source.name
        try:
            asked.found, asked.read_ms = asked.source.read(free, now_ms), now_ms
        except WattlogError as error:
            self._failed(name, error, first=not asked.failing)
            asked.failing = True
            if isinstance(error, SourceAbsent) and asked.read_ms is None:
                return ClaimReport()
            if asked.read_ms is None or now_ms - asked.read_ms > self._keep_ms:
                return None
        else:
            if asked.failing:
                log.warning("bindings: %s answers again", name)
            asked.failing = False
        return asked.found

    def _failed(self, name: str, error: Exception, *, first: bool) -> None:
        self._metrics.failures.labels(name).inc()
        log.log(logging.ERROR if first else logging.DEBUG, "bindings: %s: %s", name, error)

    def _tell(self, seen: BindingSnapshot) -> None:
        """Each change once."""
        now = set(seen.oddities)
        new = [odd for odd in seen.oddities if odd not in self._told]
        for odd in new[:MAX_LOGGED]:
            log.warning("bindings: %s", odd.says)
        if len(new) > MAX_LOGGED:
            log.warning("bindings: %d more like these", len(new) - MAX_LOGGED)
        for odd in sorted(self._told - now)[:MAX_LOGGED]:
            log.info("bindings: no longer so: %s", odd.says)
        self._told = now
        for gpu in seen.gpus:
            if self._holders.get(gpu) != seen.holdings.get(gpu):
                log.info("bindings: %s: %s", gpu, describe_shares(seen.holdings.get(gpu)))
        self._holders = seen.holdings
        self._metrics.show(seen.gpus, seen.holdings, seen.oddities)


class BindingWatcher:
    """Who holds which GPU, as far as is known now: what an agent asks at every sample. Never waits.

    A context manager: the thread that looks lives as long. What it saw is good for `keep_ms`; if the thread itself
    hangs for longer, every GPU is nobody's.
    """

    def __init__(
        self, looker: BindingReader, monotonic_ms: Callable[[], int], *, every_ms: int, keep_ms: int,
        metrics: BindingMetrics, first_s: float = 5.0,
    ) -> None:  # fmt: skip
        self._looker, self._monotonic_ms, self._every_ms, self._keep_ms = looker, monotonic_ms, every_ms, keep_ms
        self._metrics, self._first_s = metrics, first_s
        self._seen = BindingSnapshot({}, (), (), monotonic_ms())
        self._first, self._stop, self._stale = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="bindings", daemon=True)

    def __enter__(self) -> BindingWatcher:
        """Begins to look, and waits a little for the first look, so that the first interval has its holder."""
        self._thread.start()
        if not self._first.wait(self._first_s):
            log.error("bindings: nothing is known after %g s; GPUs are nobody's until it is", self._first_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(EXIT_S)

    def __call__(self) -> Mapping[str, GpuShares]:
        seen = self._seen
        age_ms = self._monotonic_ms() - seen.at_ms
        self._metrics.age.set(age_ms / 1000)
        stale = age_ms > self._keep_ms + self._every_ms
        if stale != self._stale:
            self._stale = stale
            log.error("bindings: %s", f"not seen for {age_ms / 1000:.0f} s: nobody's" if stale else "seen again")
        if stale:
            self._metrics.show(seen.gpus, {}, seen.oddities)
            return {}
        return seen.holdings

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._seen = self._looker.look(self._monotonic_ms())
            # A fault of ours may not end the thread in silence: what was seen grows old, and that is told.
            except Exception:
                log.exception("bindings: a look failed")
                self._metrics.failures.labels("look").inc()
            self._first.set()
            self._stop.wait(self._every_ms / 1000)


def describe_shares(holding: GpuShares | None) -> str:
    """Who holds a GPU and why, for people."""
    if not holding:
        return "nobody holds it"
    whole = sum(share.weight for share in holding)
    said = []
    for share in holding:
        about = dict(share.about)
        part = f" {share.weight}/{whole}" if len(holding) > 1 else ""
        where = "/".join(about[k] for k in ("namespace", "pod", "container") if k in about)
        why = ", ".join(filter(None, (about.get("source", ""), where, about.get("rule", ""))))
        paid = f", idle paid by {share.binding.owner}" if share.binding.owner else ""
        said.append(f"{share.binding.workload}{part} ({why or 'nobody'}{paid})")
    return ("shared: " if len(binding_weights(holding)) > 1 else "") + "; ".join(said)
