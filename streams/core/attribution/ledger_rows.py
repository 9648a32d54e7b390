"""The split as ledger rows: who pays for each part, in canonical order. Rules 2 to 4 of DESIGN.md (Attribution)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts import topics
from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.events import TOKENS, Method
from contracts.rows import Table
from contracts.units import I64
from streams.core.attribution.facts import AMOUNTS, FAILURES, REQUESTS, Facts, Index
from streams.core.attribution.grouping import GroupKeys, look_up, ordered, rank
from streams.core.attribution.policy import Policy
from streams.core.attribution.split import EnergySplit, HardwareEnergy, TenantWork, work_of


@dataclass(frozen=True)
class LedgerRows:
    group: Index
    hardware: I64
    tenant: I64
    model: I64
    energies: I64
    """(3, n): active, idle, unallocated."""
    amounts: I64
    work: I64
    method: I64
    weights_version: I64
    floor_version: I64


def ledger_rows_of(
    facts: Facts, keys: GroupKeys, m: HardwareEnergy, d: TenantWork, p: EnergySplit, policy: Policy
) -> LedgerRows:
    """Tenants' rows, then those without energy, then what nobody's work bears. -1 stands for the names added here."""
    rest = m.energy_uj.copy()
    np.subtract.at(rest, p.metered, p.active_uj + p.idle_uj)
    bare = np.flatnonzero((rest > 0) | m.unallocated | ~p.worked)
    paired = np.zeros(len(d.key), np.bool_)
    paired[p.done] = True
    unmetered = np.flatnonzero(~paired)
    weights = look_up(
        [d.model[unmetered], d.window_start[unmetered]], lambda i, w: policy.weight(facts.models[i], "", w), 4
    )
    unmetered_work = work_of(weights[:3], d.amounts[:, unmetered])

    n_bare, n_un, n_pairs = len(bare), len(unmetered), len(p.done)
    # Tenants of bare rows, beyond the tenants' own codes: _UNALLOCATED, _IDLE, then the owners.
    owned = np.array([name != "" for name in facts.owners] or [False])[m.owner[bare]]
    if policy.idle == "apart":
        owned &= ~p.worked[bare]
    base = len(facts.tenants)
    payer = np.where(m.unallocated[bare], base, np.where(owned, base + 2 + m.owner[bare], base + 1))
    energies = np.zeros((3, n_pairs + n_un + n_bare), np.int64)
    energies[0, :n_pairs], energies[1, :n_pairs] = p.active_uj, p.idle_uj
    energies[1, n_pairs + n_un :] = np.where(m.unallocated[bare], 0, rest[bare])
    energies[2, n_pairs + n_un :] = np.where(m.unallocated[bare], rest[bare], 0)
    none_un, none_bare = np.zeros(n_un, np.int64), np.zeros(n_bare, np.int64)
    return LedgerRows(
        group=np.concatenate([d.group[p.done], d.group[unmetered], m.group[bare]]),
        hardware=np.concatenate([m.hardware[p.metered], none_un - 1, m.hardware[bare]]),
        tenant=np.concatenate([d.tenant[p.done], d.tenant[unmetered], payer]),
        model=np.concatenate([d.model[p.done], d.model[unmetered], none_bare - 1]),
        energies=energies,
        amounts=np.concatenate(
            [p.amounts, d.amounts[:, unmetered], np.zeros((len(AMOUNTS), n_bare), np.int64)], axis=1
        ),
        work=np.concatenate([p.work, unmetered_work, none_bare]),
        method=np.concatenate([m.method[p.metered], none_un + Method.UNMETERED, m.method[bare]]),
        weights_version=np.concatenate([p.weights_version, weights[3], none_bare]),
        floor_version=np.concatenate([m.floor_version[p.metered], none_un, m.floor_version[bare]]),
    )


def assert_balanced(m: HardwareEnergy, rows: LedgerRows, keys: GroupKeys) -> None:
    measured = np.zeros(len(keys.groups), np.int64)
    np.add.at(measured, m.group, m.energy_uj)
    charged = np.zeros(len(keys.groups), np.int64)
    np.add.at(charged, rows.group, rows.energies.sum(axis=0))
    if (measured != charged).any() or (rows.energies < 0).any():
        at = int(np.argmax(measured != charged))
        raise LedgerError(f"attribution lost energy: {measured[at]} uJ measured, {charged[at]} uJ charged in a window")


def table_of(facts: Facts, keys: GroupKeys, rows: LedgerRows) -> Table:
    tenants = [*facts.tenants, topics.TENANT_UNALLOCATED, topics.TENANT_IDLE, *facts.owners]
    hardwares, models = [*facts.hardwares, ""], [*facts.models, ""]
    order = ordered((rows.group, rank(hardwares)[rows.hardware], rank(tenants)[rows.tenant], rank(models)[rows.model]))
    group = keys.groups[rows.group[order]]
    by_rank = np.argsort(keys.subject[: len(facts.subjects)])
    subject = by_rank[group % max(len(facts.subjects), 1)] if len(group) else group
    amounts = rows.amounts.take(order, axis=1)
    return {
        "window_start": group // max(len(facts.subjects), 1),
        "cluster": DictionaryColumn([c for c, _ in facts.subjects], subject),
        "workload": DictionaryColumn([w for _, w in facts.subjects], subject),
        "hardware": DictionaryColumn(hardwares, rows.hardware[order] % len(hardwares)),  # -1 is the last: "".
        "model": DictionaryColumn(models, rows.model[order] % len(models)),
        "tenant": DictionaryColumn(tenants, rows.tenant[order]),
        "active_uj": rows.energies[0, order], "idle_uj": rows.energies[1, order],
        "unallocated_uj": rows.energies[2, order],
        **{name: amounts[i] for i, name in enumerate(TOKENS)},
        "work": rows.work[order], "requests": amounts[REQUESTS], "failures": amounts[FAILURES],
        "method": rows.method[order], "weights_version": rows.weights_version[order],
        "floor_version": rows.floor_version[order],
    }  # fmt: skip
