"""Polled source over an inference server's `/metrics` page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from producers.api import PollResult, TokenCounters, WorkloadBatch
from producers.common import prometheus_text
from producers.runtime.batching import usage_batch
from producers.runtime.clock import Clock
from producers.runtime.refusals import ItemRefusal
from producers.servers.counter_snapshots import ServedSince, ServerCounterSnapshot, served_since
from producers.servers.page_scrape import prefill_note, scrape_of
from producers.servers.served_rows import ServedRow, served_batch, usage_rows
from producers.servers.server_identity import SEVERAL_HINT
from producers.servers.token_limits import DEFAULT_LIMIT

CountAs = Literal["requests", "compare"]
"""What tokens become: requests in the ledger, or usage that is compared with requests of another source."""


@dataclass(frozen=True)
class ServedWorkload:
    """Workload that a server serves, and the tenant that pays where its page names none."""

    cluster: str
    workload: str
    tenant: str
    count: CountAs = "requests"


def workload_batches(
    serves: ServedWorkload, rows: Sequence[ServedRow], kind: str, node: str, t_ms: int, *, is_complete: bool = True
) -> list[WorkloadBatch]:
    """Return the rows of one server as batches; a heartbeat where there are none and none can follow."""
    if serves.count == "compare":
        usage = usage_rows(rows, serves.tenant, node)
        return [WorkloadBatch(serves.cluster, serves.workload, usage_batch(usage, t_ms), node)] if usage else []
    if not (rows or is_complete):
        return []
    return [WorkloadBatch(serves.cluster, serves.workload, served_batch(rows, serves.tenant, kind, t_ms), node)]


@dataclass(frozen=True)
class ServerSource:
    """Tokens and requests of one server. `fetch` returns the page's text, or raises Unavailable.

    `limit` is the most tokens per second that it can produce. `addresses` returns those that its name stands for.
    `models` are patterns of the models that count, () for all.
    """

    counters: TokenCounters
    name: str
    serves: ServedWorkload
    every_ms: int
    fetch: Callable[[], str]
    limit: int = DEFAULT_LIMIT
    addresses: Callable[[], Collection[str]] = tuple
    models: Sequence[str] = ()
    _noted: set[str] = field(default_factory=set)

    @property
    def kind(self) -> str:
        return self.counters.name

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read the page and return what was served since the checkpoint. Raises BadInput for another server's page."""
        before = msgspec.msgpack.decode(checkpoint, type=ServerCounterSnapshot) if checkpoint else None
        if len(addresses := self.addresses()) > 1:
            return self._refuse_addresses(sorted(addresses), clock.wall_ms())
        page = prometheus_text.parse_page(self.fetch())
        scrape = scrape_of(self.counters, self.name, page, clock.wall_ms(), models=self.models)
        served = served_since(before, scrape, limit=self.limit)
        note = prefill_note(self.counters, page, scrape)
        notes = [*served.notes, *([note] if note and note not in self._noted else [])]
        self._noted.add(note)
        return self._result(served, scrape.t_ms, [*page.refused, *served.refused], notes)

    def _result(
        self, served: ServedSince, t_ms: int, refused: Sequence[str], notes: Sequence[str]
    ) -> PollResult:  # fmt: skip
        batches = workload_batches(
            self.serves, served.rows, self.kind, self.name, t_ms, is_complete=served.is_complete
        )  # fmt: skip
        checkpoint = msgspec.msgpack.encode(served.snapshot)
        return PollResult(batches, checkpoint, refused=refused, notes=notes, restarts=served.restarts)

    def _refuse_addresses(self, addresses: Sequence[str], t_ms: int) -> PollResult:
        latest = ", ".join(addresses[:3])
        text = f"its name stands for {len(addresses)} addresses ({latest}): {SEVERAL_HINT}"
        snapshot = ServerCounterSnapshot(t_ms, None, several_ms=t_ms)
        served = ServedSince(snapshot, is_complete=False)
        return self._result(served, t_ms, [ItemRefusal(text, "several_servers")], ())
