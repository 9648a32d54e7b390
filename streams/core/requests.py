"""Single requests: what each did in each window that it ran in, and its share of that window's joules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.events import TokenBatch
from contracts.rows import KEYS, Table, length
from contracts.units import I64
from streams.core.attribute import Attribution, attribute_requests
from streams.core.facts import AMOUNTS, Facts, Index, Tokens
from streams.core.spread import ends, pieces, spread

_TEXT = ("tenant", "request_id", "cluster", "workload", "model", "session_id", "trace_id", "status")
_KEY = tuple(column for column in KEYS["request_energy"] if column != "late_id")
_DONE = AMOUNTS[:6]


@dataclass(frozen=True)
class RequestPieces:
    """What requests of one event did in one window: rows of `batch`, and the same amounts that the sums got."""

    batch: TokenBatch
    cluster: str
    workload: str
    row: Index
    amounts: I64


def spread_requests(b: TokenBatch, window_ms: int) -> tuple[Index, I64, I64]:
    """(row, window, amounts (8, n)) of each request's pieces.

    Prompt work ran over [start, first), completion work over [first, end); both over [start, end) where the first
    token's time is unknown. Tokens are spread whole and in thousandths: the latter carry work into windows that get no
    whole token.
    """
    start, end = b.t_start_ms, b.t_end_ms
    known = b.t_first_ms > 0
    first_a, first_b = np.where(known, b.t_first_ms, end), np.where(known, b.t_first_ms, start)
    row, window = pieces(start, end, window_ms)
    computed = b.prompt_tokens - b.cached_tokens
    before = [b.prompt_tokens, b.cached_tokens]
    out = [spread(a, start, first_a, row, window, window_ms) for a in before]
    out.append(spread(b.completion_tokens, first_b, end, row, window, window_ms))
    out += [spread(a * 1000, start, first_a, row, window, window_ms) for a in (computed, b.cached_tokens)]
    out.append(spread(b.completion_tokens * 1000, first_b, end, row, window, window_ms))
    last = ends(row)
    ok = np.array([s == "ok" for s in b.statuses])[b.status[row]]
    out += [last.astype(np.int64), (last & ~ok).astype(np.int64)]
    return row, window, np.stack(out)


def request_rows(taken: Iterable[tuple[int, RequestPieces]], window_ms: int) -> Table:
    """Pieces, with their window numbers, as one row a request and window: columns of REQUEST_ENERGY less energy,
    provenance and late_id."""
    text: dict[str, list[str]] = {name: [] for name in _TEXT}
    start, end, window = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    amounts = [np.zeros((8, 0), np.int64)]
    for number, p in taken:
        b, rows = p.batch, p.row.tolist()
        text["request_id"] += [b.request_id[i] for i in rows]
        text["session_id"] += [b.session_id[i] for i in rows] if b.session_id else [""] * len(rows)
        text["trace_id"] += [b.trace_id[i] for i in rows] if b.trace_id else [""] * len(rows)
        text["status"] += [b.statuses[i] for i in b.status[p.row]]
        text["tenant"] += [b.tenants[i] for i in b.tenant[p.row]]
        text["model"] += [b.models[i] for i in b.model[p.row]]
        text["cluster"] += [p.cluster] * len(rows)
        text["workload"] += [p.workload] * len(rows)
        start.append(b.t_start_ms[p.row])
        end.append(b.t_end_ms[p.row])
        window.append(np.full(len(rows), number * window_ms, np.int64))
        amounts.append(p.amounts)
    done = np.concatenate(amounts, axis=1)
    rows_: Table = {
        **text, "window_start": np.concatenate(window), "t_start": np.concatenate(start), "t_end": np.concatenate(end),
        **dict(zip(_DONE, done[: len(_DONE)], strict=True)),
    }  # fmt: skip
    return _one_a_key(rows_)


def _one_a_key(rows: Table) -> Table:
    """Requests that bear the same id, tenant, model and end become one row, so that none replaces another in the table.
    It bears the earliest's start, session, trace and status, and the sum of what they did."""
    n = length(rows)
    keys = list(zip(*(_listed(rows[c]) for c in _KEY), strict=True))
    if len(set(keys)) == n:
        return rows
    rest = list(zip(*(_listed(rows[c]) for c in ("t_start", "session_id", "trace_id", "status")), strict=True))
    row_of: dict[object, int] = {}
    stays: list[int] = []
    into = np.zeros(n, np.intp)
    for i in sorted(range(n), key=lambda i: (keys[i], rest[i])):
        if keys[i] not in row_of:
            row_of[keys[i]] = len(stays)
            stays.append(i)
        into[i] = row_of[keys[i]]
    out: Table = {}
    for name, column in rows.items():
        if name in _DONE:
            total = np.zeros(len(stays), np.int64)
            np.add.at(total, into, np.asarray(column))
            out[name] = total
        else:
            out[name] = column[np.array(stays)] if isinstance(column, np.ndarray) else [column[i] for i in stays]
    return out


def with_energy(rows: Table, attribution: Attribution, facts: Facts) -> Table:
    """Request rows with their `active_uj` and `idle_uj`: they sum to their tenant's rows of the ledger."""
    active_uj, idle_uj = attribute_requests(attribution, _tokens(facts, rows), _order(rows))
    return {**rows, "active_uj": active_uj, "idle_uj": idle_uj}


def _tokens(facts: Facts, rows: Table) -> Tokens:
    """Rows of request_energy in the codes of `facts`."""
    subject_of = {s: i for i, s in enumerate(facts.subjects)}
    tenant_of = {t: i for i, t in enumerate(facts.tenants)}
    model_of = {m: i for i, m in enumerate(facts.models)}
    subjects = zip(rows["cluster"], rows["workload"], strict=True)
    amounts = np.zeros((8, length(rows)), np.int64)
    for i, name in enumerate(_DONE):
        amounts[i] = rows[name]
    return Tokens(
        np.asarray(rows["window_start"], np.int64),
        np.array([subject_of[s] for s in subjects], np.int64),
        np.array([tenant_of[t] for t in rows["tenant"]], np.int64),
        np.array([model_of[m] for m in rows["model"]], np.int64),
        amounts,
    )


def _order(rows: Table) -> Index:
    """Canonical order of request rows: by id, then times, those in time before late ones."""
    late = _listed(rows["late_id"]) if "late_id" in rows else [0] * length(rows)
    by = list(zip(rows["request_id"], _listed(rows["t_start"]), _listed(rows["t_end"]), late, strict=True))
    return np.array(sorted(range(len(by)), key=by.__getitem__), np.intp)


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)
