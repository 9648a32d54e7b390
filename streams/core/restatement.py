"""Restatement: new ledger rows for a final window, from the facts stored of it and the late facts added since.

The same function attributes them as always. The revision counts the late messages among the facts, so restating twice
gives the same rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.histogram import LATENCIES, HistogramCounts
from contracts.rows import KEYS, SCHEMAS, Column, Table, concat, conform, keys, length, tombstones
from streams.core import row_versions
from streams.core.attribution.attribute import attribute
from streams.core.attribution.facts import AMOUNTS, Energy, Facts, Index, Tokens, products_of
from streams.core.attribution.policy import Policy
from streams.core.request_pieces import with_energy
from streams.core.stored_requests import work_row_of


def facts_of(gpu_energy: Table, token_usage: Table) -> Facts:
    """Return rows of the two facts tables as input of the attribution."""
    n = length(gpu_energy)
    subject = DictionaryColumn.concat([_subjects(gpu_energy), _subjects(token_usage)])
    hardware, owner = (DictionaryColumn.of(gpu_energy[c]) for c in ("hardware", "owner"))  # type: ignore[arg-type]
    tenant = DictionaryColumn.of(token_usage["tenant"])  # type: ignore[arg-type]
    product = products_of(token_usage)
    window_start, energy_uj, covered_ms, method = (
        np.asarray(gpu_energy[c], np.int64) for c in ("window_start", "energy_uj", "covered_ms", "method")
    )
    amounts = np.stack([np.asarray(token_usage[c], np.int64) for c in AMOUNTS])
    return Facts(
        subjects=subject.names,
        hardwares=hardware.names,
        owners=owner.names,
        tenants=tenant.names,
        products=product.names,
        energy=Energy(
            window_start=window_start,
            subject=subject.codes[:n],
            hardware=hardware.codes,
            owner=owner.codes,
            energy_uj=energy_uj,
            covered_ms=covered_ms,
            method=method,
        ),
        tokens=Tokens(
            np.asarray(token_usage["window_start"], np.int64),
            subject.codes[n:],
            tenant.codes,
            product.codes,
            amounts,
            HistogramCounts.of([token_usage[name] for name in LATENCIES]),  # type: ignore[misc]
        ),
    )


def restate(stored: dict[str, Table], policy: Policy, epoch: int, **provenance: int | str) -> dict[str, Table]:
    """Return new `ledger` and `request_energy` rows for the windows whose facts are stored.

    `stored` has all live rows of gpu_energy, token_usage, request_energy and ledger of some (window, workload)s,
    including the late ones. Requests may be missing: those present get their own share, no more.
    """
    facts = facts_of(stored["gpu_energy"], stored["token_usage"])
    attribution = attribute(facts, policy)
    revisions = _Revisions(stored["gpu_energy"], stored["token_usage"])

    def stamped(rows: Table) -> dict[str, Column | int | str]:
        """Return the rows with provenance: the version grows with the revision, so a later restatement wins."""
        distinct, revision = np.unique(revisions.of(rows), return_inverse=True)
        version = np.array([row_versions.final(epoch, r) for r in distinct.tolist()], np.uint64)
        return {**rows, **provenance, "deleted": 0, "version": version[revision]}

    window_ms = max(int(np.max(stored[t]["window_ms"], initial=0)) for t in ("gpu_energy", "token_usage"))
    revision = revisions.of(attribution.ledger)
    ledger = conform(
        "ledger",
        {**stamped(attribution.ledger), "window_ms": window_ms, "revision": revision, "final": 1},
    )
    if gone := _gone(stored["ledger"], ledger):
        at = row_versions.final(epoch, int(revision.max(initial=0)))
        ledger = concat("ledger", [ledger, tombstones("ledger", gone, **{**provenance, "version": at})])
    out = {"ledger": ledger}
    if length(stored["request_energy"]):
        # Some may be missing: a worker may not have kept single requests, and rows expire.
        late_id = np.asarray(stored["token_usage"]["late_id"], np.int64)
        work_row = work_row_of(stored["request_energy"], attribution, facts, late_id)
        requests = with_energy(stored["request_energy"], attribution, work_row, complete=False)
        out["request_energy"] = conform("request_energy", stamped(requests))
    return out


class _Revisions:
    """The revision of each (window, workload): how many late messages it has."""

    def __init__(self, gpu_energy: Table, token_usage: Table) -> None:
        late: dict[tuple[Any, Any], set[tuple[int, int]]] = {}
        for which, table in enumerate((gpu_energy, token_usage)):
            ids = np.asarray(table["late_id"])
            windows, at = _windows(table), np.flatnonzero(ids)
            for code, late_id in zip(windows.codes[at].tolist(), ids[at].tolist(), strict=True):
                late.setdefault(windows.names[code], set()).add((which, late_id))
        self._late = {window: len(ids) for window, ids in late.items()}

    def of(self, table: Table) -> I64:
        windows = _windows(table)
        revision = np.array([self._late.get(w, 0) for w in windows.names] or [0], np.int64)
        of_row: I64 = revision[windows.codes]
        return of_row


def _subjects(table: Table) -> DictionaryColumn[tuple[str, str]]:
    return DictionaryColumn.pairs(DictionaryColumn.of(table["cluster"]), DictionaryColumn.of(table["workload"]))  # type: ignore[arg-type]


def _windows(table: Table) -> DictionaryColumn[tuple[Any, Any]]:
    starts, codes = np.unique(np.asarray(table["window_start"], np.int64), return_inverse=True)
    return DictionaryColumn.pairs(DictionaryColumn(starts.tolist(), codes), _subjects(table))


def _gone(before: Table, after: Table) -> list[tuple[str | int, ...]]:
    """Return the keys of ledger rows that are in the first table only, sorted. By codes: the tables may be large."""
    n, code = length(before), np.zeros(length(before) + length(after), np.int64)
    for column in KEYS["ledger"]:
        if SCHEMAS["ledger"][column] == "text":
            both = DictionaryColumn.concat([DictionaryColumn.of(t[column]) for t in (before, after)])  # type: ignore[arg-type]
            code = code * max(len(both.names), 1) + both.codes
        else:
            starts, of_row = np.unique(np.concatenate([before[column], after[column]]), return_inverse=True)
            code = code * max(len(starts), 1) + of_row
        code = np.unique(code, return_inverse=True)[1]  # Dense again, so that no product overflows.
    at = np.flatnonzero(~np.isin(code[:n], code[n:]))
    return sorted(keys("ledger", {c: _rows(before[c], at) for c in KEYS["ledger"]}))


def _rows(column: Column, at: Index) -> Column:
    return np.asarray(column)[at] if isinstance(column, np.ndarray) else [column[i] for i in at.tolist()]
