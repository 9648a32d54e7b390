"""Requests of the SIMULATED fleet, as columns: their tenants and times, and the load that they are."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from contracts.events import TokenBatch
from producers.simulation.fleet import CACHED_WHEN_HIT, F64, PREFILL_BATCH, SimulatedWorkload, lognormal_tokens

STATUSES = ("ok", "error", "timeout", "cancelled")
MAX_TOKENS = 32_768
_SESSIONS = 400
_FIXED_MS = 25.0
"""Time from a request's arrival to its prefill: queue, tokenizer, network."""


@dataclass(slots=True, frozen=True)
class SimulatedRequests:
    """Columns of one workload's requests, all of one length."""

    tenant: npt.NDArray[np.uint16]
    number: I64
    session: I64
    status: npt.NDArray[np.uint16]
    t_start_ms: I64
    t_first_ms: I64
    t_end_ms: I64
    prompt_tokens: I64
    cached_tokens: I64
    completion_tokens: I64

    def __len__(self) -> int:
        return len(self.t_start_ms)

    def where(self, rows: npt.NDArray[np.generic] | slice) -> SimulatedRequests:
        return SimulatedRequests(*(getattr(self, f.name)[rows] for f in fields(self)))

    def plus(self, later: SimulatedRequests) -> SimulatedRequests:
        return SimulatedRequests(
            *(np.concatenate((getattr(self, f.name), getattr(later, f.name))) for f in fields(self))
        )

    def demand(self, workload: SimulatedWorkload, edges_ms: I64) -> F64:
        """Return the mean demand between neighbouring edges, in H100s: tokens over what one H100 does at unit load."""
        model, edges = workload.model, edges_ms[:, None]
        computed = (self.prompt_tokens - self.cached_tokens) / model.prefill_tps
        tokens = _ramp(edges, self.t_start_ms, self.t_first_ms) @ computed
        tokens += _ramp(edges, self.t_first_ms, self.t_end_ms) @ (self.completion_tokens / model.decode_tps)
        rate: F64 = np.diff(tokens) / np.diff(edges_ms) * 1000
        return rate

    def batch(self, workload: SimulatedWorkload, prefix: str, t_ms: int) -> TokenBatch:
        """Return an event's batch that is complete up to `t_ms`."""
        names = [t.name for t, _ in workload.shares]
        sessions = zip(self.tenant.tolist(), self.session.tolist(), strict=True)
        return TokenBatch(
            tenants=tuple(names),
            tenant=self.tenant,
            models=(workload.model.name,),
            model=np.zeros(len(self), np.uint16),
            request_id=tuple(f"{prefix}-{n:06d}" for n in self.number.tolist()),
            t_start_ms=self.t_start_ms,
            t_first_ms=self.t_first_ms,
            t_end_ms=self.t_end_ms,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            statuses=STATUSES,
            status=self.status,
            session_id=tuple(f"{names[t]}-{s:04d}" if s >= 0 else "" for t, s in sessions),
            t_ms=t_ms,
        )


def arrivals(
    workload: SimulatedWorkload, start_ms: int, length_ms: int, rng: np.random.Generator, *, failed: float, first: int
) -> SimulatedRequests:
    """Return the requests that arrive in a stretch of time, numbered from `first` in order of arrival.

    Arrivals are a Poisson process whose rate follows each tenant's rhythm and a slow random burst.
    """
    middle = start_ms + length_ms // 2
    expected = [float(workload.requests_per_s(t, middle)) * length_ms / 1000 for t, _ in workload.shares]
    counts = rng.poisson(np.asarray(expected) * rng.lognormal(-0.02, 0.2, len(expected)))
    n = int(counts.sum())
    t_start = start_ms + rng.integers(0, length_ms, n)
    tenant = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    order = np.argsort(t_start, kind="stable")
    tenant, t_start = tenant[order], t_start[order]
    model, speed = workload.model, workload.capacity / len(workload.gpus)
    prompt = lognormal_tokens(model.prompt_tokens, 0.8, rng, n, MAX_TOKENS)
    hit = rng.random(n) < model.cached_ratio / CACHED_WHEN_HIT
    cached = np.where(hit, np.floor(prompt * rng.uniform(0.3, 0.9, n)), 0).astype(np.int64)
    completion = lognormal_tokens(model.completion_tokens, 0.7, rng, n, MAX_TOKENS)
    broken = rng.random(n) < failed
    status = np.where(broken, rng.integers(1, len(STATUSES), n), 0).astype(np.uint16)
    completion = np.where(broken, np.floor(completion * rng.random(n)), completion).astype(np.int64)
    prefill_ms = _FIXED_MS + (prompt - cached) / (model.prefill_tps * speed) * 1000 * PREFILL_BATCH
    decode_ms = completion * model.token_ms / np.sqrt(speed) * rng.lognormal(0, 0.1, n)
    t_first = t_start + np.rint(prefill_ms).astype(np.int64)
    keeps = np.asarray([t.sessions for t, _ in workload.shares], bool)
    session = np.where(keeps[tenant], rng.integers(0, _SESSIONS, n), -1)
    return SimulatedRequests(
        tenant=tenant,
        number=first + np.arange(n),
        session=session,
        status=status,
        t_start_ms=t_start,
        t_first_ms=t_first,
        t_end_ms=t_first + np.rint(decode_ms).astype(np.int64),
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
    )


def _ramp(edges_ms: I64, begin_ms: I64, end_ms: I64) -> F64:
    """Return the part (0 to 1) of `[begin, end)` that is before each edge. Edges are rows, requests are columns."""
    part: F64 = np.clip((edges_ms - begin_ms) / np.maximum(end_ms - begin_ms, 1), 0.0, 1.0)
    return part
