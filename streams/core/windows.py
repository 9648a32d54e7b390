"""The open windows of one log partition: energy by (workload, GPU), work by (workload, tenant, model).

Both are sums of integers, so neither order nor batching matters. A window is a dense array over interned entities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.events import Event, PowerBatch, TokenBatch
from contracts.rows import Table
from contracts.units import I64
from streams.core.facts import AMOUNTS, Energy, Facts, Index, Tokens, codes
from streams.core.requests import RequestPieces, request_rows, spread_requests
from streams.core.spread import pieces, spread
from streams.core.sums import Sums, by_window

# Rows of an energy window's array; a token window's are streams.core.facts.AMOUNTS.
_ENERGY, _COVERED, _BUSY, _UNKNOWN, _METHOD = range(5)


class OpenWindows:
    """The state of one partition: what came in and is not final yet."""

    COMPACT_ABOVE = 65_536
    """Entities above which the dead ones are forgotten."""
    CACHE_MAX = 16_384
    """Dictionaries of events whose entities' numbers are remembered."""
    GRID_MAX = 4_096
    """Tenants times models of a dictionary, above which it is not interned whole."""

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
        return sorted(changed)

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
                row, window, amounts = spread_requests(batch, self.window_ms)
                at = amounts.any(axis=0) if only is None else amounts.any(axis=0) & np.isin(window, only)
                row, window, amounts = row[at], window[at], amounts[:, at]
                self._tokens.add(window, entity[row], amounts)
                for number, here in by_window(window):
                    self._pieces.setdefault(number, []).append(
                        RequestPieces(batch, event.cluster, event.workload, row[here], amounts[:, here])
                    )

    def _gpus(self, event: Event, batch: PowerBatch) -> Index:
        key = (event.cluster, event.workload, batch.node, batch.owner, batch.gpus_key)
        return self._once(
            key if batch.gpus_key else None,
            lambda: self._energy.ids(
                (event.cluster, event.workload, batch.node, uuid, hardware, batch.owner)
                for uuid, hardware in batch.gpus
            ),
        )

    def _payers(self, event: Event, batch: TokenBatch) -> Index:
        """Entities by row. Interned once per dictionary, as the grid of its tenants and models; where that would be
        large, only the pairs that occur are."""
        pair = batch.tenant.astype(np.intp) * len(batch.models) + batch.model
        if len(batch.tenants) * len(batch.models) > self.GRID_MAX:
            pairs, pair = np.unique(pair, return_inverse=True)
            at = [divmod(p, len(batch.models)) for p in pairs.tolist()]
            return self._tokens.ids((event.cluster, event.workload, batch.tenants[t], batch.models[m]) for t, m in at)[
                pair
            ]
        grid = self._once(
            (event.cluster, event.workload, batch.dict_key) if batch.dict_key else None,
            lambda: self._tokens.ids(
                (event.cluster, event.workload, tenant, model) for tenant in batch.tenants for model in batch.models
            ),
        )
        payers: Index = grid[pair]
        return payers

    def _once(self, key: tuple[str | bytes, ...] | None, ids: Callable[[], Index]) -> Index:
        """`ids()`, remembered under `key`."""
        if key is None:
            return ids()
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= self.CACHE_MAX:
                self._cache.clear()
            found = self._cache[key] = ids()
        return found

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
        self._energy.compact()
        self._tokens.compact()
        self._cache.clear()


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

    @property
    def rows(self) -> int:
        """Memory held, in rows."""
        return len(self._gpus[0]) + len(self._tokens[0]) + sum(len(p.row) for _, p in self._pieces)

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

    def requests(self) -> Table:
        """One row a request and window: see `request_rows`."""
        return request_rows(self._pieces, self.window_ms)
