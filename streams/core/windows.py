"""The open windows of one log partition: energy by (workload, GPU), work by (workload, tenant, model).

Both are sums of integers, so neither order nor batching matters. A window is a dense array over interned entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import numpy as np

from contracts.events import Event
from contracts.joined_batches import PowerColumns, TokenColumns
from contracts.units import I64
from streams.core.accumulators import WindowAccumulators, by_window
from streams.core.apportion import spread_intervals
from streams.core.attribution.facts import AMOUNTS, Index, Subject
from streams.core.request_labels import RequestLabels
from streams.core.request_pieces import ClosedRequests, RequestPieces, spread_requests
from streams.core.window_snapshot import METHOD, GpuEnergy, TenantTokens, WindowSnapshot, merge_gpus

# An energy entity is (subject, node, gpu_uuid, hardware, owner), a token entity (subject, tenant, model).
_subject, _node, _uuid, _hardware, _owner = (itemgetter(i) for i in range(5))
_gpu = itemgetter(slice(3))
_tenant, _model = itemgetter(1), itemgetter(2)


class OpenWindows:
    """The state of one partition: what came in and is not final yet. Single requests only if `keep_requests`."""

    COMPACT_ABOVE = 16_384
    """Entities above which the dead ones are forgotten, when they may be half of all."""
    CACHE_MAX = 16_384
    """Dictionaries of GPUs whose entities' numbers are remembered."""
    GRID_MAX = 4_096
    """Tenants times models of a dictionary, above which it is not interned whole."""

    def __init__(self, window_ms: int, *, keep_requests: bool = True) -> None:
        self.window_ms, self.keep_requests = window_ms, keep_requests
        self._energy = WindowAccumulators(5, greatest=(METHOD,))
        self._tokens = WindowAccumulators(len(AMOUNTS))
        self._pieces: dict[int, list[RequestPieces]] = {}
        self._piece_count = 0
        self._alive = 0
        """Entities that were left when the dead ones were last forgotten."""
        self._cache: dict[tuple[object, ...], Index] = {}
        self._payers_of: dict[tuple[Subject, str], dict[str, int]] = {}
        """Numbers of token entities by tenant, for each subject and model."""

    @property
    def rows(self) -> int:
        """Memory held, in rows: what a worker bounds."""
        return self._energy.rows + self._tokens.rows + self._piece_count

    @property
    def gpus(self) -> Sequence[tuple[Any, ...]]:
        """Energy entities that are known by number, those of closed windows among them until they are forgotten."""
        return self._energy.keys

    @property
    def payers(self) -> Sequence[tuple[Any, ...]]:
        """Token entities, likewise."""
        return self._tokens.keys

    def numbers(self) -> list[int]:
        """Window numbers (start / window_ms) that hold anything, ascending."""
        return sorted(self._energy.windows.keys() | self._tokens.windows.keys())

    def rows_in(self, number: int) -> int:
        """Rows that closing this window gives back."""
        sums = self._energy.windows.get(number), self._tokens.windows.get(number)
        pieces = self._pieces.get(number, ())
        columns: int = sum(s.shape[1] for s in sums if s is not None)
        return columns + sum(len(p.row) for p in pieces)

    def changed(self, before: int) -> list[int]:
        """Open windows with numbers under `before` that changed since the last call."""
        changed = {n for sums in (self._energy, self._tokens) for n in sums.dirty if n < before}
        for sums in (self._energy, self._tokens):
            sums.dirty -= changed
        return sorted(changed)

    def add(
        self, events: Sequence[Event], columns: PowerColumns | TokenColumns | None, only: I64 | None = None
    ) -> None:
        """Add the rows of these events, which are these columns; `only` limits them to these window numbers."""
        subjects = [(e.cluster, e.workload) for e in events]
        if isinstance(columns, PowerColumns):
            self._add_power(columns, subjects, only)
        elif isinstance(columns, TokenColumns):
            self._add_tokens(columns, subjects, only)

    def _add_power(self, columns: PowerColumns, subjects: Sequence[Subject], only: I64 | None) -> None:
        ids = [self._gpus(s, b) for s, b in zip(subjects, columns.batches, strict=True)]
        entity = _entity_of_row(columns, ids, columns.gpu)
        span = columns.end_ms - columns.begin_ms
        known = columns.busy_ms >= 0
        busy = columns.busy_ms if known.all() else np.where(known, columns.busy_ms, 0)
        row, window, parts = spread_intervals(
            (columns.energy_uj, span, busy), columns.begin_ms, columns.end_ms, self.window_ms
        )
        method = columns.method.astype(np.int64)
        if row is not None:
            entity, known, method = entity[row], known[row], method[row]
        values = [*parts, np.where(known, 0, parts[1]), method]  # Covered, but nobody knows how busy.
        if only is not None:
            at = np.flatnonzero(np.isin(window, only))
            window, entity, values = window[at], entity[at], [v[at] for v in values]
        self._energy.add(window, entity, values)

    def _add_tokens(self, columns: TokenColumns, subjects: Sequence[Subject], only: I64 | None) -> None:
        entity = self._payers(columns, subjects)
        row, window, amounts = spread_requests(columns, self.window_ms)
        does = amounts.any(axis=0)
        if only is not None:
            does &= np.isin(window, only)
        if not does.all():
            row, window, amounts = row[does], window[does], amounts.compress(does, axis=1)
        of_piece = entity[row]
        self._tokens.add(window, of_piece, list(amounts))
        if not self.keep_requests:
            return
        self._piece_count += len(row)
        said = RequestLabels.of(columns)
        for number, here in by_window(window):
            pieces = RequestPieces(said, row[here], of_piece[here], amounts[:, here])
            self._pieces.setdefault(number, []).append(pieces)

    def _gpus(self, subject: Subject, batch: Any) -> Index:
        """Entities by the batch's `gpu`."""
        key = (subject, batch.node, batch.owner, batch.gpus_key) if batch.gpus_key else None
        found = self._cache.get(key) if key else None
        if found is None:
            found = self._energy.ids(
                (subject, batch.node, uuid, hardware, batch.owner) for uuid, hardware in batch.gpus
            )
            if key:
                if len(self._cache) >= self.CACHE_MAX:
                    self._cache.clear()
                self._cache[key] = found
        return found

    def _payers(self, columns: TokenColumns, subjects: Sequence[Subject]) -> Index:
        """Entities by row: by place in the grid of its dictionary's tenants and models; where that would be large, only
        the pairs that occur are interned."""
        models = columns.repeat([len(b.models) for b in columns.batches])
        pair = columns.tenant.astype(np.intp) * models + columns.model
        ids: list[int] = []
        sizes: list[int] = []
        for i, (subject, b) in enumerate(zip(subjects, columns.batches, strict=True)):
            if len(b.tenants) * len(b.models) <= self.GRID_MAX:
                here = self._grid(subject, b.tenants, b.models)
            else:
                rows = slice(int(columns.starts[i]), int(columns.starts[i] + columns.counts[i]))
                pairs, pair[rows] = np.unique(pair[rows], return_inverse=True)
                at = [divmod(p, len(b.models)) for p in pairs.tolist()]
                here = self._tokens.ids((subject, b.tenants[t], b.models[m]) for t, m in at).tolist()
            ids += here
            sizes.append(len(here))
        entity: Index = np.array(ids, np.intp)[columns.place(sizes, pair)]
        return entity

    def _grid(self, subject: Subject, tenants: Sequence[str], models: Sequence[str]) -> list[int]:
        """Entities of all pairs, by tenant and then model. Looked up by the tenant's name alone, within its workload
        and model: a dictionary is another one in every message, and hashing whole keys is dear."""
        by_model = []
        for model in models:
            known = self._payers_of.setdefault((subject, model), {})
            try:
                ids = [known[tenant] for tenant in tenants]
            except KeyError:
                new = [tenant for tenant in tenants if tenant not in known]
                numbers = self._tokens.ids((subject, tenant, model) for tenant in new).tolist()
                known.update(zip(new, numbers, strict=True))
                ids = [known[tenant] for tenant in tenants]
            by_model.append(ids)
        return by_model[0] if len(by_model) == 1 else list(chain.from_iterable(zip(*by_model, strict=True)))

    def facts(self, numbers: Sequence[int], *, remove: bool) -> WindowSnapshot:
        """What these windows hold. With `remove` they are closed: the state forgets them."""
        gpus = merge_gpus(self._gpus_of(*self._energy.take(numbers, remove=remove)))
        window, entity, amounts = self._tokens.take(numbers, remove=remove)
        subjects, tenants, models = (self._tokens.part(of) for of in (_subject, _tenant, _model))
        payers = TenantTokens(window, subjects.take(entity), tenants.take(entity), models.take(entity), amounts)
        pieces = [(n, p) for n in numbers for p in (self._pieces.pop(n, []) if remove else ())]
        taken = ClosedRequests(pieces, self._payer_rows(window, entity, pieces), subjects, tenants, models)
        facts = WindowSnapshot(self.window_ms, gpus, payers, taken)
        self._piece_count -= taken.rows
        # Twice what was alive last time: so that forgetting costs no more than what has come since.
        if remove and len(self.gpus) + len(self.payers) > max(self.COMPACT_ABOVE, 2 * self._alive):
            self._compact()
        return facts

    def _payer_rows(self, window: I64, entity: Index, pieces: Sequence[tuple[int, RequestPieces]]) -> Index:
        """Where each piece's (window, entity) stands in these columns, which hold them all, window by window."""
        row_of = np.zeros(len(self.payers), np.intp)
        found: list[Index] = []
        for number, some in groupby(pieces, itemgetter(0)):
            here = np.flatnonzero(window == number)
            row_of[entity[here]] = here
            found += [row_of[p.entity] for _, p in some]
        return np.concatenate(found) if found else np.zeros(0, np.intp)

    def _gpus_of(self, window: I64, entity: Index, values: I64) -> GpuEnergy:
        gpu = self._energy.part(_gpu)
        subject, node, uuid, hardware, owner = (
            self._energy.part(of).take(entity) for of in (_subject, _node, _uuid, _hardware, _owner)
        )
        several = len(gpu.names) < len(self._energy.keys)
        return GpuEnergy(window, subject, node, uuid, hardware, owner, values, gpu.codes[entity] if several else None)

    def _compact(self) -> None:
        self._energy.compact()
        new = self._tokens.compact()
        for pieces in self._pieces.values():
            for p in pieces:
                p.entity = new[p.entity]
        self._cache.clear()
        self._payers_of.clear()
        for number, (subject, tenant, model) in enumerate(self._tokens.keys):
            self._payers_of.setdefault((subject, model), {})[tenant] = number
        self._alive = len(self.gpus) + len(self.payers)


def _entity_of_row(columns: PowerColumns | TokenColumns, ids: Sequence[Index], index: Any) -> Index:
    """Each row's entity: `index` into the list of entities of its own batch."""
    entity: Index = np.concatenate(ids)[columns.place([len(i) for i in ids], index)]
    return entity
