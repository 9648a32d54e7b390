"""Products of stored requests: which of the ledger's each of them is part of, when its window is attributed again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.rows import Column, Table
from streams.core.attribution.attribute import Attribution
from streams.core.attribution.facts import Facts, Index, Product, products_of


def work_row_of(rows: Table, attribution: Attribution, facts: Facts, late_id: I64) -> Index:
    """Return, for rows of request_energy, the index of the attribution's (window, workload, tenant, product) of each.

    `late_id` is that of each row of `facts.tokens`. Requests have all dimensions, products those that the ledger kept
    when their window was closed or their late message was read: so a request's product is one of those.
    """
    keys = attribution.group_keys
    group = keys.group(np.asarray(rows["window_start"], np.int64), _subject_codes(rows, facts.subjects))
    tenant, requested = _codes(rows["tenant"], facts.tenants), products_of(rows)
    kept = _kept_dimensions(facts, keys.of_tokens, late_id, group, np.asarray(rows["late_id"], np.int64))
    work_row = np.full(len(group), -1, np.intp)
    known = {product: code for code, product in enumerate(facts.products)}
    for bits in np.unique(kept).tolist():
        product = [known.get(_without_others(p, bits), -1) for p in requested.names]
        code = np.array(product or [-1], np.int64)[requested.codes]
        of_bits = np.flatnonzero((kept == bits) & (code >= 0))
        key = keys.work(group[of_bits], tenant[of_bits], code[of_bits])
        at = np.searchsorted(attribution.work_key, key)
        is_member = np.append(attribution.work_key, -1)[at] == key
        work_row[of_bits[is_member]] = at[is_member]
    if (work_row < 0).any():
        raise LedgerError(f"{int((work_row < 0).sum())} stored requests belong to no stored tokens of their window")
    return work_row


def _kept_dimensions(facts: Facts, of_tokens: Index, late_id: I64, of_request: Index, request_late_id: I64) -> I64:
    """Return the dimensions that the products of each request's group and message have, as bits.

    `of_tokens` and `of_request` are the groups of the rows of tokens and of requests.
    """
    bits_of = np.array([sum(1 << i for i, name in enumerate(p[1:]) if name) for p in facts.products] or [0], np.int64)
    late_ids, rank = np.unique(np.concatenate([late_id, request_late_id]), return_inverse=True)
    _, message = np.unique(np.concatenate([of_tokens, of_request]) * len(late_ids) + rank, return_inverse=True)
    bits = np.zeros(int(message.max(initial=0)) + 1, np.int64)
    np.bitwise_or.at(bits, message[: len(late_id)], bits_of[facts.tokens.product])
    kept: I64 = bits[message[len(late_id) :]]
    return kept


def _without_others(product: Product, bits: int) -> Product:
    """Return a product without the dimensions that are not among `bits`."""
    return (product[0], *(name if bits >> i & 1 else "" for i, name in enumerate(product[1:])))


def _codes(column: Column, names: Sequence[str]) -> I64:
    """Return a text column as codes into `names`, which contains all of its texts."""
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
