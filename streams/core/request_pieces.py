"""Single requests: what each did in each window that it ran in, and its share of that window's joules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.dictionary_column import CompactColumn, DictionaryColumn
from contracts.events import TOKEN_COLUMNS, TOKENS
from contracts.joined_batches import TokenColumns
from contracts.rows import KEYS, Column, Table, length
from contracts.units import I64
from streams.core.apportion import SpanCuts, ends, pieces
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
    REQUESTS,
    Facts,
    Index,
)  # fmt: skip
from streams.core.request_labels import RequestLabels, TextColumn

_KEY = tuple(column for column in KEYS["request_energy"] if column != "late_id")
_DONE = AMOUNTS[:REQUESTS]
_ODD = 0x9E3779B97F4A7C1
"""Times an odd number, no two windows are alike modulo 2^64, and near ones are far apart."""


@dataclass(slots=True)
class RequestPieces:
    """What some requests did in one window: rows of `said`, their (workload, tenant, model) entities, and the same
    amounts that the sums got."""

    said: RequestLabels
    row: Index
    entity: Index
    amounts: I64


@dataclass(frozen=True)
class ClosedRequests:
    """Pieces of closed windows, by window number, and what their entities stand for."""

    pieces: Sequence[tuple[int, RequestPieces]]
    payer: Index
    """Of each piece, the row of `Facts.tokens` that it is part of."""
    subjects: DictionaryColumn[tuple[str, str]]
    tenants: DictionaryColumn[str]
    models: DictionaryColumn[str]

    @property
    def rows(self) -> int:
        return sum(len(p.row) for _, p in self.pieces)


def spread_requests(c: TokenColumns, window_ms: int) -> tuple[Index, I64, I64]:
    """(row, window, amounts (len(AMOUNTS), n)) of each request's pieces; those of a row stand anywhere.

    Prompt work ran over [start, first), completion work over [first, end); both over [start, end) where the first
    token's time is unknown. Tokens are spread whole and in thousandths: the latter carry work into windows that get no
    whole token.
    """
    first = c.begin_ms // window_ms
    crosses = np.maximum(c.end_ms - 1, c.begin_ms) // window_ms > first
    rest = np.flatnonzero(~crosses)
    amounts = np.empty((len(AMOUNTS), len(rest)), np.int64)
    amounts[: len(TOKENS)] = c.tokens.take(rest, axis=1)
    amounts[CACHED_M], amounts[COMPLETION_M] = 1000 * amounts[CACHED], 1000 * amounts[COMPLETION]
    amounts[COMPUTED_M] = 1000 * amounts[PROMPT] - amounts[CACHED_M]
    number = np.ones(len(first), np.int64) if c.requests is None else c.requests
    failed = _failed(c) * number
    amounts[REQUESTS], amounts[FAILURES] = number[rest], failed[rest]
    if len(rest) == len(first):
        return rest, first, amounts
    cut = np.flatnonzero(crosses)
    row, window, parts = _cut(c, cut, number[cut], failed[cut], window_ms)
    return (
        np.concatenate([rest, cut[row]]), np.concatenate([first[rest], window]),
        np.concatenate([amounts, parts], axis=1),
    )  # fmt: skip


def _failed(c: TokenColumns) -> npt.NDArray[np.bool_]:
    failure = np.array([s != "ok" for b in c.batches for s in b.statuses])
    of_row: npt.NDArray[np.bool_] = failure[c.place([len(b.statuses) for b in c.batches], c.status)]
    return of_row


def _cut(c: TokenColumns, cut: Index, number: I64, failed: I64, window_ms: int) -> tuple[Index, I64, I64]:
    """Of the rows `cut`, which run through several windows: (index into cut, window, amounts) of their pieces."""
    start, end, first = c.begin_ms[cut], c.end_ms[cut], c.first_ms[cut]
    tokens = c.tokens[:, cut]
    prompt, cached, completion = tokens[PROMPT], tokens[CACHED], tokens[COMPLETION]
    known = first > 0
    first_a, first_b = np.where(known, first, end), np.where(known, first, start)
    row, window = pieces(start, end, window_ms)
    prompting, completing = (
        SpanCuts.of(p0, p1, row, window, window_ms) for p0, p1 in ((start, first_a), (first_b, end))
    )
    amounts = np.empty((len(AMOUNTS), len(row)), np.int64)
    for i, column in enumerate(TOKEN_COLUMNS):
        amounts[i] = (prompting if column.phase == "prompt" else completing).parts(tokens[i])
    amounts[COMPUTED_M] = prompting.parts((prompt - cached) * 1000)
    amounts[CACHED_M] = prompting.parts(cached * 1000)
    amounts[COMPLETION_M] = completing.parts(completion * 1000)
    last = ends(row)
    amounts[REQUESTS], amounts[FAILURES] = last * number[row], last * failed[row]
    return row, window, amounts


def request_rows(taken: ClosedRequests, window_ms: int) -> tuple[Table, Index]:
    """Pieces as one row a request and window: columns of REQUEST_ENERGY less energy, provenance and late_id. And the
    row of `Facts.tokens` that each is part of."""
    found = [p for _, p in taken.pieces]
    sizes = np.array([len(p.row) for p in found], np.intp)
    window_start = np.repeat(np.array([n for n, _ in taken.pieces], np.int64) * window_ms, sizes)
    entity = _joined([p.entity for p in found])
    done = np.concatenate([p.amounts for p in found], axis=1) if found else np.zeros((len(AMOUNTS), 0), np.int64)
    subjects = taken.subjects.take(entity)
    rows: Table = {
        "tenant": taken.tenants.take(entity), "request_id": _texts(found, [p.said.request_id for p in found]),
        "cluster": DictionaryColumn([c for c, _ in subjects.names], subjects.codes),
        "workload": DictionaryColumn([w for _, w in subjects.names], subjects.codes),
        "model": taken.models.take(entity),
        "session_id": _texts(found, [p.said.session_id for p in found]),
        "trace_id": _texts(found, [p.said.trace_id for p in found]),
        "status": DictionaryColumn.concat([p.said.status.take(p.row) for p in found]), "window_start": window_start,
        "t_start": _joined([p.said.begin_ms[p.row] for p in found]),
        "t_end": _joined([p.said.end_ms[p.row] for p in found]),
        **dict(zip(_DONE, done[: len(_DONE)], strict=True)),
    }  # fmt: skip
    id_hash = _joined([p.said.id_hash[p.row] for p in found])
    return (rows, taken.payer) if _differ(id_hash, window_start) else _one_a_key(rows, taken.payer)


def _joined(parts: Sequence[I64]) -> I64:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _texts(found: Sequence[RequestPieces], texts: Sequence[TextColumn | None]) -> CompactColumn[str]:
    """A text column of the pieces; one that nobody said anything in is constant."""
    if all(t is None for t in texts):
        return DictionaryColumn.constant("", sum(len(p.row) for p in found))
    return TextColumn.concat(
        [TextColumn.of([""] * len(p.row)) if t is None else t.take(p.row) for t, p in zip(texts, found, strict=True)]
    )


def _one_a_key(rows: Table, payer: Index) -> tuple[Table, Index]:
    """Requests that bear the same id, tenant, model and end become one row, so that none replaces another in the table.
    It bears the earliest's start, session, trace and status, and the sum of what they did."""
    n = length(rows)
    keys = list(zip(*(_listed(rows[c]) for c in _KEY), strict=True))
    if len(set(keys)) == n:
        return rows, payer
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
    at = np.array(stays, np.intp)
    for name, column in rows.items():
        if name in _DONE:
            total = np.zeros(len(stays), np.int64)
            np.add.at(total, into, np.asarray(column))
            out[name] = total
        elif isinstance(column, np.ndarray):
            out[name] = column[at]
        else:
            assert isinstance(column, CompactColumn)
            out[name] = column.take(at)
    return out, payer[at]


