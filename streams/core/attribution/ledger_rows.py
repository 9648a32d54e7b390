"""The split as ledger rows, in canonical order: who pays for each part. Rules 2 to 4 of the attribution."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.events import TOKENS, Method
from contracts.histogram import HistogramCounts
from contracts.rows import Table
from streams.core.attribution.facts import (
    AMOUNTS,
    FAILURES,
    NO_PRODUCT,
    REQUEST_MS,
    REQUESTS,
    Facts,
    Index,
    product_columns,
)
from streams.core.attribution.grouping import GroupKeys, ordered, rank
from streams.core.attribution.policy import Policy
from streams.core.attribution.split import EnergySplit, HardwareEnergy, WorkRows, token_weights, work_of


def payer_names(facts: Facts) -> list[str]:
    """Return the texts that a ledger row's tenant code stands for: tenants, then those that pay for other energy."""
    return [*facts.tenants, topics.TENANT_UNALLOCATED, topics.TENANT_IDLE, *facts.owners]


def _payers(facts: Facts, unallocated: npt.NDArray[np.bool_], owned: npt.NDArray[np.bool_], owner: I64) -> I64:
    """Return who pays for energy that no tenant's work bears, as codes of `payer_names`."""
    unallocated_code = len(facts.tenants)
    idle_code, first_owner_code = unallocated_code + 1, unallocated_code + 2
    return np.where(unallocated, unallocated_code, np.where(owned, first_owner_code + owner, idle_code))


@dataclass(frozen=True)
class LedgerRows:
    """Rows of the ledger as columns. A tenant's code is an index into `payer_names`."""

    group: Index
    hardware: I64
    tenant: I64
    product: I64
    energies: I64
    """(3, n) in µJ: active, idle, unallocated."""
    amounts: I64
    work: I64
    method: I64
    weights_version: I64
    floor_version: I64
    latencies: HistogramCounts

    def take(self, which: npt.NDArray[np.bool_]) -> LedgerRows:
        """Return these rows only."""
        columns = {f.name: getattr(self, f.name)[..., which] for f in fields(self) if f.name != "latencies"}
        place = np.where(which, np.cumsum(which) - 1, -1)[self.latencies.row]
        latencies = HistogramCounts(*(column[place >= 0] for column in self.latencies._replace(row=place)))
        return LedgerRows(**columns, latencies=latencies)


def ledger_rows_of(
    facts: Facts, keys: GroupKeys, energy: HardwareEnergy, work_rows: WorkRows, split: EnergySplit, policy: Policy
) -> LedgerRows:
    """Return tenants' rows, then rows of tokens without energy, then rows of energy that no tenant's work bears.

    A tenant's code is one of `payer_names`. A hardware or product of -1 is none.
    """
    left_uj = energy.energy_uj.copy()
    np.subtract.at(left_uj, split.hardware_row, split.active_uj + split.idle_uj)
    unsplit = np.flatnonzero((left_uj > 0) | energy.unallocated | ~split.has_work)
    paired = np.zeros(len(work_rows.key), np.bool_)
    paired[split.work_row] = True
    unmetered = np.flatnonzero(~paired)
    weights, version = token_weights(
        [work_rows.product[unmetered], work_rows.window_start[unmetered]],
        lambda i, w: policy.weight(facts.products[i][0], "", w),
    )
    unmetered_work = work_of(weights, work_rows.amounts[:, unmetered])

    n_unsplit, n_unmetered, n_pairs = len(unsplit), len(unmetered), len(split.work_row)
    unallocated = energy.unallocated[unsplit]
    owned = np.array([name != "" for name in facts.owners] or [False])[energy.owner[unsplit]]
    if policy.idle == "apart":
        owned &= ~split.has_work[unsplit]
    payer = _payers(facts, unallocated, owned, energy.owner[unsplit])
    energies = np.zeros((3, n_pairs + n_unmetered + n_unsplit), np.int64)
    energies[0, :n_pairs], energies[1, :n_pairs] = split.active_uj, split.idle_uj
    energies[1, n_pairs + n_unmetered :] = np.where(unallocated, 0, left_uj[unsplit])
    energies[2, n_pairs + n_unmetered :] = np.where(unallocated, left_uj[unsplit], 0)
    zeros, unsplit_zeros = np.zeros(n_unmetered, np.int64), np.zeros(n_unsplit, np.int64)
    of_pair, hardware_row = split.work_row, split.hardware_row
    rows = LedgerRows(
        group=np.concatenate([work_rows.group[of_pair], work_rows.group[unmetered], energy.group[unsplit]]),
        hardware=np.concatenate([energy.hardware[hardware_row], zeros - 1, energy.hardware[unsplit]]),
        tenant=np.concatenate([work_rows.tenant[of_pair], work_rows.tenant[unmetered], payer]),
        product=np.concatenate([work_rows.product[of_pair], work_rows.product[unmetered], unsplit_zeros - 1]),
        energies=energies,
        amounts=np.concatenate(
            [split.amounts, work_rows.amounts[:, unmetered], np.zeros((len(AMOUNTS), n_unsplit), np.int64)], axis=1
        ),
        work=np.concatenate([split.work, unmetered_work, unsplit_zeros]),
        method=np.concatenate([energy.method[hardware_row], zeros + Method.UNMETERED, energy.method[unsplit]]),
        weights_version=np.concatenate([split.weights_version, version, unsplit_zeros]),
        floor_version=np.concatenate([energy.floor_version[hardware_row], zeros, energy.floor_version[unsplit]]),
        latencies=_latencies(work_rows, split, unmetered),
    )
    # A request without tokens that ran on through a window in which others had work: nothing of it belongs there.
    ran_on = work_rows.amounts.sum(axis=0) == work_rows.amounts[REQUEST_MS]
    kept = np.ones(len(rows.group), np.bool_)
    kept[: n_pairs + n_unmetered] = ~ran_on[np.concatenate([of_pair, unmetered])]
    return rows if kept.all() else rows.take(kept | rows.energies.any(axis=0))


