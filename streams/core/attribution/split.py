"""Split energy over tenants: energy by hardware type, work by tenant, and the first divided by the second.

Rules 1, 2 and 5 of the attribution (see the package). `split_energy_over_tenants` is the one place where joules are
split over tenants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.boundary import Boundary, part_of
from contracts.columns import I64
from contracts.histogram import HistogramCounts
from contracts.rows import REQUEST_SECOND_MILLI, REQUEST_TIME_VERSION
from streams.core.apportion import apportion, apportion_each
from streams.core.attribution.facts import AMOUNTS, COMPUTED_M, REQUEST_MS, Facts, Index
from streams.core.attribution.grouping import GroupKeys, distinct, expand, look_up, rank
from streams.core.attribution.policy import Policy


@dataclass(frozen=True)
class HardwareEnergy:
    """Energy (µJ) by group and hardware type, sorted by group and the hardware's name."""

    group: Index
    hardware: I64
    window_start: I64
    energy_uj: I64
    idle_uj: I64
    method: I64
    owner: I64
    floor_version: I64
    unallocated: npt.NDArray[np.bool_]
    first_row: Index
    """By group: its first row here."""
    row_count: Index
    """By group: its number of rows here."""


def energy_by_hardware(facts: Facts, keys: GroupKeys, policy: Policy) -> HardwareEnergy:
    """Sum energy by group and hardware type, and split off the idle floor: idle = min(E, idle_mw * covered_ms)."""
    e = facts.energy
    hw_rank, owner_rank = rank(facts.hardwares), rank(facts.owners)
    unique, at, inverse = distinct(keys.of_energy * len(hw_rank) + hw_rank[e.hardware])
    n = len(unique)
    energy_uj, covered_ms = np.zeros(n, np.int64), np.zeros(n, np.int64)
    method, owner = np.zeros(n, np.int64), np.zeros(n, np.int64)
    np.add.at(energy_uj, inverse, e.energy_uj)
    np.add.at(covered_ms, inverse, e.covered_ms)
    np.maximum.at(method, inverse, e.method)
    np.maximum.at(owner, inverse, owner_rank[e.owner])
    hardware, window_start, group = e.hardware[at], e.window_start[at], unique // len(hw_rank)
    floor = look_up([hardware, window_start], lambda h, w: policy.floor(facts.hardwares[h], w), width=2)
    is_unallocated = np.array([topics.is_unallocated(workload) for _, workload in facts.subjects] or [False])
    first = np.searchsorted(group, np.arange(len(keys.groups) + 1))
    return HardwareEnergy(
        group=group,
        hardware=hardware,
        window_start=window_start,
        energy_uj=energy_uj,
        idle_uj=np.minimum(energy_uj, floor[0] * covered_ms),
        method=method,
        owner=np.argsort(owner_rank)[owner],
        floor_version=floor[1],
        unallocated=is_unallocated[e.subject[at]],
        first_row=first[:-1],
        row_count=np.diff(first),
    )


@dataclass(frozen=True)
class WorkRows:
    """Tokens by (group, tenant, product), sorted by their names: the work rows.

    `key` identifies a row and sorts like the names.
    """

    key: I64
    of_tokens: Index
    """The row here of each row of `Facts.tokens`."""
    group: Index
    window_start: I64
    tenant: I64
    product: I64
    amounts: I64
    """As `Tokens.amounts`."""
    latencies: HistogramCounts
    """By row here."""


def sum_work(facts: Facts, keys: GroupKeys) -> WorkRows:
    """Sum tokens by group, tenant and product: one work row for each."""
    t = facts.tokens
    group = keys.of_tokens
    key, at, inverse = distinct(keys.work(group, t.tenant, t.product))
    amounts = np.zeros((len(AMOUNTS), len(key)), np.int64)
    for total, amount in zip(amounts, t.amounts, strict=True):
        if amount.any():
            np.add.at(total, inverse, amount)
    return WorkRows(
        key=key,
        of_tokens=inverse,
        group=group[at],
        window_start=t.window_start[at],
        tenant=t.tenant[at],
        product=t.product[at],
        amounts=amounts,
        latencies=HistogramCounts.summed(inverse[t.latencies.row], t.latencies.code, t.latencies.number),
    )


@dataclass(frozen=True)
class EnergySplit:
    """Energy of each pair of a (tenant, product) and a hardware type that its group was measured on."""

    work_row: Index
    """The pair's row of `WorkRows`; pairs are sorted by it."""
    hardware_row: Index
    """The pair's row of `HardwareEnergy`."""
    weights: I64
    """(4, n): thousandths of work per computed, cached and completion token, and per request-second."""
    weights_version: I64
    active_uj: I64
    idle_uj: I64
    amounts: I64
    latencies: HistogramCounts
    """By pair, as are all columns but `has_work`."""
    work: I64
    """In thousandths."""
    has_work: npt.NDArray[np.bool_]
    """By row of `HardwareEnergy`: True if any tenant's work can bear its energy."""


