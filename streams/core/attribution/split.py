"""Energy per hardware, work per tenant, and the one split by the other: rules 1, 2 and 5 of DESIGN.md (Attribution)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.units import I64
from streams.core.apportion import apportion_each
from streams.core.attribution.facts import AMOUNTS, COMPLETION_M, COMPUTED_M, Facts, Index
from streams.core.attribution.grouping import GroupKeys, distinct, expand, look_up, rank
from streams.core.attribution.policy import Policy


@dataclass(frozen=True)
class HardwareEnergy:
    """Energy per (group, hardware), in order of group and hardware's name."""

    group: Index
    hardware: I64
    window_start: I64
    energy_uj: I64
    idle_uj: I64
    method: I64
    owner: I64
    floor_version: I64
    unallocated: npt.NDArray[np.bool_]
    first: Index
    """Per group: its first row here."""
    count: Index


def energy_by_hardware(facts: Facts, keys: GroupKeys, policy: Policy) -> HardwareEnergy:
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
    floor = look_up([hardware, window_start], lambda h, w: policy.floor(facts.hardwares[h], w), 2)
    free = np.array([topics.is_unallocated(workload) for _, workload in facts.subjects] or [False])
    first = np.searchsorted(group, np.arange(len(keys.groups) + 1))
    return HardwareEnergy(
        group, hardware, window_start, energy_uj, np.minimum(energy_uj, floor[0] * covered_ms), method,
        np.argsort(owner_rank)[owner], floor[1], free[e.subject[at]], first[:-1], np.diff(first),
    )  # fmt: skip


@dataclass(frozen=True)
class TenantWork:
    """Tokens per (group, tenant, model), in order of their names. `key` orders and identifies them."""

    key: I64
    of_tokens: Index
    """Which of them each row of `Facts.tokens` is part of."""
    group: Index
    window_start: I64
    tenant: I64
    model: I64
    amounts: I64


def work_by_tenant(facts: Facts, keys: GroupKeys) -> TenantWork:
    t = facts.tokens
    group = keys.of_tokens
    key, at, inverse = distinct(keys.done(group, t.tenant, t.model))
    amounts = np.zeros((len(AMOUNTS), len(key)), np.int64)
    for total, amount in zip(amounts, t.amounts, strict=True):
        np.add.at(total, inverse, amount)
    return TenantWork(key, inverse, group[at], t.window_start[at], t.tenant[at], t.model[at], amounts)


@dataclass(frozen=True)
class EnergySplit:
    """Each (tenant, model) with each hardware type that its group's energy was measured on."""

    done: Index
    metered: Index
    weights: I64
    weights_version: I64
    active_uj: I64
    idle_uj: I64
    amounts: I64
    work: I64
    worked: npt.NDArray[np.bool_]
    """Per metered row: whether anybody's work was there to bear it."""


def split_energy_over_tenants(facts: Facts, m: HardwareEnergy, d: TenantWork, policy: Policy) -> EnergySplit:
    usable = np.ones(len(m.first), np.bool_)
    usable[m.group] = ~m.unallocated
    done, metered = expand(m.first[d.group], np.where(usable[d.group], m.count[d.group], 0))
    looked_up = look_up(
        [d.model[done], m.hardware[metered], d.window_start[done]],
        lambda model, h, w: policy.weight(facts.models[model], facts.hardwares[h], w),
        4,
    )
    weights = looked_up[:3]
    amounts = d.amounts.take(done, axis=1)
    work = work_of(weights, amounts)
    total = np.zeros(len(m.group), np.int64)
    np.add.at(total, metered, work)
    worked = total > 0
    idle_uj = np.where(worked & (policy.idle == "by-work"), m.idle_uj, 0)
    active, idle = apportion_each((np.where(worked, m.energy_uj - m.idle_uj, 0), idle_uj), metered, work)
    several = m.count[m.group[metered]] > 1
    if several.any():
        amounts, work = _divide_by_energy(m, d, done, metered, several, work)
    return EnergySplit(done, metered, weights, looked_up[3], active, idle, amounts, work, worked)


def _divide_by_energy(
    m: HardwareEnergy, d: TenantWork, done: Index, metered: Index, several: npt.NDArray[np.bool_], work: I64
) -> tuple[I64, I64]:
    """Rule 5: with several hardware types, tokens and work are divided over them as their energy is."""
    by_energy = np.maximum(m.energy_uj[metered], 1)
    amounts = np.stack(apportion_each(d.amounts, done, by_energy))
    whole = np.zeros(len(d.key), object)
    np.add.at(whole, done, by_energy.astype(object))
    divided = work.copy()
    at = np.flatnonzero(several)
    divided[at] = (work[at].astype(object) * by_energy[at].astype(object) // whole[done[at]]).astype(np.int64)
    return amounts, divided


def work_of(weights: I64, amounts: I64) -> I64:
    """Work in thousandths: floor(weights . thousandths of tokens / 1000), never multiplying the thousandths whole."""
    whole, rest = np.divmod(amounts[COMPUTED_M : COMPLETION_M + 1], 1000)
    work: I64 = (weights * whole).sum(axis=0) + (weights * rest).sum(axis=0) // 1000
    return work
