"""The split as ledger rows, in canonical order: who pays for each part. Rules 2 to 4 of the attribution."""

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
    """Rows of the ledger as columns. A tenant's code may be beyond `Facts.tenants`: see `ledger_rows_of`."""

    group: Index
    hardware: I64
    tenant: I64
    model: I64
    energies: I64
    """(3, n) in µJ: active, idle, unallocated."""
    amounts: I64
    work: I64
    method: I64
    weights_version: I64
    floor_version: I64


def ledger_rows_of(
    facts: Facts, keys: GroupKeys, energy: HardwareEnergy, tenants: TenantWork, split: EnergySplit, policy: Policy
) -> LedgerRows:
    """Return tenants' rows, then rows of tokens without energy, then rows of energy that no tenant's work bears.

    Tenant codes beyond `facts.tenants` are, in this order: `__unallocated__`, `__idle__`, the owners. A hardware or
    model of -1 is "".
    """
    left_uj = energy.energy_uj.copy()
    np.subtract.at(left_uj, split.hardware_row, split.active_uj + split.idle_uj)
    bare = np.flatnonzero((left_uj > 0) | energy.unallocated | ~split.has_work)
    paired = np.zeros(len(tenants.key), np.bool_)
    paired[split.tenant_row] = True
    unmetered = np.flatnonzero(~paired)
    weights = look_up(
        [tenants.model[unmetered], tenants.window_start[unmetered]],
        lambda i, w: policy.weight(facts.models[i], "", w),
        4,
    )
    unmetered_work = work_of(weights[:3], tenants.amounts[:, unmetered])

    n_bare, n_unmetered, n_pairs = len(bare), len(unmetered), len(split.tenant_row)
    unallocated = energy.unallocated[bare]
    owned = np.array([name != "" for name in facts.owners] or [False])[energy.owner[bare]]
    if policy.idle == "apart":
        owned &= ~split.has_work[bare]
    base = len(facts.tenants)
    payer = np.where(unallocated, base, np.where(owned, base + 2 + energy.owner[bare], base + 1))
    energies = np.zeros((3, n_pairs + n_unmetered + n_bare), np.int64)
    energies[0, :n_pairs], energies[1, :n_pairs] = split.active_uj, split.idle_uj
    energies[1, n_pairs + n_unmetered :] = np.where(unallocated, 0, left_uj[bare])
    energies[2, n_pairs + n_unmetered :] = np.where(unallocated, left_uj[bare], 0)
    zeros, bare_zeros = np.zeros(n_unmetered, np.int64), np.zeros(n_bare, np.int64)
    of_pair, hardware_row = split.tenant_row, split.hardware_row
    return LedgerRows(
        group=np.concatenate([tenants.group[of_pair], tenants.group[unmetered], energy.group[bare]]),
        hardware=np.concatenate([energy.hardware[hardware_row], zeros - 1, energy.hardware[bare]]),
        tenant=np.concatenate([tenants.tenant[of_pair], tenants.tenant[unmetered], payer]),
        model=np.concatenate([tenants.model[of_pair], tenants.model[unmetered], bare_zeros - 1]),
        energies=energies,
        amounts=np.concatenate(
            [split.amounts, tenants.amounts[:, unmetered], np.zeros((len(AMOUNTS), n_bare), np.int64)], axis=1
        ),
        work=np.concatenate([split.work, unmetered_work, bare_zeros]),
        method=np.concatenate([energy.method[hardware_row], zeros + Method.UNMETERED, energy.method[bare]]),
        weights_version=np.concatenate([split.weights_version, weights[3], bare_zeros]),
        floor_version=np.concatenate([energy.floor_version[hardware_row], zeros, energy.floor_version[bare]]),
    )


def assert_balanced(energy: HardwareEnergy, rows: LedgerRows, keys: GroupKeys) -> None:
    """Raise LedgerError unless the rows of each group sum to its measured energy, and no part is negative."""
    measured = np.zeros(len(keys.groups), np.int64)
    np.add.at(measured, energy.group, energy.energy_uj)
    charged = np.zeros(len(keys.groups), np.int64)
    np.add.at(charged, rows.group, rows.energies.sum(axis=0))
    if (measured != charged).any():
        at = int(np.argmax(measured != charged))
        raise LedgerError(f"attribution lost energy: {measured[at]} uJ measured, {charged[at]} uJ charged in a window")
    if (rows.energies < 0).any():
        raise LedgerError(f"attribution charged negative energy: {rows.energies.min()} uJ in a row")


def table_of(facts: Facts, keys: GroupKeys, rows: LedgerRows) -> Table:
    """Return the rows as columns of `contracts.rows.LEDGER` without provenance, sorted by window and names."""
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
