"""Entry point of the attribution: facts of windows to ledger rows, and a tenant's energy to its single requests.

The rule is in the package's docstring. The parts of a group sum to its measured energy exactly; `attribute` asserts it
before it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.columns import I64
from contracts.rows import Table
from streams.core.apportion import apportion_each
from streams.core.attribution.facts import COMPUTED_M, REQUEST_MS, Facts, Index
from streams.core.attribution.grouping import GroupKeys, expand
from streams.core.attribution.ledger_rows import assert_balanced, ledger_rows_of, table_of
from streams.core.attribution.policy import Policy
from streams.core.attribution.split import energy_by_hardware, split_energy_over_tenants, sum_work


@dataclass(frozen=True)
class Attribution:
    """Ledger rows, and what `attribute_requests` needs to go on to single requests.

    A work row is a (window, workload, tenant, model); a pair is a work row on one hardware type.
    """

    ledger: Table
    """Columns of `contracts.rows.LEDGER` without provenance, revision and final."""
    work_key: I64
    """By work row: its key, ascending."""
    work_row: Index
    """By row of `Facts.tokens`: its work row."""
    work_amounts: I64
    """(4, work rows): the amounts that work is worked out from (`facts.WORK_AMOUNTS`)."""
    pair_range: tuple[I64, I64]
    """By work row: its first pair, and the pair after its last."""
    active_uj: I64
    """By pair, as are `idle_uj` and `weights`."""
    idle_uj: I64
    weights: I64
    group_keys: GroupKeys


def attribute(facts: Facts, policy: Policy) -> Attribution:
    """Return the ledger rows of the facts' windows, independent of the facts' order and granularity.

    Raises LedgerError if a group's parts do not sum to what was measured (which would be a defect here).
    """
    keys = GroupKeys.of(facts)
    energy = energy_by_hardware(facts, keys, policy)
    work_rows = sum_work(facts, keys)
    split = split_energy_over_tenants(facts, energy, work_rows, policy)
    rows = ledger_rows_of(facts, keys, energy, work_rows, split, policy)
    assert_balanced(energy, rows)
    starts = np.searchsorted(split.work_row, np.arange(len(work_rows.key) + 1))
    return Attribution(
        ledger=table_of(facts, keys, rows),
        work_key=work_rows.key,
        work_row=work_rows.of_tokens,
        work_amounts=work_rows.amounts[COMPUTED_M : REQUEST_MS + 1],
        pair_range=(starts[:-1], starts[1:]),
        active_uj=split.active_uj,
        idle_uj=split.idle_uj,
        weights=split.weights,
        group_keys=keys,
    )


def attribute_requests(
    attribution: Attribution,
    work_row: Index,
    amounts: I64,
    canonical: Callable[[Index], Sequence[int]],
    *,
    complete: bool = True,
) -> tuple[I64, I64]:
    """Return (active_uj, idle_uj) of requests: their shares, by work, of their tenant's energy in that window.

    `work_row` is each request's work row, `amounts` its thousandths, as `Attribution.work_amounts`. `canonical`
    sorts some of the requests canonically: equal remainders are served in that order. The requests of a work row sum to
    its energy if they are complete. If not (`complete` is False), the missing work shares as one more request, last.
    """
    a, n = attribution, len(work_row)
    if not complete:
        missing = _missing_work(a.work_amounts, work_row, amounts)
        more = np.flatnonzero(missing.any(axis=0))
        work_row, amounts = np.concatenate([work_row, more]), np.concatenate([amounts, missing[:, more]], axis=1)
    first, last = a.pair_range[0][work_row], a.pair_range[1][work_row]
    request, pair = expand(first, last - first)
    weight = np.zeros(len(pair), np.int64)
    for milli, amount in zip(a.weights, amounts, strict=True):
        weight += milli[pair] * amount[request]

    def order(members: Index) -> Sequence[int]:
        of = request[members]
        known = np.flatnonzero(of < n)
        return [*known[canonical(of[known])].tolist(), *np.flatnonzero(of >= n).tolist()]

    sums = []
    for part in apportion_each((a.active_uj, a.idle_uj), pair, weight, order):
        by_request = np.zeros(len(work_row), np.int64)
        np.add.at(by_request, request, part)
        sums.append(by_request[:n])
    return sums[0], sums[1]


def _missing_work(work_amounts: I64, work_row: Index, amounts: I64) -> I64:
    """Return each work row's thousandths that are not among the requests' `amounts`; never below 0."""
    missing = work_amounts.copy()
    for left, amount in zip(missing, amounts, strict=True):
        np.subtract.at(left, work_row, amount)
    return np.maximum(missing, 0)
