"""Open windows of one log partition: energy by (workload, GPU), work by (workload, tenant, product).

Both are sums of integers, so neither order nor batching matters. A window is a dense array over interned entities.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import numpy as np

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.events import DIMENSIONS, TOKENS, Event, Method, signed
from contracts.histogram import HistogramCounts
from contracts.joined_batches import PowerColumns, TokenColumns
from streams.core.accumulators import WindowAccumulators, by_window
from streams.core.attribution.facts import AMOUNTS, NO_PRODUCT, Index, Product, Subject
from streams.core.latencies import WindowLatencies, latencies_of
from streams.core.request_labels import RequestLabels
from streams.core.request_pieces import ClosedRequests, RequestPieces, failed, spread_requests
from streams.core.time_spread import spread_intervals
from streams.core.window_snapshot import METHOD, GpuEnergy, TenantTokens, WindowSnapshot, merge_gpus

# An energy entity is (subject, node, gpu_uuid, hardware, owner), a token entity (subject, tenant, product).
_subject, _node, _uuid, _hardware, _owner = (itemgetter(i) for i in range(5))
_gpu = itemgetter(slice(3))
_tenant, _product = itemgetter(1), itemgetter(2)
_NO_DIMENSIONS = NO_PRODUCT[1:]


class OpenWindows:
    """Accumulated energy and work of windows that are not final; single requests only if `keep_requests`."""

    COMPACT_ABOVE = 16_384
    """Entities above which those without an open window are forgotten, when they may be half of all."""
    CACHE_MAX = 16_384
    """GPU dictionaries of messages whose entity ids are cached."""
    GRID_MAX = 4_096
    """Tenants times products of a message above which only the pairs that occur are interned."""

    def __init__(self, window_ms: int, *, keep_requests: bool = True, dimensions: Collection[str] = ()) -> None:
        self.window_ms, self.keep_requests = window_ms, keep_requests
        self._kept = [(1 + DIMENSIONS.index(name), name) for name in dimensions]
        """Dimensions that the ledger keeps, with their positions in a product."""
        self._energy = WindowAccumulators(5, greatest=(METHOD,))
        self._tokens = WindowAccumulators(len(AMOUNTS))
        self._latencies: dict[int, WindowLatencies] = {}
        self._pieces: dict[int, list[RequestPieces]] = {}
        self._piece_count = 0
        self._alive = 0
        """Entities that were left by the last `_compact`."""
        self._cache: dict[tuple[object, ...], Index] = {}
        self._payers_of: dict[tuple[Subject, Product], dict[str, int]] = {}
        """Ids of token entities by tenant, for each (subject, product)."""

    @property
    def rows(self) -> int:
        """Memory use, in rows: `max_open_rows` bounds it."""
        latencies = sum(of_window.rows for of_window in self._latencies.values())
        return self._energy.rows + self._tokens.rows + self._piece_count + latencies

    @property
    def gpus(self) -> Sequence[tuple[Any, ...]]:
        """Interned energy entities; some may belong to closed windows only, until they are forgotten."""
        return self._energy.keys

    @property
    def payers(self) -> Sequence[tuple[Any, ...]]:
        """Interned token entities; some may belong to closed windows only, until they are forgotten."""
        return self._tokens.keys

    def numbers(self) -> list[int]:
        """Return the numbers (start / window_ms) of windows that hold anything, ascending."""
        return sorted(self._energy.windows.keys() | self._tokens.windows.keys())

    def rows_in(self, number: int) -> int:
        """Return the rows of memory that closing this window frees."""
        sums = self._energy.windows.get(number), self._tokens.windows.get(number)
        pieces = self._pieces.get(number, ())
        columns: int = sum(s.shape[1] for s in sums if s is not None)
        return columns + sum(len(p.row) for p in pieces)

    def changed(self, before: int) -> list[int]:
        """Return the open windows numbered below `before` that changed since the last call."""
        changed = {n for sums in (self._energy, self._tokens) for n in sums.dirty if n < before}
        for sums in (self._energy, self._tokens):
            sums.dirty -= changed
        return sorted(changed)

    def add(
        self, events: Sequence[Event], columns: PowerColumns | TokenColumns | None, only: I64 | None = None
    ) -> None:
        """Add the rows of these events, which are `columns`. With `only`, add them to these window numbers only."""
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
        _assert_sums_kept(columns.energy_uj, parts[0])
        method = columns.method.astype(np.int64)
        if row is not None:
            entity, known, method = entity[row], known[row], method[row]
        if (corrected := method == Method.CORRECTION).any():  # Their time is that of other intervals.
            parts[1], parts[2] = (np.where(corrected, 0, part) for part in parts[1:])
            method = np.where(corrected, Method.ESTIMATED, method)
        values = [*parts, np.where(known, 0, parts[1]), method]  # Covered time of which the utilisation is unknown.
        if only is not None:
            at = np.flatnonzero(np.isin(window, only))
            window, entity, values = window[at], entity[at], [v[at] for v in values]
        self._energy.add(window, entity, values)

    def _add_tokens(self, columns: TokenColumns, subjects: Sequence[Subject], only: I64 | None) -> None:
        entity = self._payers(columns, subjects)
        row, window, amounts = spread_requests(columns, self.window_ms)
        _assert_sums_kept(signed(columns.tokens, columns.requests), amounts[: len(TOKENS)])
        kept = amounts.any(axis=0)
        if only is not None:
            kept &= np.isin(window, only)
        if not kept.all():
            row, window, amounts = row[kept], window[kept], amounts.compress(kept, axis=1)
        of_piece = entity[row]
        self._tokens.add(window, of_piece, list(amounts))
        self._add_latencies(columns, entity, only)
        if not self.keep_requests:
            return
        self._piece_count += len(row)
        labels = RequestLabels.of(columns)
        for number, at in by_window(window):
            pieces = RequestPieces(labels, row[at], of_piece[at], amounts[:, at])
            self._pieces.setdefault(number, []).append(pieces)

    def _add_latencies(self, columns: TokenColumns, entity: Index, only: I64 | None) -> None:
        single = columns.repeat([b.requests is None for b in columns.batches])
        row, window, code = latencies_of(columns, np.flatnonzero(single & ~failed(columns)), self.window_ms)
        if only is not None:
            kept = np.isin(window, only)
            row, window, code = row[kept], window[kept], code[kept]
        for number, at in by_window(window):
            self._latencies.setdefault(number, WindowLatencies()).add(entity[row[at]], code[at])

    def _gpus(self, subject: Subject, batch: Any) -> Index:
        """Return the energy entities of a batch, by its `gpu` index."""
        key = (subject, batch.node, batch.owner, batch.gpus_key) if batch.gpus_key else None
        ids = self._cache.get(key) if key else None
        if ids is None:
            ids = self._energy.ids((subject, batch.node, uuid, hardware, batch.owner) for uuid, hardware in batch.gpus)
            if key:
                if len(self._cache) >= self.CACHE_MAX:
                    self._cache.clear()
                self._cache[key] = ids
        return ids

    def _payers(self, columns: TokenColumns, subjects: Sequence[Subject]) -> Index:
        """Return each row's token entity.

        All pairs of a message's tenants and products are interned, or, where those are many, the pairs that occur.
        """
        products, product = self._products(columns)
        pair = columns.tenant.astype(np.intp) * columns.repeat([len(p) for p in products]) + product
        ids: list[int] = []
        sizes: list[int] = []
        for i, (subject, b) in enumerate(zip(subjects, columns.batches, strict=True)):
            if len(b.tenants) * len(products[i]) <= self.GRID_MAX and len(products[i]) <= len(b.models):
                pair_ids = self._grid(subject, b.tenants, products[i])
            else:
                rows = slice(int(columns.starts[i]), int(columns.starts[i] + columns.counts[i]))
                pairs, pair[rows] = np.unique(pair[rows], return_inverse=True)
                at = [divmod(p, len(products[i])) for p in pairs.tolist()]
                pair_ids = self._tokens.ids((subject, b.tenants[t], products[i][p]) for t, p in at).tolist()
            ids += pair_ids
            sizes.append(len(pair_ids))
        entity: Index = np.array(ids, np.intp)[columns.place(sizes, pair)]
        return entity

    def _products(self, columns: TokenColumns) -> tuple[list[list[Product]], Index]:
        """Return each batch's products, and each row's index into those of its batch.

        Where a batch has none of the dimensions that the ledger keeps, its products are its models.
        """
        products: list[list[Product]] = []
        product = columns.model.astype(np.intp)
        for i, b in enumerate(columns.batches):
            kept = [(at, getattr(b, name)) for at, name in self._kept]
            if not any(texts for _, texts in kept):
                products.append([(model, *_NO_DIMENSIONS) for model in b.models])
                continue
            rows = slice(int(columns.starts[i]), int(columns.starts[i] + columns.counts[i]))
            parts: list[Sequence[str]] = [[""] * len(b)] * len(NO_PRODUCT)
            parts[0] = [b.models[m] for m in columns.model[rows].tolist()]
            for at, texts in kept:
                parts[at] = texts or parts[at]
            of_row = DictionaryColumn.of(list(zip(*parts, strict=True)))
            products.append(list(of_row.names))
            product[rows] = of_row.codes
        return products, product

    def _grid(self, subject: Subject, tenants: Sequence[str], products: Sequence[Product]) -> list[int]:
        """Return the entities of all pairs, by tenant and then product.

        They are looked up by the tenant's name within (subject, product): every message has another dictionary, and
        hashing complete keys is expensive.
        """
        by_product = []
        for product in products:
            known = self._payers_of.setdefault((subject, product), {})
            try:
                ids = [known[tenant] for tenant in tenants]
            except KeyError:
                new = [tenant for tenant in tenants if tenant not in known]
                numbers = self._tokens.ids((subject, tenant, product) for tenant in new).tolist()
                known.update(zip(new, numbers, strict=True))
                ids = [known[tenant] for tenant in tenants]
            by_product.append(ids)
        return by_product[0] if len(by_product) == 1 else list(chain.from_iterable(zip(*by_product, strict=True)))

    def snapshot(self, numbers: Sequence[int], *, remove: bool) -> WindowSnapshot:
        """Return the contents of these windows. With `remove` they are closed, and forgotten here."""
        gpus = merge_gpus(self._gpus_of(*self._energy.take(numbers, remove=remove)))
        window, entity, amounts = self._tokens.take(numbers, remove=remove)
        subjects, tenants, products = (self._tokens.part(of) for of in (_subject, _tenant, _product))
        latencies = self._latencies_of(numbers, window, entity, remove=remove)
        payers = TenantTokens(
            window, subjects.take(entity), tenants.take(entity), products.take(entity), amounts, latencies
        )
        pieces = [(n, p) for n in numbers for p in (self._pieces.pop(n, []) if remove else ())]
        requests = ClosedRequests(pieces, self._token_rows(window, entity, pieces), subjects, tenants, products)
        snapshot = WindowSnapshot(self.window_ms, gpus, payers, requests)
        self._piece_count -= requests.rows
        # Twice what was alive last time, so that forgetting costs no more than what was added since.
        if remove and len(self.gpus) + len(self.payers) > max(self.COMPACT_ABOVE, 2 * self._alive):
            self._compact()
        return snapshot

    def _latencies_of(self, numbers: Sequence[int], window: I64, entity: Index, *, remove: bool) -> HistogramCounts:
        """Return the latencies of these windows, by row of the (window, entity) columns, which are sorted by window."""
        take = self._latencies.pop if remove else self._latencies.get
        row_of, parts = np.zeros(len(self.payers), np.intp), [HistogramCounts.none()]
        for number in numbers:
            if (of_window := take(number, None)) is not None:
                at = np.flatnonzero(window == number)
                row_of[entity[at]] = at
                counts = of_window.counts()
                parts.append(counts._replace(row=row_of[counts.row]))
        return HistogramCounts(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _token_rows(self, window: I64, entity: Index, pieces: Sequence[tuple[int, RequestPieces]]) -> Index:
        """Return the row of each piece's (window, entity) in these columns, which are sorted by window."""
        row_of = np.zeros(len(self.payers), np.intp)
        rows: list[Index] = []
        for number, some in groupby(pieces, itemgetter(0)):
            at = np.flatnonzero(window == number)
            row_of[entity[at]] = at
            rows += [row_of[p.entity] for _, p in some]
        return np.concatenate(rows) if rows else np.zeros(0, np.intp)

    def _gpus_of(self, window: I64, entity: Index, values: I64) -> GpuEnergy:
        gpu = self._energy.part(_gpu)
        subject, node, uuid, hardware, owner = (
            self._energy.part(of).take(entity) for of in (_subject, _node, _uuid, _hardware, _owner)
        )
        several = len(gpu.names) < len(self._energy.keys)
        return GpuEnergy(
            window=window,
            subject=subject,
            node=node,
            uuid=uuid,
            hardware=hardware,
            owner=owner,
            values=values,
            gpu=gpu.codes[entity] if several else None,
        )

    def _compact(self) -> None:
        self._energy.compact()
        new = self._tokens.compact()
        for pieces in self._pieces.values():
            for p in pieces:
                p.entity = new[p.entity]
        for of_window in self._latencies.values():
            of_window.rename(new)
        self._cache.clear()
        self._payers_of.clear()
        for number, (subject, tenant, product) in enumerate(self._tokens.keys):
            self._payers_of.setdefault((subject, product), {})[tenant] = number
        self._alive = len(self.gpus) + len(self.payers)


def _assert_sums_kept(amounts: I64, pieces: I64) -> None:
    """Raise LedgerError unless the pieces of amounts sum to them."""
    if pieces is not amounts and (amounts.sum(axis=-1) != pieces.sum(axis=-1)).any():
        raise LedgerError(
            f"windows lost a part: {amounts.sum(axis=-1)} uJ or tokens read, {pieces.sum(axis=-1)} in their windows"
        )


def _entity_of_row(columns: PowerColumns | TokenColumns, ids: Sequence[Index], index: Any) -> Index:
    """Return each row's entity: `index` points into the list of entities of the row's own batch."""
    entity: Index = np.concatenate(ids)[columns.place([len(i) for i in ids], index)]
    return entity
