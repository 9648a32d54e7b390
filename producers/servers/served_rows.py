"""Rows of tokens and requests by model, tenant and status, and the batch that carries them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from contracts import topics
from contracts.events import MAX_SPAN_MS, MAX_TOKENS, TokenBatch
from producers.runtime.batching import UsageRow
from producers.runtime.event_sequence import heartbeat_batch
from producers.servers.token_counters import ServedTotals

MAX_LIFE_MS = 3_600_000
"""The longest mean duration of a request that is believed: an hour."""
NO_MODEL = "unknown"


class ServedRow(NamedTuple):
    """Tokens and requests of one model, tenant and status over `[t0_ms, t1_ms)`. Without a tenant the server's pays."""

    model: str
    status: str
    t0_ms: int
    t1_ms: int
    served: ServedTotals
    tenant: str = ""

    @property
    def size(self) -> int:
        """Tokens, or requests where those are more."""
        s = self.served
        return max(s.prompt_tokens + s.completion_tokens, s.requests + s.failures)


def rows_of(model: str, tenant: str, since_ms: int, t_ms: int, delta: ServedTotals) -> Iterator[ServedRow]:
    """Yield rows of what was served and what failed.

    Where a request's tokens are counted when it finishes, it began a mean duration before.
    """
    finished = delta.requests + delta.failures
    life_ms = min(delta.life_ms // finished, MAX_LIFE_MS) if finished else 0
    t0_ms = max(min(since_ms, t_ms) - life_ms, t_ms - MAX_SPAN_MS, 0)
    model = model or NO_MODEL
    if delta.prompt_tokens or delta.completion_tokens or delta.requests:
        yield ServedRow(model, "ok", t0_ms, t_ms, delta._replace(failures=0), tenant)
    if delta.failures:
        yield ServedRow(model, "error", t0_ms, t_ms, ServedTotals(requests=delta.failures), tenant)


def served_batch(rows: Sequence[ServedRow], tenant: str, prefix: str, t_ms: int) -> TokenBatch:
    """Return rows as a batch that is complete up to `t_ms`, or a heartbeat. Rows that are too large are cut.

    `tenant` pays for rows without one.
    """
    pieces = [piece for row in rows for piece in _pieces(row)]
    if not pieces:
        beat = heartbeat_batch(topics.TOKENS, t_ms)
        assert isinstance(beat, TokenBatch)
        return beat
    tenants = {name: n for n, name in enumerate(dict.fromkeys(r.tenant or tenant for r in pieces))}
    models = {name: n for n, name in enumerate(dict.fromkeys(r.model for r in pieces))}
    statuses = {name: n for n, name in enumerate(dict.fromkeys(r.status for r in pieces))}

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([getattr(r.served, name) for r in pieces], np.int64)

    return TokenBatch(
        tenants=tuple(tenants),
        tenant=np.array([tenants[r.tenant or tenant] for r in pieces], np.uint16),
        models=tuple(models),
        model=np.array([models[r.model] for r in pieces], np.uint16),
        request_id=tuple(f"{prefix}-{r.t1_ms}-{i}" for i, r in enumerate(pieces)),
        t_start_ms=np.array([r.t0_ms for r in pieces], np.int64),
        t_first_ms=np.zeros(len(pieces), np.int64),
        t_end_ms=np.array([r.t1_ms for r in pieces], np.int64),
        prompt_tokens=column("prompt_tokens"),
        cached_tokens=column("cached_tokens"),
        completion_tokens=column("completion_tokens"),
        statuses=tuple(statuses),
        status=np.array([statuses[r.status] for r in pieces], np.uint16),
        t_ms=t_ms,
        requests=column("requests"),
    )


def usage_rows(rows: Sequence[ServedRow], tenant: str, origin: str) -> list[UsageRow]:
    """Return rows as metered quantities, for comparison with requests that a gateway counts."""
    return [
        UsageRow(
            f"server_{meter}", "requests" if meter == "requests" else "tokens", str(quantity), r.t0_ms, r.t1_ms,
            tenant=r.tenant or tenant, origin=origin, event_id=f"{r.t1_ms}-{n}-{meter}",
            dimensions={"model": r.model, "status": r.status},
        )
        for n, r in enumerate(rows)
        for meter in ("prompt_tokens", "cached_tokens", "completion_tokens", "requests")
        if (quantity := getattr(r.served, meter))
    ]  # fmt: skip


def _pieces(row: ServedRow) -> list[ServedRow]:
    """Cut a row into rows of at most 2^31-1 tokens of a kind: a large server makes more in hours without a scrape."""
    s = row.served
    greatest = max(s.prompt_tokens, s.cached_tokens, s.completion_tokens, s.requests, s.failures)
    count = greatest // MAX_TOKENS + 1
    if count == 1:
        return [row]
    cuts = [[v * (i + 1) // count - v * i // count for v in row.served] for i in range(count)]
    pieces = [ServedTotals(*cut) for cut in cuts]
    return [row._replace(served=p._replace(cached_tokens=min(p.cached_tokens, p.prompt_tokens))) for p in pieces]
