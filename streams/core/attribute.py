"""Facts to ledger rows: the rule of DESIGN.md (Attribution), as one pure function over columns.

For one window of one workload and hardware with measured energy E over S GPU-milliseconds:

    idle   = min(E, idle_mw * S)        1 mW x 1 ms = 1 µJ
    active = E - idle                   split over (tenant, model) by work, largest remainder
    work   = weights . (computed, cached, completion) tokens

The parts sum to E exactly; `attribute` asserts it before it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.errors import LedgerError
from contracts.events import Method
from contracts.rows import Table
from contracts.units import I64
from streams.core.policy import Policy
from streams.core.spread import share

Index = npt.NDArray[np.intp]


def _none() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Energy:
    """Measured energy, one row a GPU and window (or any finer rows). Text columns are codes into `Facts`' names."""

    window_start: I64 = field(default_factory=_none)
    subject: I64 = field(default_factory=_none)
    hardware: I64 = field(default_factory=_none)
    owner: I64 = field(default_factory=_none)
    energy_uj: I64 = field(default_factory=_none)
    covered_ms: I64 = field(default_factory=_none)
    method: I64 = field(default_factory=_none)


@dataclass(frozen=True)
class Tokens:
    """Work done, one row a tenant, model and window (or any finer rows).

    `amounts` is (8, n): prompt, cached, completion tokens; computed, cached, completion thousandths of tokens;
    requests; failures.
    """

    window_start: I64 = field(default_factory=_none)
    subject: I64 = field(default_factory=_none)
    tenant: I64 = field(default_factory=_none)
    model: I64 = field(default_factory=_none)
    amounts: I64 = field(default_factory=lambda: np.zeros((8, 0), np.int64))


@dataclass(frozen=True)
class Facts:
    """What was measured and done in some windows. Each names list holds the texts that its codes stand for."""

    subjects: Sequence[tuple[str, str]]
    hardwares: Sequence[str]
    owners: Sequence[str]
    tenants: Sequence[str]
    models: Sequence[str]
    energy: Energy
    tokens: Tokens


PROMPT, CACHED, COMPLETION, COMPUTED_M, CACHED_M, COMPLETION_M, REQUESTS, FAILURES = range(8)


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
    key_of: _Keys


@dataclass(frozen=True)
class _Keys:
    """Codes as ranks in text order, and groups as single integers, so that sorting by key is sorting by name."""

    subject: I64
    tenant: I64
    model: I64
    groups: I64

    def group(self, window_start: I64, subject: I64) -> Index:
        return np.searchsorted(self.groups, window_start * len(self.subject) + self.subject[subject])

    def done(self, group: Index, tenant: I64, model: I64) -> I64:
        key: I64 = (group * len(self.tenant) + self.tenant[tenant]) * len(self.model) + self.model[model]
        return key


def _rank(names: Sequence[object]) -> I64:
    """Code -> rank in text order. At least one entry, so that products of lengths stay usable as keys."""
    rank = np.zeros(max(len(names), 1), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))  # type: ignore[arg-type]
    return rank


def _named(names: Sequence[str], codes: I64) -> list[str]:
    table = np.empty(len(names), object)
    table[:] = names
    return table[codes].tolist()  # type: ignore[no-any-return]


def attribute(facts: Facts, policy: Policy) -> Attribution:
    """Ledger rows of the facts' windows. Independent of the facts' order and of how finely they are cut into rows.

    Raises LedgerError if a group's parts did not sum to what was measured (which would be a defect here).
    """
    e, t = facts.energy, facts.tokens
    n_subjects = max(len(facts.subjects), 1)
    subject_rank = _rank(facts.subjects)
    groups = np.unique(
        np.concatenate(
            [
                e.window_start * n_subjects + subject_rank[e.subject],
                t.window_start * n_subjects + subject_rank[t.subject],
            ]
        )
    )
    keys = _Keys(subject_rank, _rank(facts.tenants), _rank(facts.models), groups)
    metered = _metered(facts, keys, policy)
    done = _done(facts, keys)
    pairs = _pair(facts, metered, done, policy)
    rows = _rows(facts, keys, metered, done, pairs, policy)
    _assert_balanced(metered, rows, keys)
    starts = np.searchsorted(pairs.done, np.arange(len(done.key) + 1))
    return Attribution(
        _table(facts, keys, rows),
        done.key,
        (starts[:-1], starts[1:]),
        pairs.active_uj,
        pairs.idle_uj,
        pairs.weights,
        keys,
    )


