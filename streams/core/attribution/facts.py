"""Input of the attribution: energy and tokens as columns, with texts as codes into lists of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.events import DIMENSIONS, TOKENS
from contracts.histogram import HistogramCounts
from contracts.rows import Table

Index = npt.NDArray[np.intp]
Subject = tuple[str, str]
"""(cluster, workload)."""
Product = tuple[str, ...]
"""(model, *dimensions): a model, and by `contracts.events.DIMENSIONS` what it was used for.

A dimension is "" where it is unknown, or where the ledger does not keep it."""
NO_PRODUCT: Product = ("",) * (1 + len(DIMENSIONS))

WORK_AMOUNTS = ("computed_mtok", "cached_mtok", "completion_mtok", "request_ms")
"""What work is worked out from, in thousandths of a token or of a request-second, in the order of the weights."""
AMOUNTS = (*TOKENS, *WORK_AMOUNTS, "requests", "failures")
"""The rows of `Tokens.amounts`: columns of contracts.rows.TOKEN_USAGE, all but the last two also of REQUEST_ENERGY."""
PROMPT, CACHED, COMPLETION = map(AMOUNTS.index, ("prompt_tokens", "cached_tokens", "completion_tokens"))
COMPUTED_M, CACHED_M, COMPLETION_M, REQUEST_MS = map(AMOUNTS.index, WORK_AMOUNTS)
REQUESTS, FAILURES = AMOUNTS.index("requests"), AMOUNTS.index("failures")


def _empty() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Energy:
    """Measured energy, one row per GPU and window (or any finer rows). Text columns are codes into `Facts`' names."""

    window_start: I64 = field(default_factory=_empty)
    subject: I64 = field(default_factory=_empty)
    hardware: I64 = field(default_factory=_empty)
    owner: I64 = field(default_factory=_empty)
    energy_uj: I64 = field(default_factory=_empty)
    covered_ms: I64 = field(default_factory=_empty)
    method: I64 = field(default_factory=_empty)


@dataclass(frozen=True)
class Tokens:
    """Work of tenants, one row per tenant, product and window (or any finer rows).

    `amounts` is (len(AMOUNTS), n).
    """

    window_start: I64 = field(default_factory=_empty)
    subject: I64 = field(default_factory=_empty)
    tenant: I64 = field(default_factory=_empty)
    product: I64 = field(default_factory=_empty)
    amounts: I64 = field(default_factory=lambda: np.zeros((len(AMOUNTS), 0), np.int64))
    latencies: HistogramCounts = field(default_factory=HistogramCounts.none)


@dataclass(frozen=True)
class Facts:
    """Energy and tokens of some windows. Each list of names has the texts that codes stand for."""

    subjects: Sequence[Subject]
    hardwares: Sequence[str]
    owners: Sequence[str]
    tenants: Sequence[str]
    products: Sequence[Product]
    energy: Energy
    tokens: Tokens


def product_columns(products: DictionaryColumn[Product]) -> dict[str, DictionaryColumn[str]]:
    """Return products as the column of models and a column of each dimension."""
    codes = products.codes
    columns = zip(*products.names, strict=True) if products.names else ([""] for _ in NO_PRODUCT)
    return {
        name: DictionaryColumn(texts, codes) if any(texts) else DictionaryColumn.constant("", len(codes))
        for name, texts in zip(("model", *DIMENSIONS), columns, strict=True)
    }


def products_of(table: Table) -> DictionaryColumn[Product]:
    """Return the products of rows that have a column of models and one of each dimension."""
    columns = [DictionaryColumn.of(table[name]) for name in ("model", *DIMENSIONS)]  # type: ignore[arg-type]
    models = columns[0]
    if all(set(c.names) <= {""} for c in columns[1:]):
        return DictionaryColumn([(name, *NO_PRODUCT[1:]) for name in models.names], models.codes)
    return DictionaryColumn.of(list(zip(*columns, strict=True)))
