"""Single requests: the work of each in every window that it ran in, and its share of that window's joules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from contracts.dictionary_column import CompactColumn, DictionaryColumn
from contracts.events import LABELS, TOKEN_COLUMNS, TOKENS, signed
from contracts.joined_batches import TokenColumns
from contracts.rows import KEYS, Table, length
from streams.core.attribution.attribute import Attribution, attribute_requests
from streams.core.attribution.facts import (
    AMOUNTS,
    CACHED,
    CACHED_M,
    COMPLETION,
    COMPLETION_M,
    COMPUTED_M,
    FAILURES,
    PROMPT,
    REQUEST_MS,
    REQUESTS,
    Index,
    Product,
    product_columns,
)  # fmt: skip
from streams.core.equal_runs import run_ends
from streams.core.request_labels import RequestLabels, TextColumn
from streams.core.time_spread import SpanCuts, window_pieces

_KEY = tuple(column for column in KEYS["request_energy"] if column != "late_id")
_WORK = AMOUNTS[:REQUESTS]
"""Columns of work: all amounts but the numbers of requests and failures."""
_WINDOW_MULTIPLIER = 0x9E3779B97F4A7C1
"""Odd 64-bit multiplier (Fibonacci hashing): a bijection that scatters neighbouring windows."""


@dataclass(slots=True)
class RequestPieces:
    """Requests of one window: their rows of `labels`, (workload, tenant, product) entities, and amounts of work.

    The accumulators were given the same amounts.
    """

    labels: RequestLabels
    row: Index
    entity: Index
    amounts: I64


@dataclass(frozen=True)
class ClosedRequests:
    """Request pieces of closed windows, by window number, with the names of their entities."""

    pieces: Sequence[tuple[int, RequestPieces]]
    token_row: Index
    """For each piece, the row of `Facts.tokens` that it is part of."""
    subjects: DictionaryColumn[tuple[str, str]]
    tenants: DictionaryColumn[str]
    products: DictionaryColumn[Product]

    @property
    def rows(self) -> int:
        return sum(len(p.row) for _, p in self.pieces)


def spread_requests(c: TokenColumns, window_ms: int) -> tuple[Index, I64, I64]:
    """Return (row, window, amounts (len(AMOUNTS), n)) of each request's pieces, in no particular order.

    Prompt work ran over [start, first), completion work over [first, end); both over [start, end) where the first
    token's time is unknown. Tokens are spread twice, as integers and in thousandths: the thousandths carry work into
    windows that get no integer token. A row that takes a request back has the pieces of the request, subtracted.
    """
    first = c.begin_ms // window_ms
    crosses = np.maximum(c.end_ms - 1, c.begin_ms) // window_ms > first
    uncut = np.flatnonzero(~crosses)
    amounts = np.empty((len(AMOUNTS), len(uncut)), np.int64)
    amounts[: len(TOKENS)] = c.tokens.take(uncut, axis=1)
    amounts[CACHED_M], amounts[COMPLETION_M] = 1000 * amounts[CACHED], 1000 * amounts[COMPLETION]
    amounts[COMPUTED_M] = 1000 * amounts[PROMPT] - amounts[CACHED_M]
    number = np.ones(len(first), np.int64) if c.requests is None else c.requests
    failures = failed(c) * number
    amounts[REQUEST_MS] = np.maximum(c.end_ms - c.begin_ms, 1)[uncut] * number[uncut]
    amounts[REQUESTS], amounts[FAILURES] = number[uncut], failures[uncut]
    row, window = uncut, first
    if len(uncut) < len(first):
        cut = np.flatnonzero(crosses)
        of_cut, window, parts = _cut(c, cut, number[cut], failures[cut], window_ms)
        row, window = np.concatenate([uncut, cut[of_cut]]), np.concatenate([first[uncut], window])
        amounts = np.concatenate([amounts, parts], axis=1)
    if c.requests is not None:  # The last three amounts are products with the number already.
        amounts[:REQUEST_MS] = signed(amounts[:REQUEST_MS], number[row])
    return row, window, amounts


def failed(c: TokenColumns) -> npt.NDArray[np.bool_]:
    """Return, by row, whether its requests failed: their status is not "ok"."""
    failure = np.array([s != "ok" for b in c.batches for s in b.statuses])
    of_row: npt.NDArray[np.bool_] = failure[c.place([len(b.statuses) for b in c.batches], c.status)]
    return of_row


def _cut(c: TokenColumns, cut: Index, number: I64, failed: I64, window_ms: int) -> tuple[Index, I64, I64]:
    """Return (index into cut, window, amounts) of the pieces of the rows `cut`, which run through several windows."""
    start, end, first = c.begin_ms[cut], c.end_ms[cut], c.first_ms[cut]
    tokens = c.tokens[:, cut]
    prompt, cached, completion = tokens[PROMPT], tokens[CACHED], tokens[COMPLETION]
    known = first > 0
    first_a, first_b = np.where(known, first, end), np.where(known, first, start)
    row, window = window_pieces(start, end, window_ms)
    prompting, completing = (
        SpanCuts.of(p0, p1, row, window, window_ms) for p0, p1 in ((start, first_a), (first_b, end))
    )
    amounts = np.empty((len(AMOUNTS), len(row)), np.int64)
    for i, column in enumerate(TOKEN_COLUMNS):
        if tokens[i].any():  # Most columns are optional, and few messages have any of them.
            amounts[i] = (prompting if column.phase == "prompt" else completing).spread(tokens[i])
        else:
            amounts[i] = 0
    amounts[COMPUTED_M] = prompting.spread((prompt - cached) * 1000)
    amounts[CACHED_M] = prompting.spread(cached * 1000)
    amounts[COMPLETION_M] = completing.spread(completion * 1000)
    from_ms, to_ms = np.maximum(start[row], window * window_ms), np.minimum(end[row], (window + 1) * window_ms)
    amounts[REQUEST_MS] = (to_ms - from_ms) * number[row]
    last = run_ends(row)
    amounts[REQUESTS], amounts[FAILURES] = last * number[row], last * failed[row]
    return row, window, amounts


def request_rows(closed: ClosedRequests, window_ms: int) -> tuple[Table, Index]:
    """Return one row per request and window, and for each the row of `Facts.tokens` that it is part of.

    The columns are those of REQUEST_ENERGY without energy, provenance and late_id.
    """
    pieces = [p for _, p in closed.pieces]
    sizes = np.array([len(p.row) for p in pieces], np.intp)
    window_start = np.repeat(np.array([n for n, _ in closed.pieces], np.int64) * window_ms, sizes)
    entity = _joined([p.entity for p in pieces])
    work = np.concatenate([p.amounts for p in pieces], axis=1) if pieces else np.zeros((len(AMOUNTS), 0), np.int64)
    subjects = closed.subjects.take(entity)
    rows: Table = {
        "tenant": closed.tenants.take(entity), "request_id": _texts(pieces, [p.labels.request_id for p in pieces]),
        "cluster": DictionaryColumn([c for c, _ in subjects.names], subjects.codes),
        "workload": DictionaryColumn([w for _, w in subjects.names], subjects.codes),
        "model": product_columns(closed.products.take(entity))["model"],
        **{name: _texts(pieces, [p.labels.texts[name] for p in pieces]) for name in LABELS},
        "status": DictionaryColumn.concat([p.labels.status.take(p.row) for p in pieces]), "window_start": window_start,
        "t_start": _joined([p.labels.begin_ms[p.row] for p in pieces]),
        "t_end": _joined([p.labels.end_ms[p.row] for p in pieces]),
        **dict(zip(_WORK, work[: len(_WORK)], strict=True)),
    }  # fmt: skip
    id_hash = _joined([p.labels.id_hash[p.row] for p in pieces])
    return (rows, closed.token_row) if _all_differ(id_hash, window_start) else _merge_keys(rows, closed.token_row)


def _joined(parts: Sequence[I64]) -> I64:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _texts(pieces: Sequence[RequestPieces], texts: Sequence[TextColumn | None]) -> CompactColumn[str]:
    """Return a text column of the pieces; a column without any value is the constant ""."""
    if all(t is None for t in texts):
        return DictionaryColumn.constant("", sum(len(p.row) for p in pieces))
    return TextColumn.concat(
        [TextColumn.of([""] * len(p.row)) if t is None else t.take(p.row) for t, p in zip(texts, pieces, strict=True)]
    )


def _merge_keys(rows: Table, token_row: Index) -> tuple[Table, Index]:
    """Merge requests with the same id, tenant, model and end into one row, so that none replaces another in the table.

    It gets the start, session, trace and status of the earliest, and the sum of their work: of an estimate, its row
    that takes it back and the report that replaces it, the report's.
    """
    n = length(rows)
    keys = list(zip(*(_listed(rows[c]) for c in _KEY), strict=True))
    if len(set(keys)) == n:
        return rows, token_row
    tie_breaks = list(zip(*(_listed(rows[c]) for c in ("t_start", *LABELS, "status")), strict=True))
    row_of: dict[object, int] = {}
    kept: list[int] = []
    into = np.zeros(n, np.intp)
    for i in sorted(range(n), key=lambda i: (keys[i], tie_breaks[i])):
        if keys[i] not in row_of:
            row_of[keys[i]] = len(kept)
            kept.append(i)
        into[i] = row_of[keys[i]]
    out: Table = {}
    at = np.array(kept, np.intp)
    for name, column in rows.items():
        if name in _WORK:
            total = np.zeros(len(kept), np.int64)
            np.add.at(total, into, np.asarray(column))
            out[name] = total
        elif isinstance(column, np.ndarray):
            out[name] = column[at]
        else:
            assert isinstance(column, CompactColumn)
            out[name] = column.take(at)
    return out, token_row[at]


def with_energy(rows: Table, attribution: Attribution, work_row: Index, *, complete: bool) -> Table:
    """Return request rows with their `active_uj` and `idle_uj`.

    They sum to their tenant's rows of the ledger if they are all the requests of their windows. Where requests may be
    missing (`complete` is False), the missing ones keep their share. `work_row` is, for each row, the index of the
    attribution's (window, workload, tenant, model) that it is part of.
    """
    if not length(rows):
        none = np.zeros(0, np.int64)
        return {**rows, "active_uj": none, "idle_uj": none}
    amounts = _work_amounts(rows)
    active_uj, idle_uj = attribute_requests(attribution, work_row, amounts, _canonical(rows), complete=complete)
    return {**rows, "active_uj": active_uj, "idle_uj": idle_uj}


def _work_amounts(rows: Table) -> I64:
    """Return the amounts that work is worked out from. What late rows correct of a request counts in its first row."""
    amounts = np.stack([np.asarray(rows[name], np.int64) for name in _WORK[COMPUTED_M : REQUEST_MS + 1]])
    late_id = np.asarray(rows.get("late_id", 0))
    if not ((amounts[REQUEST_MS - COMPUTED_M] <= 0) & (late_id > 0)).any():
        return np.maximum(amounts, 0)
    keys = list(zip(*(_listed(rows[c]) for c in _KEY), strict=True))
    first: dict[object, int] = {}
    for i in np.argsort(late_id, kind="stable").tolist():
        first.setdefault(keys[i], i)
    sums, into = np.zeros_like(amounts), np.array([first[key] for key in keys], np.intp)
    for total, amount in zip(sums, amounts, strict=True):
        np.add.at(total, into, amount)
    return np.maximum(sums, 0)


def _all_differ(id_hash: I64, window_start: I64) -> bool:
    """Return True if no window has an id twice, judged by hashes. On False, the ids themselves must be compared."""
    mixed = np.sort(id_hash ^ (window_start * _WINDOW_MULTIPLIER))
    return not (mixed[1:] == mixed[:-1]).any()


def _canonical(rows: Table) -> Callable[[Index], list[int]]:
    """Return the function that sorts request rows of a window canonically: by id, then times, late ones last."""
    columns = [rows[c] for c in ("request_id", "t_start", "t_end", "late_id") if c in rows]

    def order(at: Index) -> list[int]:
        keys = list(zip(*([column[i] for i in at] for column in columns), strict=True))
        return sorted(range(len(keys)), key=keys.__getitem__)

    return order


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)
