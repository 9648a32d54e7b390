"""From one look at a server's counters to the next: what was served between them, as rows of tokens. Pure.

A counter that went back, or a server that says it started after the last look, began anew: then what it has counted is
what came since. Nothing that was counted before is lost, whatever restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from contracts import topics
from contracts.events import MAX_SPAN_MS, MAX_TOKENS, TokenBatch
from producers.runtime.event_sequence import heartbeat_batch
from producers.servers.provider import ServedTotals

MAX_LIFE_MS = 3_600_000
"""A request's life is believed up to an hour."""
NO_MODEL = "unknown"


class ServerCounterSnapshot(msgspec.Struct, frozen=True):
    """What was known at one look: when, since when the server runs (None if it does not say), and by model what of its
    counters has been told."""

    t_ms: int
    started_ms: int | None
    told: dict[str, ServedTotals]


class ServedRow(NamedTuple):
    model: str
    status: str
    t0_ms: int
    t1_ms: int
    served: ServedTotals


def served_since(
    before: ServerCounterSnapshot | None, t_ms: int, started_ms: int | None, now: Mapping[str, ServedTotals]
) -> tuple[ServerCounterSnapshot, list[ServedRow]]:
    """The next look, and a row for each model and status since the last. The first look only begins.

    What is cached is a subset of the prompts: a counter of it that runs ahead of theirs (a page is no snapshot) is told
    when they follow.
    """
    if before is None:
        return ServerCounterSnapshot(t_ms, started_ms, dict(now)), []
    restarted = started_ms is not None and before.started_ms is not None and started_ms > before.started_ms + 1_000
    told: dict[str, ServedTotals] = {}
    rows: list[ServedRow] = []
    for model in sorted(before.told.keys() | now.keys()):
        old, new = before.told.get(model, ServedTotals()), now.get(model)
        if new is None:  # Not on this page: a model that was unloaded, or not yet asked for after a restart.
            if not restarted:
                told[model] = old
            continue
        if restarted or any(n < o for n, o in zip(new, old, strict=True)):
            old = ServedTotals()
        delta = ServedTotals(*(n - o for n, o in zip(new, old, strict=True)))
        cached = min(delta.cached_tokens, delta.prompt_tokens)
        told[model] = new._replace(cached_tokens=old.cached_tokens + cached)
        rows += _rows(model or NO_MODEL, before.t_ms, t_ms, started_ms, delta._replace(cached_tokens=cached))
    return ServerCounterSnapshot(t_ms, started_ms, told), rows


def _rows(model: str, last_ms: int, t_ms: int, started_ms: int | None, delta: ServedTotals) -> list[ServedRow]:
    """What was served, and what failed. Where requests are counted as they finish, they began a mean life before."""
    done = delta.requests + delta.failures
    life_ms = min(delta.life_ms // done, MAX_LIFE_MS) if done else 0
    begin_ms = min(last_ms, t_ms) if started_ms is None else min(max(last_ms, started_ms), t_ms)
    t0_ms = max(begin_ms - life_ms, t_ms - MAX_SPAN_MS, 0)
    rows = []
    if delta.prompt_tokens or delta.completion_tokens or delta.requests:
        rows.append(ServedRow(model, "ok", t0_ms, t_ms, delta._replace(failures=0)))
    if delta.failures:
        rows.append(ServedRow(model, "error", t0_ms, t_ms, ServedTotals(requests=delta.failures)))
    return rows


def token_batch(rows: list[ServedRow], tenant: str, prefix: str, t_ms: int) -> TokenBatch:
    """Rows as a batch that is complete up to `t_ms`; without any, a heartbeat. What no row can hold is cut."""
    whole = [piece for row in rows for piece in _pieces(row)]
    if not whole:
        beat = heartbeat_batch(topics.TOKENS, t_ms)
        assert isinstance(beat, TokenBatch)
        return beat
    models, statuses = tuple(dict.fromkeys(r.model for r in whole)), tuple(dict.fromkeys(r.status for r in whole))

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([getattr(r.served, name) for r in whole], np.int64)

    return TokenBatch(
        (tenant,), np.zeros(len(whole), np.uint16), models,
        np.array([models.index(r.model) for r in whole], np.uint16),
        tuple(f"{prefix}-{r.t1_ms}-{i}" for i, r in enumerate(whole)),
        np.array([r.t0_ms for r in whole], np.int64), np.zeros(len(whole), np.int64),
        np.array([r.t1_ms for r in whole], np.int64), column("prompt_tokens"), column("cached_tokens"),
        column("completion_tokens"), statuses, np.array([statuses.index(r.status) for r in whole], np.uint16),
        t_ms=t_ms, requests=column("requests"),
    )  # fmt: skip


def _pieces(row: ServedRow) -> list[ServedRow]:
    """A row may hold 2^31-1 tokens of a kind: what a large server makes in hours without a look."""
    count = max(row.served[:5]) // MAX_TOKENS + 1
    if count == 1:
        return [row]
    cuts = [[v * (i + 1) // count - v * i // count for v in row.served] for i in range(count)]
    pieces = [ServedTotals(*cut) for cut in cuts]
    return [row._replace(served=p._replace(cached_tokens=min(p.cached_tokens, p.prompt_tokens))) for p in pieces]