def attribute_requests(attribution: Attribution, pieces: Tokens, order: Index) -> tuple[I64, I64]:
    """(active_uj, idle_uj) of each request's piece: its share, by work, of its tenant's rows of that window.

    `order` is the canonical order of the pieces (by request id): equal remainders are served in it. The pieces of a
    (window, workload, tenant, model) sum to the ledger's rows if they are all there.
    """
    a = attribution
    group = a.key_of.group(pieces.window_start, pieces.subject)[order]
    key = a.key_of.done(group, pieces.tenant[order], pieces.model[order])
    row = np.searchsorted(a.done_key, key)
    first, last = a.pairs_of[0][row], a.pairs_of[1][row]
    piece, pair = _expand(first, last - first)
    weight = (a.weights[:, pair] * pieces.amounts[COMPUTED_M : COMPLETION_M + 1, order][:, piece]).sum(axis=0)
    out = []
    for energy_uj in (a.active_uj, a.idle_uj):
        part = np.zeros(len(order), np.int64)
        np.add.at(part, order[piece], share(energy_uj, pair, weight))
        out.append(part)
    return out[0], out[1]


@dataclass(frozen=True)
class _Metered:
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


def _metered(facts: Facts, keys: _Keys, policy: Policy) -> _Metered:
    e = facts.energy
    hw_rank, owner_rank = _rank(facts.hardwares), _rank(facts.owners)
    key = keys.group(e.window_start, e.subject) * len(hw_rank) + hw_rank[e.hardware]
    unique, at, inverse = np.unique(key, return_index=True, return_inverse=True)
    n = len(unique)
    energy_uj, covered_ms = np.zeros(n, np.int64), np.zeros(n, np.int64)
    method, owner = np.zeros(n, np.int64), np.zeros(n, np.int64)
    np.add.at(energy_uj, inverse, e.energy_uj)
    np.add.at(covered_ms, inverse, e.covered_ms)
    np.maximum.at(method, inverse, e.method)
    np.maximum.at(owner, inverse, owner_rank[e.owner])
    hardware, window_start, group = e.hardware[at], e.window_start[at], unique // len(hw_rank)
    floor = _look_up([hardware, window_start], lambda h, w: policy.floor(facts.hardwares[h], w), 2)
    free = np.array([topics.is_unallocated(workload) for _, workload in facts.subjects] or [False])
    first = np.searchsorted(group, np.arange(len(keys.groups) + 1))
    return _Metered(
        group, hardware, window_start, energy_uj, np.minimum(energy_uj, floor[0] * covered_ms), method,
        np.argsort(owner_rank)[owner], floor[1], free[e.subject[at]], first[:-1], np.diff(first),
    )  # fmt: skip


@dataclass(frozen=True)
class _Done:
    """Tokens per (group, tenant, model), in order of their names. `key` orders and identifies them."""

    key: I64
    group: Index
    window_start: I64
    tenant: I64
    model: I64
    amounts: I64


def _done(facts: Facts, keys: _Keys) -> _Done:
    t = facts.tokens
    group = keys.group(t.window_start, t.subject)
    key, at, inverse = np.unique(keys.done(group, t.tenant, t.model), return_index=True, return_inverse=True)
    amounts = np.zeros((8, len(key)), np.int64)
    for i in range(8):
        np.add.at(amounts[i], inverse, t.amounts[i])
    return _Done(key, group[at], t.window_start[at], t.tenant[at], t.model[at], amounts)


@dataclass(frozen=True)
class _Pairs:
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


def _pair(facts: Facts, m: _Metered, d: _Done, policy: Policy) -> _Pairs:
    usable = np.ones(len(m.first), np.bool_)
    usable[m.group] = ~m.unallocated
    done, metered = _expand(m.first[d.group], np.where(usable[d.group], m.count[d.group], 0))
    looked_up = _look_up(
        [d.model[done], m.hardware[metered], d.window_start[done]],
        lambda model, h, w: policy.weight(facts.models[model], facts.hardwares[h], w),
        4,
    )
    weights = looked_up[:3]
    work = (weights * d.amounts[COMPUTED_M : COMPLETION_M + 1, done]).sum(axis=0) // 1000
    total = np.zeros(len(m.group), np.int64)
    np.add.at(total, metered, work)
    worked = total > 0
    active = share(np.where(worked, m.energy_uj - m.idle_uj, 0), metered, work)
    idle = share(np.where(worked, m.idle_uj, 0), metered, work) if policy.idle == "by-work" else np.zeros_like(active)
    amounts = d.amounts[:, done]
    several = m.count[m.group[metered]] > 1
    if several.any():
        amounts, work = _divide_by_energy(m, d, done, metered, several, work)
    return _Pairs(done, metered, weights, looked_up[3], active, idle, amounts, work, worked)