def with_energy(rows: Table, attribution: Attribution, done: Index, *, all_here: bool) -> Table:
    """Request rows with their `active_uj` and `idle_uj`: they sum to their tenant's rows of the ledger, if they are all
    the requests of their windows. If they may not be (`all_here` is false), the rest bears its share unseen.

    `done` says which of the attribution's (window, workload, tenant, model) each row is part of."""
    if not length(rows):
        none = np.zeros(0, np.int64)
        return {**rows, "active_uj": none, "idle_uj": none}
    amounts = np.stack([np.asarray(rows[name], np.int64) for name in _DONE[COMPUTED_M : COMPLETION_M + 1]])
    active_uj, idle_uj = attribute_requests(attribution, done, amounts, _canonical(rows), all_here=all_here)
    return {**rows, "active_uj": active_uj, "idle_uj": idle_uj}


def work_index_of(rows: Table, attribution: Attribution, facts: Facts) -> Index:
    """Of rows of request_energy, which of the attribution's (window, workload, tenant, model) each is part of."""
    keys = attribution.key_of
    group = keys.group(np.asarray(rows["window_start"], np.int64), _subject_codes(rows, facts.subjects))
    tenant, model = _codes(rows["tenant"], facts.tenants), _codes(rows["model"], facts.models)
    return np.searchsorted(attribution.done_key, keys.done(group, tenant, model))


def _codes(column: Column, names: Sequence[str]) -> I64:
    """A text column as codes into `names`, which holds them all."""
    code_of = {name: i for i, name in enumerate(names)}
    c = _coded(column)
    codes: I64 = np.array([code_of.get(name, -1) for name in c.names] or [-1], np.int64)[c.codes]
    return codes


def _subject_codes(rows: Table, subjects: Sequence[tuple[str, str]]) -> I64:
    clusters, workloads = (
        DictionaryColumn.concat([_coded(rows["cluster"])]),
        DictionaryColumn.concat([_coded(rows["workload"])]),
    )
    cluster_of = {name: i for i, name in enumerate(clusters.names)}
    workload_of = {name: i for i, name in enumerate(workloads.names)}
    code_of = np.full((len(cluster_of), len(workload_of)), -1, np.int64)
    for i, (cluster, workload) in enumerate(subjects):
        if cluster in cluster_of and workload in workload_of:
            code_of[cluster_of[cluster], workload_of[workload]] = i
    codes: I64 = code_of[clusters.codes, workloads.codes]
    return codes


def _coded(column: Column) -> DictionaryColumn[str]:
    return column if isinstance(column, DictionaryColumn) else DictionaryColumn.of(column)  # type: ignore[arg-type]


def _differ(id_hash: I64, window_start: I64) -> bool:
    """Whether no window has an id twice, for all that hashes say: where two are alike, the ids themselves must be
    asked."""
    mixed = np.sort(id_hash ^ (window_start * _ODD))
    return not (mixed[1:] == mixed[:-1]).any()


def _canonical(rows: Table) -> Callable[[Index], list[int]]:
    """What puts request rows of a window into canonical order: by id, then times, those in time before late ones."""
    columns = [rows[c] for c in ("request_id", "t_start", "t_end", "late_id") if c in rows]

    def order(at: Index) -> list[int]:
        keys = list(zip(*([column[i] for i in at] for column in columns), strict=True))
        return sorted(range(len(keys)), key=keys.__getitem__)

    return order


def _listed(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)
