"""The open windows of one log partition: energy by (workload, GPU), work by (workload, tenant, model).

Both are sums of integers, so neither order nor batching matters. A window is a dense array over interned entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.events import Event, PowerBatch, TokenBatch
from contracts.rows import Table
from contracts.units import I64
from streams.core.attribute import Energy, Facts, Tokens
from streams.core.spread import pieces, spread

Index = npt.NDArray[np.intp]

# Rows of an energy window's array, and of a token window's (streams.core.attribute: PROMPT ... FAILURES).
_ENERGY, _COVERED, _BUSY, _UNKNOWN, _METHOD = range(5)


class Sums:
    """Per window, per entity: `width` integers, added up (those in `greatest`: the maximum is kept)."""

    def __init__(self, width: int, greatest: tuple[int, ...] = ()) -> None:
        self._width = width
        self._greatest = greatest
        self._ids: dict[tuple[str, ...], int] = {}
        self.keys: list[tuple[str, ...]] = []
        self.windows: dict[int, I64] = {}
        self.dirty: set[int] = set()
        """Windows added to since somebody last cleared this."""

    def ids(self, keys: Iterable[tuple[str, ...]]) -> Index:
        """Entities' numbers, new ones interned. Stable until `compact`."""
        for key in (keys := list(keys)):
            if key not in self._ids:
                self._ids[key] = len(self.keys)
                self.keys.append(key)
        return np.array([self._ids[key] for key in keys], np.intp)

    def add(self, window: I64, entity: Index, values: I64) -> None:
        """Add columns `values` (width, n) to their windows and entities."""
        if not len(window):
            return
        for number in np.unique(window).tolist():
            at = window == number
            sums = self._window(number)
            self.dirty.add(number)
            for i, column in enumerate(values):
                put = np.maximum.at if i in self._greatest else np.add.at
                put(sums[i], entity[at], column[at])

    def _window(self, number: int) -> I64:
        sums = self.windows.get(number)
        if sums is None or sums.shape[1] < len(self.keys):
            grown: I64 = np.zeros((self._width, max(64, 1 << (len(self.keys) - 1).bit_length())), np.int64)
            if sums is not None:
                grown[:, : sums.shape[1]] = sums
            sums = self.windows[number] = grown
        return sums

    def take(self, numbers: Sequence[int], *, remove: bool) -> tuple[I64, Index, I64]:
        """(window number, entity, values) of all that is in these windows."""
        found = []
        for number in numbers:
            sums = self.windows.pop(number, None) if remove else self.windows.get(number)
            if sums is not None:
                entity = np.flatnonzero(sums.any(axis=0))
                found.append((np.full(len(entity), number, np.int64), entity, sums[:, entity]))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.intp), np.zeros((self._width, 0), np.int64)
        windows, entities, values = zip(*found, strict=True)
        return np.concatenate(windows), np.concatenate(entities), np.concatenate(values, axis=1)

    @property
    def rows(self) -> int:
        """Memory held, in rows of `width` integers."""
        return sum(sums.shape[1] for sums in self.windows.values())

    def compact(self) -> None:
        """Forget entities that no open window holds; ids given out before are void."""
        live = np.zeros(len(self.keys), np.bool_)
        for sums in self.windows.values():
            n = min(len(live), sums.shape[1])
            live[:n] |= sums[:, :n].any(axis=0)
        keep = np.flatnonzero(live)
        self.keys = [self.keys[i] for i in keep]
        self._ids = {key: i for i, key in enumerate(self.keys)}
        for number, sums in list(self.windows.items()):
            padded = np.zeros((self._width, len(live)), np.int64)
            padded[:, : min(sums.shape[1], len(live))] = sums[:, : len(live)]
            del self.windows[number]
            self._window(number)[:, : len(keep)] = padded[:, keep]


@dataclass(frozen=True)
class RequestPieces:
    """What requests of one event did in one window: rows of `batch`, and the same amounts that the sums got."""

    batch: TokenBatch
    cluster: str
    workload: str
    row: Index
    entity: Index
    amounts: I64


