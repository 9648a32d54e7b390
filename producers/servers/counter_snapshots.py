"""Difference of two snapshots of a server's counters, as rows of tokens. Pure.

A counter that went back, or a server that started after the last snapshot, began anew: its counts are what it served
since then. Nothing that was counted before is lost at a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from contracts import topics
from contracts.events import MAX_SPAN_MS, MAX_TOKENS, TokenBatch
from producers.runtime.event_sequence import heartbeat_batch
from producers.servers.token_counters import ServedTotals

MAX_LIFE_MS = 3_600_000
"""The longest mean duration of a request that is believed: an hour."""
NO_MODEL = "unknown"


class ServerCounterSnapshot(msgspec.Struct, frozen=True):
    """Counters of a server at one time. Stored as the source's checkpoint.

    `started_ms` is the server's start, None if it does not say. `reported` maps a model to the totals that rows were
    made of. `unread` are models whose counters could not be read at the first snapshot: they only begin later.
    """

    t_ms: int
    started_ms: int | None
    reported: dict[str, ServedTotals] = msgspec.field(name="told")  # the name in stored checkpoints
    unread: tuple[str, ...] = ()


class ServedRow(NamedTuple):
    """Tokens and requests of one model and status over `[t0_ms, t1_ms)`."""

    model: str
    status: str
    t0_ms: int
    t1_ms: int
    served: ServedTotals


def served_since(
    before: ServerCounterSnapshot | None, t_ms: int, started_ms: int | None, now: Mapping[str, ServedTotals | None]
) -> tuple[ServerCounterSnapshot, list[ServedRow]]:
    """Return the next snapshot, and a row for each model and status since the last one.

    The first snapshot only begins. A model whose counters cannot be read now (None) keeps its totals, and its next
    readable snapshot covers the time. Cached tokens are a subset of the prompt tokens: a cached counter that runs ahead
    (a page is no atomic snapshot) is reported when the prompts follow.
    """
    if before is None:
        unread = tuple(sorted(model for model, totals in now.items() if totals is None))
        readable = {model: totals for model, totals in now.items() if totals is not None}
        return ServerCounterSnapshot(t_ms, started_ms, readable, unread), []
    restarted = started_ms is not None and before.started_ms is not None and started_ms > before.started_ms + 1_000
    unread = () if restarted else tuple(model for model in before.unread if now.get(model) is None)
    reported: dict[str, ServedTotals] = {}
    rows: list[ServedRow] = []
    for model in sorted(before.reported.keys() | now.keys()):
        old, new = before.reported.get(model), now.get(model)
        if new is None:  # It cannot be read, was unloaded, or has served nothing since a restart.
            if not restarted and old is not None:
                reported[model] = old
            continue
        if old is None and model in before.unread and not restarted:
            reported[model] = new
            continue
        if old is None or restarted or any(n < o for n, o in zip(new, old, strict=True)):
            old = ServedTotals()
        delta = ServedTotals(*(n - o for n, o in zip(new, old, strict=True)))
        cached = min(delta.cached_tokens, delta.prompt_tokens)
        reported[model] = new._replace(cached_tokens=old.cached_tokens + cached)
        rows += _rows(model or NO_MODEL, before.t_ms, t_ms, started_ms, delta._replace(cached_tokens=cached))
    if started_ms is None:
        started_ms = before.started_ms
    return ServerCounterSnapshot(t_ms, started_ms, reported, unread), rows


def _rows(model: str, last_ms: int, t_ms: int, started_ms: int | None, delta: ServedTotals) -> list[ServedRow]:
    """Return rows of what was served and what failed.

    Where a request's tokens are counted when it finishes, it began a mean duration before.
    """
    finished = delta.requests + delta.failures
    life_ms = min(delta.life_ms // finished, MAX_LIFE_MS) if finished else 0
    begin_ms = min(last_ms, t_ms) if started_ms is None else min(max(last_ms, started_ms), t_ms)
    t0_ms = max(begin_ms - life_ms, t_ms - MAX_SPAN_MS, 0)
    rows = []
    if delta.prompt_tokens or delta.completion_tokens or delta.requests:
        rows.append(ServedRow(model, "ok", t0_ms, t_ms, delta._replace(failures=0)))
    if delta.failures:
        rows.append(ServedRow(model, "error", t0_ms, t_ms, ServedTotals(requests=delta.failures)))
    return rows


def served_batch(rows: list[ServedRow], tenant: str, prefix: str, t_ms: int) -> TokenBatch:
    """Return rows as a batch that is complete up to `t_ms`, or a heartbeat. Rows that are too large are cut."""
    pieces = [piece for row in rows for piece in _pieces(row)]
    if not pieces:
        beat = heartbeat_batch(topics.TOKENS, t_ms)
        assert isinstance(beat, TokenBatch)
        return beat
    models, statuses = tuple(dict.fromkeys(r.model for r in pieces)), tuple(dict.fromkeys(r.status for r in pieces))

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([getattr(r.served, name) for r in pieces], np.int64)

    return TokenBatch(
        tenants=(tenant,),
        tenant=np.zeros(len(pieces), np.uint16),
        models=models,
        model=np.array([models.index(r.model) for r in pieces], np.uint16),
        request_id=tuple(f"{prefix}-{r.t1_ms}-{i}" for i, r in enumerate(pieces)),
        t_start_ms=np.array([r.t0_ms for r in pieces], np.int64),
        t_first_ms=np.zeros(len(pieces), np.int64),
        t_end_ms=np.array([r.t1_ms for r in pieces], np.int64),
        prompt_tokens=column("prompt_tokens"),
        cached_tokens=column("cached_tokens"),
        completion_tokens=column("completion_tokens"),
        statuses=statuses,
        status=np.array([statuses.index(r.status) for r in pieces], np.uint16),
        t_ms=t_ms,
        requests=column("requests"),
    )


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
