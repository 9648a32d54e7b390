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
from streams.core.facts import COMPLETION_M, COMPUTED_M, Energy, Facts, Index, Tokens
from streams.core.grouping import Keys, expand, rank
from streams.core.ledger_table import assert_balanced, rows_of, table_of
from streams.core.policy import Policy
from streams.core.split import done_of, metered_of, pair
from streams.core.spread import share

__all__ = ["Attribution", "Energy", "Facts", "Tokens", "attribute", "attribute_requests"]


@dataclass(frozen=True)
class Attribution:
    """Ledger rows (columns of `contracts.rows.LEDGER` less provenance, revision and final), and what it takes to go on
    to single requests: per pair of a (tenant, model) and a hardware, the energy and the weights used."""

    ledger: Table
    done_key: I64
    pairs_of: tuple[I64, I64]
    active_uj: I64
    idle_uj: I64
    weights: I64
    key_of: Keys


def attribute(facts: Facts, policy: Policy) -> Attribution:
    """Ledger rows of the facts' windows. Independent of the facts' order and of how finely they are cut into rows.

    Raises LedgerError if a group's parts did not sum to what was measured (which would be a defect here).
    """
    e, t = facts.energy, facts.tokens
    n_subjects = max(len(facts.subjects), 1)
    subject_rank = rank(facts.subjects)
    groups = np.unique(
        np.concatenate(
            [
                e.window_start * n_subjects + subject_rank[e.subject],
                t.window_start * n_subjects + subject_rank[t.subject],
            ]
        )
    )
    keys = Keys(subject_rank, rank(facts.tenants), rank(facts.models), groups)
    metered = metered_of(facts, keys, policy)
    done = done_of(facts, keys)
    pairs = pair(facts, metered, done, policy)
    rows = rows_of(facts, keys, metered, done, pairs, policy)
    assert_balanced(metered, rows, keys)
    starts = np.searchsorted(pairs.done, np.arange(len(done.key) + 1))
    return Attribution(
        table_of(facts, keys, rows),
        done.key,
        (starts[:-1], starts[1:]),
        pairs.active_uj,
        pairs.idle_uj,
        pairs.weights,
        keys,
    )


def attribute_requests(
    attribution: Attribution, pieces: Tokens, canonical: Callable[[Index], Sequence[int]]
) -> tuple[I64, I64]:
    """(active_uj, idle_uj) of each request's piece: its share, by work, of its tenant's rows of that window.

    `canonical` puts some of the pieces into their canonical order: equal remainders are served in it. The pieces of a
    (window, workload, tenant, model) sum to the ledger's rows if they are all there.
    """
    a = attribution
    group = a.key_of.group(pieces.window_start, pieces.subject)
    row = np.searchsorted(a.done_key, a.key_of.done(group, pieces.tenant, pieces.model))
    first, last = a.pairs_of[0][row], a.pairs_of[1][row]
    piece, at = expand(first, last - first)
    weight = (a.weights[:, at] * pieces.amounts[COMPUTED_M : COMPLETION_M + 1, piece]).sum(axis=0)
    out = []
    for energy_uj in (a.active_uj, a.idle_uj):
        part = np.zeros(len(group), np.int64)
        np.add.at(part, piece, share(energy_uj, at, weight, lambda members: canonical(piece[members])))
        out.append(part)
    return out[0], out[1]