def _divide_by_energy(
    m: _Metered, d: _Done, done: Index, metered: Index, several: npt.NDArray[np.bool_], work: I64
) -> tuple[I64, I64]:
    """Rule 5: with several hardware types, tokens and work are divided over them as their energy is."""
    by_energy = np.maximum(m.energy_uj[metered], 1)
    amounts = np.stack([share(d.amounts[i], done, by_energy) for i in range(8)])
    whole = np.zeros(len(d.key), object)
    np.add.at(whole, done, by_energy.astype(object))
    divided = work.copy()
    at = np.flatnonzero(several)
    divided[at] = (work[at].astype(object) * by_energy[at].astype(object) // whole[done[at]]).astype(np.int64)
    return amounts, divided


@dataclass(frozen=True)
class _Rows:
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


def _rows(facts: Facts, keys: _Keys, m: _Metered, d: _Done, p: _Pairs, policy: Policy) -> _Rows:
    """Tenants' rows, then those without energy, then what nobody's work bears. -1 stands for the names added here."""
    rest = m.energy_uj.copy()
    np.subtract.at(rest, p.metered, p.active_uj + p.idle_uj)
    bare = np.flatnonzero((rest > 0) | m.unallocated | ~p.worked)
    paired = np.zeros(len(d.key), np.bool_)
    paired[p.done] = True
    unmetered = np.flatnonzero(~paired)
    weights = _look_up(
        [d.model[unmetered], d.window_start[unmetered]], lambda i, w: policy.weight(facts.models[i], "", w), 4
    )
    unmetered_work = (weights[:3] * d.amounts[COMPUTED_M : COMPLETION_M + 1, unmetered]).sum(axis=0) // 1000

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
    return _Rows(
        group=np.concatenate([d.group[p.done], d.group[unmetered], m.group[bare]]),
        hardware=np.concatenate([m.hardware[p.metered], none_un - 1, m.hardware[bare]]),
        tenant=np.concatenate([d.tenant[p.done], d.tenant[unmetered], payer]),
        model=np.concatenate([d.model[p.done], d.model[unmetered], none_bare - 1]),
        energies=energies,
        amounts=np.concatenate([p.amounts, d.amounts[:, unmetered], np.zeros((8, n_bare), np.int64)], axis=1),
        work=np.concatenate([p.work, unmetered_work, none_bare]),
        method=np.concatenate([m.method[p.metered], none_un + Method.UNMETERED, m.method[bare]]),
        weights_version=np.concatenate([p.weights_version, weights[3], none_bare]),
        floor_version=np.concatenate([m.floor_version[p.metered], none_un, m.floor_version[bare]]),
    )


def _assert_balanced(m: _Metered, rows: _Rows, keys: _Keys) -> None:
    measured = np.zeros(len(keys.groups), np.int64)
    np.add.at(measured, m.group, m.energy_uj)
    charged = np.zeros(len(keys.groups), np.int64)
    np.add.at(charged, rows.group, rows.energies.sum(axis=0))
    if (measured != charged).any() or (rows.energies < 0).any():
        at = int(np.argmax(measured != charged))
        raise LedgerError(f"attribution lost energy: {measured[at]} uJ measured, {charged[at]} uJ charged in a window")


def _table(facts: Facts, keys: _Keys, rows: _Rows) -> Table:
    tenants = [*facts.tenants, topics.TENANT_UNALLOCATED, topics.TENANT_IDLE, *facts.owners]
    hardwares, models = [*facts.hardwares, ""], [*facts.models, ""]
    order = np.lexsort(
        (_rank(models)[rows.model], _rank(tenants)[rows.tenant], _rank(hardwares)[rows.hardware], rows.group)
    )
    group = keys.groups[rows.group[order]]
    by_rank = np.argsort(keys.subject[: len(facts.subjects)])
    subject = by_rank[group % max(len(facts.subjects), 1)] if len(group) else group
    amounts = rows.amounts[:, order]
    return {
        "window_start": group // max(len(facts.subjects), 1),
        "cluster": _named([c for c, _ in facts.subjects], subject),
        "workload": _named([w for _, w in facts.subjects], subject),
        "hardware": _named(hardwares, rows.hardware[order]),
        "model": _named(models, rows.model[order]),
        "tenant": _named(tenants, rows.tenant[order]),
        "active_uj": rows.energies[0, order], "idle_uj": rows.energies[1, order], "unallocated_uj": rows.energies[2, order],
        "prompt_tokens": amounts[PROMPT], "cached_tokens": amounts[CACHED], "completion_tokens": amounts[COMPLETION],
        "work": rows.work[order], "requests": amounts[REQUESTS], "failures": amounts[FAILURES],
        "method": rows.method[order], "weights_version": rows.weights_version[order], "floor_version": rows.floor_version[order],
    }  # fmt: skip


def _expand(first: Index, count: Index) -> tuple[Index, Index]:
    """Row i stands for first[i], first[i]+1, ... count[i] of them: (i repeated, those numbers)."""
    row = np.repeat(np.arange(len(first), dtype=np.intp), count)
    start = np.cumsum(count) - count
    return row, first[row] + (np.arange(len(row), dtype=np.intp) - start[row])


def _look_up(columns: list[I64], ask: object, width: int) -> I64:
    """`ask(*codes)` for each distinct row of `columns`, spread back over all rows: (width, n)."""
    n = len(columns[0])
    if not n:
        return np.zeros((width, 0), np.int64)
    distinct, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    answers = np.array([ask(*map(int, codes)) for codes in distinct.T], np.int64).T  # type: ignore[operator]
    return answers.reshape(width, -1)[:, inverse.reshape(-1)]
