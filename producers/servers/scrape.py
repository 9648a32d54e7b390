"""An inference server's `/metrics` as a source of a collector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from contracts.errors import BadInput
from producers.common import prometheus_text
from producers.runtime.clock import Clock
from producers.runtime.poll_loop import Collected, Made
from producers.servers import counters
from producers.servers.provider import InferenceMetricsProvider

STARTED = ("process_start_time_seconds",)


@dataclass(frozen=True)
class ServedWorkload:
    """Whose tokens a server's are: what it serves as, and who pays, for its page names no tenant."""

    cluster: str
    workload: str
    tenant: str


@dataclass(frozen=True)
class ServerSource:
    """See the module. `fetch` gives the page's text, or raises Unavailable."""

    provider: InferenceMetricsProvider
    name: str
    serves: ServedWorkload
    every_ms: int
    fetch: Callable[[], str]

    @property
    def kind(self) -> str:
        return self.provider.name

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises BadInput where the page is of no such server."""
        found = prometheus_text.parse_page(self.fetch())
        t_ms = clock.wall_ms()
        now = self.provider.served(found)
        if not now:
            raise BadInput(
                "page",
                self.name,
                f"has no counters of {self.provider.name}: is it that server, with metrics switched on?",
            )
        started = next((round(1000 * v) for n in STARTED if n in found for _, v in found[n]), None)
        before = msgspec.msgpack.decode(mark, type=counters.ServerCounterSnapshot) if mark else None
        look, rows = counters.served_since(before, t_ms, started, now)
        batch = counters.token_batch(rows, self.serves.tenant, self.kind, t_ms)
        made = Made(self.serves.cluster, self.serves.workload, batch, self.name)
        return Collected([made], msgspec.msgpack.encode(look))
