"""Snapshot of some windows: input of the attribution, and rows for the warehouse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.histogram import HistogramCounts
from contracts.rows import Table
from streams.core.attribution.facts import AMOUNTS, Energy, Facts, Index, Product, Subject, Tokens, product_columns
from streams.core.attribution.grouping import rank
from streams.core.request_pieces import ClosedRequests, request_rows

ENERGY, COVERED, BUSY, UNKNOWN, METHOD = range(5)
"""Rows of an energy window's array; a token window's are streams.core.attribution.facts.AMOUNTS."""


@dataclass(frozen=True)
class GpuEnergy:
    """Energy by window and GPU; `values` are the rows of the window's array.

    `gpu` numbers the GPUs, or is None if no GPU occurs twice in a window.
    """

    window: I64
    subject: DictionaryColumn[Subject]
    node: DictionaryColumn[str]
    uuid: DictionaryColumn[str]
    hardware: DictionaryColumn[str]
    owner: DictionaryColumn[str]
    values: I64
    gpu: I64 | None


def merge_gpus(g: GpuEnergy) -> GpuEnergy:
    """Merge the rows of a GPU in a window into one. Of two hardware names or owners, the greater text stays."""
    if g.gpu is None:
        return g
    pairs = np.stack([g.window, g.gpu])
    _, at, inverse = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    if len(at) == len(g.window):
        return g
    inverse = inverse.reshape(-1)
    values = np.zeros((len(g.values), len(at)), np.int64)
    for i, column in enumerate(g.values):
        (np.maximum if i == METHOD else np.add).at(values[i], inverse, column)
    hardware, owner = (_greatest(column, inverse, len(at)) for column in (g.hardware, g.owner))
    return GpuEnergy(
        window=g.window[at],
        subject=g.subject.take(at),
        node=g.node.take(at),
        uuid=g.uuid.take(at),
        hardware=hardware,
        owner=owner,
        values=values,
        gpu=None,
    )


def _greatest(column: DictionaryColumn[str], group: Index, groups: int) -> DictionaryColumn[str]:
    """Return the greatest text of each group."""
    best = np.zeros(groups, np.int64)
    np.maximum.at(best, group, rank(column.names)[column.codes])
    return DictionaryColumn(sorted(column.names), best)


@dataclass(frozen=True)
class TenantTokens:
    """Tokens by window, workload, tenant and product; `amounts` as in streams.core.attribution.facts.Tokens."""

    window: I64
    subject: DictionaryColumn[Subject]
    tenant: DictionaryColumn[str]
    product: DictionaryColumn[Product]
    amounts: I64
    latencies: HistogramCounts


@dataclass(frozen=True)
class WindowSnapshot:
    """GPU energy, tenants' tokens and single requests of some windows."""

    window_ms: int
    _gpus: GpuEnergy
    _tokens: TenantTokens
    _requests: ClosedRequests

    @property
    def rows(self) -> int:
        """Memory use, in rows."""
        return len(self._gpus.window) + len(self._tokens.window) + self._requests.rows

    def for_attribution(self) -> Facts:
        """Return the input of `attribute`."""
        g, p, ms = self._gpus, self._tokens, self.window_ms
        subject = DictionaryColumn.concat([g.subject, p.subject])
        n, v = len(g.window), g.values
        return Facts(
            subjects=subject.names,
            hardwares=g.hardware.names,
            owners=g.owner.names,
            tenants=p.tenant.names,
            products=p.product.names,
            energy=Energy(
                window_start=g.window * ms,
                subject=subject.codes[:n],
                hardware=g.hardware.codes,
                owner=g.owner.codes,
                energy_uj=v[ENERGY],
                covered_ms=v[COVERED],
                method=v[METHOD],
            ),
            tokens=Tokens(p.window * ms, subject.codes[n:], p.tenant.codes, p.product.codes, p.amounts, p.latencies),
        )

    def gpu_energy(self) -> Table:
        """Return the columns of contracts.rows.GPU_ENERGY without provenance and late_id."""
        g, v = self._gpus, self._gpus.values
        return {
            "window_start": g.window * self.window_ms, **_names(g.subject), "node": g.node, "gpu_uuid": g.uuid,
            "hardware": g.hardware, "owner": g.owner, "method": v[METHOD], "energy_uj": v[ENERGY],
            "covered_ms": v[COVERED], "busy_ms": np.where(v[UNKNOWN] > 0, -1, v[BUSY]),
        }  # fmt: skip

    def token_usage(self) -> Table:
        """Return the columns of contracts.rows.TOKEN_USAGE without provenance and late_id."""
        p = self._tokens
        return {
            "window_start": p.window * self.window_ms, **_names(p.subject), "tenant": p.tenant,
            **product_columns(p.product),
            **dict(zip(AMOUNTS, p.amounts, strict=True)), **p.latencies.columns(len(p.window)),
        }  # fmt: skip

    def requests(self) -> tuple[Table, Index]:
        """Return one row per request and window, and the row of `for_attribution().tokens` that each is part of."""
        return request_rows(self._requests, self.window_ms)


def _names(subject: DictionaryColumn[Subject]) -> dict[str, DictionaryColumn[str]]:
    return {
        name: DictionaryColumn([s[i] for s in subject.names], subject.codes)
        for i, name in enumerate(("cluster", "workload"))
    }
