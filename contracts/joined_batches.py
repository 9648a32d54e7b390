"""Columns of many batches, end to end, so that the cost of a row is arithmetic on whole arrays.

`of` checks all rows at once. Its BadEvent does not say in which batch the row is; `check()` on each batch does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from contracts import checks
from contracts.columns import I64
from contracts.errors import BadEvent
from contracts.events import REQUEST_COLUMNS, TOKEN_COLUMNS, PowerBatch, TokenBatch

Index = npt.NDArray[np.intp]
_NAMES_KEPT = 65_536
_good_names: set[Hashable] = set()
"""Dictionaries, by their bytes, that passed their checks: a node sends the same ones with every message."""
_good_payers: dict[str, set[str]] = {"tenants": set(), "models": set(), "statuses": set()}
"""Names that passed their checks, one by one: the tenants of a workload differ from message to message."""


def _check_names(key: Hashable, batch: PowerBatch) -> None:
    if key not in _good_names:
        batch.check_names()
        if len(_good_names) >= _NAMES_KEPT:
            _good_names.clear()
        _good_names.add(key)


def _check_payers(batch: TokenBatch) -> None:
    dictionaries = batch.tenants, batch.models, batch.statuses
    new = [names for names, good in zip(dictionaries, _good_payers.values(), strict=True) if not good.issuperset(names)]
    if new or max(map(len, dictionaries)) > checks.MAX_ROWS:
        batch.check_names()
        for names, good in zip(dictionaries, _good_payers.values(), strict=True):
            if len(good) + len(names) > _NAMES_KEPT:
                good.clear()
            good.update(names)


@dataclass(slots=True, kw_only=True)
class BatchSpans:
    """Positions of each batch's rows in the joined columns. No batch is empty."""

    counts: Index
    starts: Index

    def repeat(self, of_batch: Sequence[int] | npt.NDArray[np.generic]) -> npt.NDArray[Any]:
        """Return a value of each batch, repeated for each of its rows."""
        return np.repeat(np.asarray(of_batch), self.counts)

    def place(self, sizes: Sequence[int], index: npt.NDArray[Any]) -> Index:
        """Return each row's `index` into its own batch's list as one into all lists, of these sizes, end to end."""
        ends = np.cumsum(np.array(sizes, np.intp))
        place: Index = self.repeat(ends - sizes) + index
        return place


def _gather(kind: Any, batches: Sequence[Any]) -> Any:
    """Return the joined rows. Batches of one body format join their raw columns, which is faster than one by one."""
    kinds = {type(b) for b in batches}
    try:
        return (kinds.pop() if len(kinds) == 1 else kind).gather(batches)
    except OverflowError as error:
        raise BadEvent("value", str(error), "give 64-bit integers") from None


@dataclass(slots=True, kw_only=True)
class PowerColumns(BatchSpans):
    """Columns of `PowerBatch`, all of length n. `gpu` indexes each row's own batch's `gpus`."""

    batches: Sequence[PowerBatch]
    gpu: npt.NDArray[np.uint16]
    begin_ms: I64
    end_ms: I64
    energy_uj: I64
    method: npt.NDArray[np.uint8]
    busy_ms: I64

    @classmethod
    def of(cls, batches: Sequence[PowerBatch]) -> Self:
        for b in batches:
            b.check_lengths()
            _check_names((b.node, b.owner, b.gpus_key or b.gpus), b)
        counts, rows = np.array([len(b) for b in batches], np.intp), _gather(PowerBatch, batches)
        new = cls(
            counts=counts,
            starts=np.cumsum(counts) - counts,
            batches=batches,
            gpu=rows.gpu,
            begin_ms=rows.t0_ms,
            end_ms=rows.t1_ms,
            energy_uj=rows.energy_uj,
            method=rows.method,
            busy_ms=rows.busy_ms,
        )
        checks.intervals(new.begin_ms, new.end_ms, new.energy_uj, new.method, new.busy_ms)
        checks.codes("gpu", new.gpu, new.repeat([len(b.gpus) for b in batches]), "gpus")
        return new


@dataclass(slots=True, kw_only=True)
class TokenColumns(BatchSpans):
    """Columns of `TokenBatch`, all of length n. `tenant`, `model`, `status` index each row's own batch's lists."""

    batches: Sequence[TokenBatch]
    request_id: list[str]
    tenant: npt.NDArray[np.uint16]
    model: npt.NDArray[np.uint16]
    status: npt.NDArray[np.uint16]
    begin_ms: I64
    first_ms: I64
    end_ms: I64
    tokens: I64
    """(len(TOKENS), n): the counts of tokens."""
    requests: I64 | None
    """None where each row is one request."""
    queue_ms: I64 | None
    """None where no row's is known."""

    @classmethod
    def of(cls, batches: Sequence[TokenBatch]) -> Self:
        for b in batches:
            b.check_lengths()
            _check_payers(b)
        counts, rows = np.array([len(b) for b in batches], np.intp), _gather(TokenBatch, batches)
        new = cls(
            counts=counts,
            starts=np.cumsum(counts) - counts,
            batches=batches,
            request_id=rows.texts["request_id"],
            tenant=rows.tenant,
            model=rows.model,
            status=rows.status,
            begin_ms=rows.t_start_ms,
            first_ms=rows.t_first_ms,
            end_ms=rows.t_end_ms,
            tokens=rows.tokens,
            requests=rows.requests,
            queue_ms=rows.queue_ms,
        )
        checks.texts(REQUEST_COLUMNS, rows.texts)
        checks.requests(new.begin_ms, new.first_ms, new.end_ms, new.requests, new.queue_ms)
        checks.tokens(TOKEN_COLUMNS, new.tokens)
        checks.codes("tenant", new.tenant, new.repeat([len(b.tenants) for b in batches]), "tenants")
        checks.codes("model", new.model, new.repeat([len(b.models) for b in batches]), "models")
        checks.codes("status", new.status, new.repeat([len(b.statuses) for b in batches]), "statuses")
        return new

    def texts(self, name: str) -> list[str] | None:
        """Return a text column by row, "" where a batch does not have it; None where no batch has it."""
        if name == "request_id":
            return self.request_id
        columns = [getattr(b, name) for b in self.batches]
        if not any(columns):
            return None
        return list(chain.from_iterable(c or [""] * n for c, n in zip(columns, self.counts.tolist(), strict=True)))
