"""Polled source over an inference server's `/metrics` page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from contracts.checks import MAX_TIME_MS
from contracts.errors import BadInput
from producers.api import PollResult, TokenCounters, WorkloadBatch
from producers.common import prometheus_text
from producers.runtime.clock import Clock
from producers.servers.counter_snapshots import ServerCounterSnapshot, served_batch, served_since

STARTED = "process_start_time_seconds"


@dataclass(frozen=True)
class ServedWorkload:
    """Workload that a server serves, and the tenant that pays: a metrics page names no tenant."""

    cluster: str
    workload: str
    tenant: str


@dataclass(frozen=True)
class ServerSource:
    """Tokens and requests of one server. `fetch` returns the page's text, or raises Unavailable."""

    counters: TokenCounters
    name: str
    serves: ServedWorkload
    every_ms: int
    fetch: Callable[[], str]

    @property
    def kind(self) -> str:
        return self.counters.name

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read the page and return what was served since the checkpoint. Raises BadInput for another server's page."""
        page = prometheus_text.parse_page(self.fetch())
        t_ms = clock.wall_ms()
        now = self.counters.served(page)
        if not now:
            raise BadInput(
                "page",
                self.name,
                f"has no counters of {self.counters.name}: is it that server, with metrics switched on?",
            )
        before = msgspec.msgpack.decode(checkpoint, type=ServerCounterSnapshot) if checkpoint else None
        snapshot, rows = served_since(before, t_ms, page.timestamp_ms(STARTED, MAX_TIME_MS), now)
        batch = served_batch(rows, self.serves.tenant, self.kind, t_ms)
        tokens = WorkloadBatch(self.serves.cluster, self.serves.workload, batch, self.name)
        return PollResult([tokens], msgspec.msgpack.encode(snapshot), refused=page.refused)