def _latencies(work_rows: WorkRows, split: EnergySplit, unmetered: Index) -> HistogramCounts:
    """Return the latencies of the rows of pairs, and of those without energy, which follow them."""
    of_row = work_rows.latencies
    place = np.full(len(work_rows.key), -1, np.intp)
    place[unmetered] = len(split.work_row) + np.arange(len(unmetered))
    more = np.flatnonzero(place[of_row.row] >= 0)
    without = HistogramCounts(place[of_row.row[more]], of_row.code[more], of_row.number[more])
    return HistogramCounts(*(np.concatenate(columns) for columns in zip(split.latencies, without, strict=True)))


def assert_balanced(energy: HardwareEnergy, rows: LedgerRows) -> None:
    """Raise LedgerError unless rows sum to what was measured, by group and hardware type, and no part is negative."""
    width = 2 + int(max(energy.hardware.max(initial=0), rows.hardware.max(initial=0)))
    measured_key = energy.group * width + energy.hardware
    order = np.argsort(measured_key)
    sorted_key = np.append(measured_key[order], -2)  # No row has this key: those that no energy row matches are last.
    row_key = rows.group * width + rows.hardware
    at = np.searchsorted(sorted_key[:-1], row_key)
    at[sorted_key[at] != row_key] = len(order)
    measured, charged = np.append(energy.energy_uj[order], 0), np.zeros(len(order) + 1, np.int64)
    np.add.at(charged, at, rows.energies.sum(axis=0))
    if (measured != charged).any():
        worst = int(np.argmax(measured != charged))
        raise LedgerError(
            f"attribution lost energy: {measured[worst]} uJ measured, {charged[worst]} uJ charged in a window on a "
            "hardware type"
        )
    if (rows.energies < 0).any():
        raise LedgerError(f"attribution charged negative energy: {rows.energies.min()} uJ in a row")


def table_of(facts: Facts, keys: GroupKeys, rows: LedgerRows) -> Table:
    """Return the rows as columns of `contracts.rows.LEDGER` without provenance, sorted by window and names."""
    tenants = payer_names(facts)
    hardwares, products = [*facts.hardwares, ""], [*facts.products, NO_PRODUCT]
    order = ordered(
        (rows.group, rank(hardwares)[rows.hardware], rank(tenants)[rows.tenant], rank(products)[rows.product])
    )
    group = keys.groups[rows.group[order]]
    by_rank = np.argsort(keys.subject[: len(facts.subjects)])
    subject = by_rank[group % max(len(facts.subjects), 1)] if len(group) else group
    amounts = rows.amounts.take(order, axis=1)
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    latencies = rows.latencies._replace(row=place[rows.latencies.row])
    return {
        "window_start": group // max(len(facts.subjects), 1),
        "cluster": DictionaryColumn([c for c, _ in facts.subjects], subject),
        "workload": DictionaryColumn([w for _, w in facts.subjects], subject),
        "hardware": DictionaryColumn(hardwares, rows.hardware[order] % len(hardwares)),  # -1 is the last: "".
        "tenant": DictionaryColumn(tenants, rows.tenant[order]),
        **product_columns(DictionaryColumn(products, rows.product[order] % len(products))),
        "active_uj": rows.energies[0, order], "idle_uj": rows.energies[1, order],
        "unallocated_uj": rows.energies[2, order],
        **{name: amounts[i] for i, name in enumerate(TOKENS)},
        "work": rows.work[order], "requests": amounts[REQUESTS], "failures": amounts[FAILURES],
        "method": rows.method[order], "weights_version": rows.weights_version[order],
        "floor_version": rows.floor_version[order], **latencies.columns(len(order)),
    }  # fmt: skip
