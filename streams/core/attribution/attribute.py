"""Facts to ledger rows: the rule of DESIGN.md (Attribution), as one pure function over columns.

For one window of one workload and hardware with measured energy E over S GPU-milliseconds:

    idle   = min(E, idle_mw * S)        1 mW x 1 ms = 1 µJ
    active = E - idle                   split over (tenant, model) by work, largest remainder
    work   = weights . (computed, cached, completion) tokens

The parts sum to E exactly; `attribute` asserts it before it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.rows import Table
from contracts.units import I64
from streams.core.apportion import apportion_each
from streams.core.attribution.facts import COMPLETION_M, COMPUTED_M, Energy, Facts, Index, Tokens
from streams.core.attribution.grouping import GroupKeys, expand
from streams.core.attribution.ledger_rows import assert_balanced, ledger_rows_of, table_of
from streams.core.attribution.policy import Policy
from streams.core.attribution.split import energy_by_hardware, split_energy_over_tenants, work_by_tenant

__all__ = ["Attribution", "Energy", "Facts", "Tokens", "attribute", "attribute_requests"]


@dataclass(frozen=True)
class Attribution:
    """Ledger rows (columns of `contracts.rows.LEDGER` less provenance, revision and final), and what it takes to go on
    to single requests: the thousandths of tokens (computed, cached, completion) per (tenant, model), and per pair of
    one and a hardware, the energy and the weights used."""

    ledger: Table
    done_key: I64
    work_row: Index
    """Which of them each row of `Facts.tokens` is part of."""
    done_mtok: I64
    pairs_of: tuple[I64, I64]
    active_uj: I64
    idle_uj: I64
    weights: I64
    key_of: GroupKeys


def attribute(facts: Facts, policy: Policy) -> Attribution:
    """Ledger rows of the facts' windows. Independent of the facts' order and of how finely they are cut into rows.

    Raises LedgerError if a group's parts did not sum to what was measured (which would be a defect here).
    """
    keys = GroupKeys.of(facts)
    metered = energy_by_hardware(facts, keys, policy)
    done = work_by_tenant(facts, keys)
    pairs = split_energy_over_tenants(facts, metered, done, policy)
    rows = ledger_rows_of(facts, keys, metered, done, pairs, policy)
    assert_balanced(metered, rows, keys)
    starts = np.searchsorted(pairs.done, np.arange(len(done.key) + 1))
    return Attribution(
        table_of(facts, keys, rows),
        done.key,
        done.of_tokens,
        done.amounts[COMPUTED_M : COMPLETION_M + 1],
        (starts[:-1], starts[1:]),
        pairs.active_uj,
        pairs.idle_uj,
        pairs.weights,
        keys,
    )


def attribute_requests(
    attribution: Attribution,
    row: Index,
    amounts: I64,
    canonical: Callable[[Index], Sequence[int]],
    *,
    all_here: bool = True,
) -> tuple[I64, I64]:
    """(active_uj, idle_uj) of each request's piece: its share, by work, of its tenant's rows of that window.

    `row` says which of `done_key` each piece is part of, `amounts` are its thousandths of tokens, like `done_mtok`.
    `canonical` puts some of the pieces into their canonical order: equal remainders are served in it. The pieces of a
    (window, workload, tenant, model) sum to the ledger's rows if they are all there. Where `all_here` is false, what is
    lacking of the work shares as one more piece, served last.
    """
    a, n = attribution, len(row)
    if not all_here:
        lacking = _lacking(a.done_mtok, row, amounts)
        more = np.flatnonzero(lacking.any(axis=0))
        row, amounts = np.concatenate([row, more]), np.concatenate([amounts, lacking[:, more]], axis=1)
    first, last = a.pairs_of[0][row], a.pairs_of[1][row]
    piece, at = expand(first, last - first)
    weight = np.zeros(len(at), np.int64)
    for each, amount in zip(a.weights, amounts, strict=True):
        weight += each[at] * amount[piece]

    def order(members: Index) -> Sequence[int]:
        of = piece[members]
        known = np.flatnonzero(of < n)
        return [*known[canonical(of[known])].tolist(), *np.flatnonzero(of >= n).tolist()]

    out = []
    for shared in apportion_each((a.active_uj, a.idle_uj), at, weight, order):
        part = np.zeros(len(row), np.int64)
        np.add.at(part, piece, shared)
        out.append(part[:n])
    return out[0], out[1]


def _lacking(done: I64, row: Index, amounts: I64) -> I64:
    """What was done beyond the pieces' `amounts`, which belong to these rows (columns of `done`)."""
    lacking = done.copy()
    for left, amount in zip(lacking, amounts, strict=True):
        np.subtract.at(left, row, amount)
    return np.maximum(lacking, 0)