class OpenWindows:
    """The state of one partition: what came in and is not final yet."""

    COMPACT_ABOVE = 65_536
    """Entities above which the dead ones are forgotten."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._energy = Sums(5, greatest=(_METHOD,))
        self._tokens = Sums(8)
        self._pieces: dict[int, list[RequestPieces]] = {}
        self._cache: dict[tuple[str | bytes, ...], Index] = {}

    @property
    def rows(self) -> int:
        """Memory held, in rows: what a worker bounds."""
        return self._energy.rows + self._tokens.rows + sum(len(p.row) for ps in self._pieces.values() for p in ps)

    def numbers(self) -> list[int]:
        """Window numbers (start / window_ms) that hold anything, ascending."""
        return sorted(self._energy.windows.keys() | self._tokens.windows.keys())

    def changed(self, before: int) -> list[int]:
        """Open windows with numbers under `before` that changed since the last call."""
        changed = {n for sums in (self._energy, self._tokens) for n in sums.dirty if n < before}
        for sums in (self._energy, self._tokens):
            sums.dirty -= changed
        return sorted(changed & set(self.numbers()))

    def add_power(self, events: Sequence[Event], only: npt.NDArray[np.int64] | None = None) -> None:
        """Add intervals; `only` limits them to these window numbers."""
        batches = [(e, e.batch) for e in events if isinstance(e.batch, PowerBatch) and len(e.batch)]
        if not batches:
            return
        entity = np.concatenate([self._gpus(e, b)[b.gpu] for e, b in batches])
        t0, t1, energy_uj, busy_ms, method = (
            np.concatenate([getattr(b, name) for _, b in batches]).astype(np.int64, copy=False)
            for name in ("t0_ms", "t1_ms", "energy_uj", "busy_ms", "method")
        )
        row, window = pieces(t0, t1, self.window_ms)
        unknown = np.where(busy_ms < 0, t1 - t0, 0)
        amounts = (energy_uj, t1 - t0, np.maximum(busy_ms, 0), unknown)
        values = np.stack([*(spread(a, t0, t1, row, window, self.window_ms) for a in amounts), method[row]])
        if only is None:
            self._energy.add(window, entity[row], values)
        else:
            at = np.isin(window, only)
            self._energy.add(window[at], entity[row][at], values[:, at])

    def add_tokens(self, events: Sequence[Event], only: npt.NDArray[np.int64] | None = None) -> None:
        """Add requests; `only` limits them to these window numbers."""
        for event in events:
            batch = event.batch
            if isinstance(batch, TokenBatch) and len(batch):
                entity = self._payers(event, batch)
                row, window, amounts = _request_pieces(batch, self.window_ms)
                at = amounts.any(axis=0) if only is None else amounts.any(axis=0) & np.isin(window, only)
                row, window, amounts = row[at], window[at], amounts[:, at]
                self._tokens.add(window, entity[row], amounts)
                for number in np.unique(window).tolist():
                    here = window == number
                    self._pieces.setdefault(number, []).append(
                        RequestPieces(
                            batch, event.cluster, event.workload, row[here], entity[row[here]], amounts[:, here]
                        )
                    )

    def _gpus(self, event: Event, batch: PowerBatch) -> Index:
        key = (event.cluster, event.workload, batch.node, batch.owner, batch.gpus_key)
        ids = self._cache.get(key) if batch.gpus_key else None
        if ids is None:
            ids = self._cache[key] = self._energy.ids(
                (event.cluster, event.workload, batch.node, uuid, hardware, batch.owner)
                for uuid, hardware in batch.gpus
            )
        return ids

    def _payers(self, event: Event, batch: TokenBatch) -> Index:
        """Entities by row: interned once per dictionary, as the grid of its tenants and models."""
        key = (event.cluster, event.workload, batch.dict_key)
        grid = self._cache.get(key) if batch.dict_key else None
        if grid is None:
            grid = self._cache[key] = self._tokens.ids(
                (event.cluster, event.workload, tenant, model) for tenant in batch.tenants for model in batch.models
            )
        payers: Index = grid[batch.tenant.astype(np.intp) * len(batch.models) + batch.model]
        return payers

    def facts(self, numbers: Sequence[int], *, remove: bool) -> WindowFacts:
        """What these windows hold. With `remove` they are closed: the state forgets them."""
        energy = _merge_gpus(*self._energy.take(numbers, remove=remove), self._energy.keys)
        tokens = self._tokens.take(numbers, remove=remove)
        taken = [(n, p) for n in numbers for p in (self._pieces.pop(n, []) if remove else ())]
        facts = WindowFacts(self.window_ms, energy, tokens, list(self._tokens.keys), taken)
        if remove and len(self._energy.keys) + len(self._tokens.keys) > self.COMPACT_ABOVE:
            self._compact()
        return facts

    def _compact(self) -> None:
        before = self._tokens.keys
        self._energy.compact()
        self._tokens.compact()
        self._cache.clear()
        for number, chunks in self._pieces.items():
            self._pieces[number] = [
                RequestPieces(
                    p.batch, p.cluster, p.workload, p.row, self._tokens.ids(before[i] for i in p.entity), p.amounts
                )
                for p in chunks
            ]


def _request_pieces(b: TokenBatch, window_ms: int) -> tuple[Index, I64, I64]:
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
    last = np.r_[row[1:] != row[:-1], True] if len(row) else np.zeros(0, np.bool_)
    ok = np.array([s == "ok" for s in b.statuses])[b.status[row]]
    out += [last.astype(np.int64), (last & ~ok).astype(np.int64)]
    return row, window, np.stack(out)


_Gpus = tuple[I64, list[tuple[str, ...]], I64]


def _merge_gpus(window: I64, entity: Index, values: I64, keys: Sequence[tuple[str, ...]]) -> _Gpus:
    """(window, keys, values), one row a GPU: a GPU that came under two hardware names or owners takes the greater."""
    of_row = [keys[i] for i in entity]
    at = list(zip(window.tolist(), (k[:4] for k in of_row), strict=True))
    if len(set(at)) == len(at):
        return window, of_row, values
    merged: dict[object, int] = {}
    for i, key in enumerate(at):
        j = merged.setdefault(key, i)
        if i != j:
            values[:_METHOD, j] += values[:_METHOD, i]
            values[_METHOD, j] = max(values[_METHOD, j], values[_METHOD, i])
            of_row[j] = (*of_row[j][:4], max(of_row[j][4], of_row[i][4]), max(of_row[j][5], of_row[i][5]))
    keep = list(merged.values())
    return window[keep], [of_row[i] for i in keep], values[:, keep]


@dataclass(frozen=True)
class WindowFacts:
    """What some windows hold: as facts for attribution, and as rows for the warehouse."""

    window_ms: int
    _gpus: _Gpus
    _tokens: tuple[I64, Index, I64]
    _payers: Sequence[tuple[str, ...]]
    _pieces: Sequence[tuple[int, RequestPieces]]

    def for_attribution(self) -> Facts:
        window, gpus, values = self._gpus
        t_window, t_entity, amounts = self._tokens
        payers = [self._payers[i] for i in t_entity]
        subject, subjects = codes([k[:2] for k in gpus] + [k[:2] for k in payers])
        hardware, hardwares = codes([k[4] for k in gpus])
        owner, owners = codes([k[5] for k in gpus])
        tenant, tenants = codes([k[2] for k in payers])
        model, models = codes([k[3] for k in payers])
        n, ms = len(gpus), self.window_ms
        return Facts(
            subjects, hardwares, owners, tenants, models,
            Energy(window * ms, subject[:n], hardware, owner, values[_ENERGY], values[_COVERED], values[_METHOD]),
            Tokens(t_window * ms, subject[n:], tenant, model, amounts),
        )  # fmt: skip

    def gpu_energy(self) -> Table:
        """Columns of contracts.rows.GPU_ENERGY less provenance and late_id."""
        window, gpus, v = self._gpus
        text = {
            n: [k[i] for k in gpus]
            for i, n in enumerate(("cluster", "workload", "node", "gpu_uuid", "hardware", "owner"))
        }
        busy = np.where(v[_UNKNOWN] > 0, -1, v[_BUSY])
        return {
            "window_start": window * self.window_ms, **text,
            "method": v[_METHOD], "energy_uj": v[_ENERGY], "covered_ms": v[_COVERED], "busy_ms": busy,
        }  # fmt: skip

    def token_usage(self) -> Table:
        """Columns of contracts.rows.TOKEN_USAGE less provenance and late_id."""
        window, entity, amounts = self._tokens
        payers = [self._payers[i] for i in entity]
        text = {n: [k[i] for k in payers] for i, n in enumerate(("cluster", "workload", "tenant", "model"))}
        return {"window_start": window * self.window_ms, **text, **dict(zip(AMOUNTS, amounts, strict=True))}

    def requests(self) -> tuple[Table, Tokens, Index]:
        """One row a request and window: (columns of REQUEST_ENERGY less energy and provenance; the same rows for
        `attribute_requests`, in the codes of `for_attribution`; their canonical order)."""
        ms = self.window_ms
        text: dict[str, list[str]] = {n: [] for n in _REQUEST_TEXT}
        start, end, window, amounts = [], [], [], [np.zeros((8, 0), np.int64)]
        for number, p in self._pieces:
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
            window.append(np.full(len(rows), number * ms, np.int64))
            amounts.append(p.amounts)
        none = [np.zeros(0, np.int64)]
        done, window_start = np.concatenate(amounts, axis=1), np.concatenate(window or none)
        columns: Table = {
            **text, "window_start": window_start, "t_start": np.concatenate(start or none), "t_end": np.concatenate(end or none),
            **dict(zip(AMOUNTS[:6], done[:6], strict=True)),
        }  # fmt: skip
        return columns, request_tokens(self.for_attribution(), columns), request_order(columns)


AMOUNTS = (
    "prompt_tokens", "cached_tokens", "completion_tokens", "computed_mtok", "cached_mtok", "completion_mtok", "requests", "failures",
)  # fmt: skip
_REQUEST_TEXT = ("tenant", "request_id", "cluster", "workload", "model", "session_id", "trace_id", "status")


def request_tokens(facts: Facts, rows: Table) -> Tokens:
    """Rows of request_energy in the codes of `facts`."""
    subject_of = {s: i for i, s in enumerate(facts.subjects)}
    tenant_of = {t: i for i, t in enumerate(facts.tenants)}
    model_of = {m: i for i, m in enumerate(facts.models)}
    subjects = zip(rows["cluster"], rows["workload"], strict=True)
    amounts = np.zeros((8, len(rows["tenant"])), np.int64)
    for i, name in enumerate(AMOUNTS[:6]):
        amounts[i] = rows[name]
    return Tokens(
        np.asarray(rows["window_start"], np.int64),
        np.array([subject_of[s] for s in subjects], np.int64),
        np.array([tenant_of[t] for t in rows["tenant"]], np.int64),
        np.array([model_of[m] for m in rows["model"]], np.int64),
        amounts,
    )


def request_order(rows: Table) -> Index:
    """Canonical order of request rows: by request id, then times."""
    ids, start, end = rows["request_id"], rows["t_start"], rows["t_end"]
    return np.array(sorted(range(len(ids)), key=lambda i: (ids[i], start[i], end[i])), np.intp)


def codes(values: Iterable[Any]) -> tuple[I64, list[Any]]:
    """A column as (codes, names in order of appearance)."""
    seen: dict[object, int] = {}
    codes = np.array([seen.setdefault(v, len(seen)) for v in values], np.int64)
    return codes, list(seen)
