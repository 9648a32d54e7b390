"""A recording, replayed for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from contracts import codec
from contracts.events import Event, PowerBatch, TokenBatch
from producers.recordings.base import BadRow

Bytes = tuple[codec.Headers, bytes]


@dataclass
class Replayed:
    """All rows of a recording, summed by workload.

    Power rows are (gpu, t0, t1, energy_uj, method, busy_ms), token rows (request_id, tenant, t_start, t_first, t_end,
    prompt, cached, completion).
    """

    events: list[Event] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    energy_uj: Counter[str] = field(default_factory=Counter)
    prompt: Counter[str] = field(default_factory=Counter)
    completion: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    power_rows: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    token_rows: list[tuple[str, str, int, int, int, int, int, int]] = field(default_factory=list)


def replay(items: Iterable[Event | BadRow]) -> Replayed:
    """Replay a recording through the codec, as the log would carry it."""
    out = Replayed()
    for item in items:
        if isinstance(item, BadRow):
            out.bad.append(item)
            continue
        event = codec.decode(*codec.encode(item))
        out.events.append(event)
        batch = event.batch
        if isinstance(batch, PowerBatch):
            out.energy_uj[event.workload] += int(batch.energy_uj.sum())
            columns = (batch.t0_ms, batch.t1_ms, batch.energy_uj, batch.method, batch.busy_ms)
            rows = zip(*(c.tolist() for c in columns), strict=True)
            out.power_rows += [(batch.gpus[g][0], *row) for g, row in zip(batch.gpu.tolist(), rows, strict=True)]
        elif isinstance(batch, TokenBatch):
            out.requests[event.workload] += len(batch) if batch.requests is None else int(batch.requests.sum())
            out.prompt[event.workload] += int(batch.prompt_tokens.sum())
            out.completion[event.workload] += int(batch.completion_tokens.sum())
            times = (batch.t_start_ms, batch.t_first_ms, batch.t_end_ms)
            tokens = (batch.prompt_tokens, batch.cached_tokens, batch.completion_tokens)
            rows = zip(*(c.tolist() for c in (*times, *tokens)), strict=True)
            tenants = [batch.tenants[i] for i in batch.tenant.tolist()]
            out.token_rows += [(i, t, *row) for i, t, row in zip(batch.request_id, tenants, rows, strict=True)]
    return out


def wire(items: Iterable[Event | BadRow]) -> list[Bytes | BadRow]:
    """All messages of a recording, as on the log."""
    return [item if isinstance(item, BadRow) else codec.encode(item) for item in items]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def class_of(reason: str) -> str:
    """Return the class of the error that a refused row's reason names, or the reason's beginning."""
    return reason.removeprefix("cannot be read (").partition(":")[0].rstrip(")")