def split_energy_over_tenants(facts: Facts, energy: HardwareEnergy, work_rows: WorkRows, policy: Policy) -> EnergySplit:
    """Split each hardware type's energy over the tenants of its group by work: the parts sum to the energy exactly.

    Active energy is always split. Idle energy is split where the policy is `by-work`; else `ledger_rows` charges it to
    the owner or to `__idle__`. Where a group's requests have no token work, their seconds are the work. Where it has no
    requests either, nothing is split.
    """
    allocated = np.ones(len(energy.first_row), np.bool_)
    allocated[energy.group] = ~energy.unallocated
    work_row, hardware_row = expand(
        energy.first_row[work_rows.group], np.where(allocated[work_rows.group], energy.row_count[work_rows.group], 0)
    )
    weights, version = token_weights(
        [work_rows.product[work_row], energy.hardware[hardware_row], work_rows.window_start[work_row]],
        lambda product, h, w: policy.weight(facts.products[product][0], facts.hardwares[h], w),
    )
    amounts = work_rows.amounts.take(work_row, axis=1)
    work = work_of(weights, amounts)
    total_work = _sums(work, hardware_row, len(energy.group))
    timed = (total_work == 0)[hardware_row] & (amounts[REQUEST_MS] > 0)
    if timed.any():
        weights[:, timed] = [[0], [0], [0], [REQUEST_SECOND_MILLI]]
        version = np.where(timed, version + REQUEST_TIME_VERSION, version)
        work = work_of(weights, amounts)
        total_work = _sums(work, hardware_row, len(energy.group))
    has_work = total_work > 0
    active_uj = np.where(has_work, energy.energy_uj - energy.idle_uj, 0)
    idle_uj = np.where(has_work & (policy.idle == "by-work"), energy.idle_uj, 0)
    active_part, idle_part = apportion_each((active_uj, idle_uj), hardware_row, work)
    is_divided = energy.row_count[energy.group[hardware_row]] > 1
    by_energy = np.ones(len(work_row), np.int64)
    if is_divided.any():
        by_energy = _bearing_energy(facts, energy)[hardware_row]
        amounts, work = _divide_by_energy(by_energy, work_rows, work_row, is_divided, work)
    return EnergySplit(
        work_row=work_row,
        hardware_row=hardware_row,
        weights=weights,
        weights_version=version,
        active_uj=active_part,
        idle_uj=idle_part,
        amounts=amounts,
        latencies=_divide_latencies(work_rows, work_row, by_energy),
        work=work,
        has_work=has_work,
    )


def _bearing_energy(facts: Facts, energy: HardwareEnergy) -> I64:
    """Return, by row of `HardwareEnergy`, the energy that tokens and work are divided by (rule 5).

    It is 0 of what is no GPU (`part_of`) where GPUs of the group have energy: a boundary without the host
    would lack the host's tokens else. It is 1 for another type without energy, so that a group's tokens are never lost.
    """
    bearing_uj = np.maximum(energy.energy_uj, 1)
    is_beside = np.array([part_of(name) is not Boundary.GPU for name in facts.hardwares] or [False])[energy.hardware]
    if is_beside.any():
        elsewhere_uj = np.zeros(len(energy.first_row), np.int64)
        np.add.at(elsewhere_uj, energy.group[~is_beside], energy.energy_uj[~is_beside])
        bearing_uj[is_beside & (elsewhere_uj[energy.group] > 0)] = 0
    return bearing_uj


def _divide_by_energy(
    by_energy: I64, work_rows: WorkRows, work_row: Index, is_divided: npt.NDArray[np.bool_], work: I64
) -> tuple[I64, I64]:
    """Divide a tenant's tokens and work over several hardware types in proportion to `by_energy`, of each pair."""
    amounts = np.stack(apportion_each(work_rows.amounts, work_row, by_energy))
    energy_sum = np.zeros(len(work_rows.key), object)
    np.add.at(energy_sum, work_row, by_energy.astype(object))
    divided = work.copy()
    at = np.flatnonzero(is_divided)
    product = work[at].astype(object) * by_energy[at].astype(object)
    divided[at] = (product // energy_sum[work_row[at]]).astype(np.int64)
    return amounts, divided


def _divide_latencies(work_rows: WorkRows, work_row: Index, by_energy: I64) -> HistogramCounts:
    """Return the latencies of pairs: a tenant's, divided over several hardware types in proportion to `by_energy`."""
    first, last = np.searchsorted(work_row, [np.arange(len(work_rows.key)), np.arange(1, len(work_rows.key) + 1)])
    of_row = work_rows.latencies
    entry, pair = expand(first[of_row.row], (last - first)[of_row.row])
    number = of_row.number[entry] if len(entry) <= len(of_row.row) else apportion(of_row.number, entry, by_energy[pair])
    kept = number > 0
    return HistogramCounts(pair[kept], of_row.code[entry[kept]], number[kept])


def _sums(values: I64, of: Index, count: int) -> I64:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, of, values)
    return sums


def token_weights(columns: list[I64], weight: Callable[..., tuple[int, int, int, int]]) -> tuple[I64, I64]:
    """Return the weights (4, n) of rows with these codes, none of them of request-seconds, and their versions (n)."""
    computed, cached, completion, version = look_up(columns, weight, width=4)
    return np.stack([computed, cached, completion, np.zeros_like(version)]), version


def work_of(weights: I64, amounts: I64) -> I64:
    """Return work in thousandths: floor(weights . thousandths of amounts / 1000), without large products.

    It is never below 0: where more was taken back than is stored, the tokens show it.
    """
    units, thousandths = np.divmod(amounts[COMPUTED_M : REQUEST_MS + 1], 1000)
    work: I64 = (weights * units).sum(axis=0) + (weights * thousandths).sum(axis=0) // 1000
    return np.maximum(work, 0)
