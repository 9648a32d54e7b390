"""Judgement: what is wrong with pairs of series, and which source is the likely cause. Pure.

Each pair is judged over its last RECENT_H settled hours. Where both sources could be wrong, the one is to blame that
left its own past: its ratio to a reference (the energy of the workload, else itself a day before) has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from warehouse.reconciliation.clocks import agreed_clocks
from warehouse.reconciliation.differences import best_shift, constant_ratio, typical
from warehouse.reconciliation.judged_pair import PAST_H, RECENT_H, SETTLE_H, JudgedPair, missing_part, per_request
from warehouse.reconciliation.signatures import cached, leaking, several_answers, swapped
from warehouse.reconciliation.witnesses import (
    CACHED,
    COMPLETION,
    ENERGY,
    F64,
    REQUESTS,
    Discrepancy,
    DiscrepancyKind,
    Pair,
    Relation,
    Subject,
    Witnesses,
)

MOVED = 0.06
"""Share of a day's amount that a shift may move out of the day."""
LEAST_LAG_H, LAG_ERRORS = 1 / 9, 6.0
FACTORS = (1e3, 1e6, 1e9, 60.0, 3600.0, 1024.0)
LEAST_FACTOR = 2.5
"""Constant ratio of two energies that is a wrong unit or the number of parts: nothing else multiplies joules."""
EVERYWHERE = "*"
"""Workload of a finding about a whole cluster."""


def judge(witnesses: Witnesses) -> list[Discrepancy]:
    """Return what is wrong at the end of the series: at most one finding of each kind for each subject and source."""
    judged = [JudgedPair(pair, witnesses) for pair in witnesses.pairs]
    per_request(judged)
    findings = [*_exact(judged), *_mappings(judged)]
    mapped = {
        subject for f in findings if f.kind is DiscrepancyKind.MAPPING for subject in (f.subject, f.other) if subject
    }
    by_subject: dict[tuple[Subject, str], list[JudgedPair]] = defaultdict(list)
    for one in judged:
        if one.pair.relation is not Relation.EXACT and not _within(one.pair.subject, mapped):
            by_subject[one.pair.subject, one.pair.second].append(one)
    for group in by_subject.values():
        findings += _of_subject(group)
    return _pooled(judged, agreed_clocks(findings, judged))


def _within(subject: Subject, mapped: set[Subject]) -> bool:
    return subject in mapped or subject._replace(tenant="") in mapped


def _exact(judged: Sequence[JudgedPair]) -> Iterator[Discrepancy]:
    """Yield differences of tables that were computed from each other: none is small enough."""
    for one in judged:
        pair = one.pair
        if pair.relation is not Relation.EXACT:
            continue
        off = one.recent[pair.a[one.recent] != pair.b[one.recent]]
        if not len(off):
            continue
        one.gross = off
        a, b = one.sums
        ratio = constant_ratio(pair.a[off], pair.b[off])
        doubled = ratio is not None and abs(ratio - 0.5) < 0.02
        yield one.finding(
            DiscrepancyKind.DOUBLED if doubled else DiscrepancyKind.LOST if b < a else DiscrepancyKind.EXCESS,
            pair.second,
        )


def _mappings(judged: Sequence[JudgedPair]) -> Iterator[Discrepancy]:
    """Yield names under which another name's amounts are counted: what one lacks, another has too much of."""
    for by_tenant in (False, True):
        for quantity in (REQUESTS, COMPLETION):
            series = [
                one
                for one in judged
                if one.pair.relation is Relation.COUNTED
                and one.pair.quantity == quantity
                and bool(one.pair.subject.tenant) == by_tenant
            ]
            moves = list(_moves(series))
            yield from moves
            if moves:
                break


def _moves(series: Sequence[JudgedPair]) -> Iterator[Discrepancy]:
    for one in series:
        lack = one.b[one.recent] - one.a[one.recent]
        if len(one.gross) < 2 or lack.sum() <= 0:
            continue
        for other in series:
            if other is one or (one.pair.subject.tenant and one.pair.subject[:2] != other.pair.subject[:2]):
                continue
            excess = other.a[other.recent] - other.b[other.recent]
            if excess.sum() <= 0 or abs(excess.sum() - lack.sum()) > 0.1 * lack.sum():
                continue
            if np.std(lack) > 0 and np.std(excess) > 0 and np.corrcoef(lack, excess)[0, 1] > 0.9:
                source = one.culprit() or one.pair.first
                yield one.finding(DiscrepancyKind.MAPPING, source, other=other.pair.subject)
                break


def _of_subject(group: Sequence[JudgedPair]) -> list[Discrepancy]:
    """Return the findings of one subject by two sources: the most telling kind, with all quantities that show it."""
    of = {one.pair.quantity: one for one in group}
    if (several := several_answers(of)) is not None:
        return [several]
    findings = [
        finding
        for finding in (
            swapped(of),
            cached(of),
            _shifted(of),
            *(_gross(one) for one in group if one.pair.quantity != CACHED),
        )
        if finding is not None
    ]
    if not findings:
        findings = [finding for one in group if (finding := leaking(one)) is not None and one.pair.quantity != CACHED]
    if not findings:
        return []
    order = list(DiscrepancyKind)
    best = min(findings, key=lambda finding: order.index(finding.kind))
    same = [f for f in findings if (f.kind, f.source) == (best.kind, best.source)]
    return [replace(best, quantities=tuple(dict.fromkeys(q for f in same for q in f.quantities)))]


def _shifted(of: dict[str, JudgedPair]) -> Discrepancy | None:
    """Return the finding where one series is the other at another time. Requests are counted at their end by both."""
    one = of.get(REQUESTS) or of.get(COMPLETION)
    if one is None or one.pair.relation is not Relation.COUNTED:
        return None
    a, b = one.a[one.recent], one.b[one.recent]
    if min(a.sum(), b.sum()) < 0.2 * max(a.sum(), b.sum()) or typical(a) < 20:
        return None
    fit = one.leak
    if fit is None:
        return None
    start = int(one.gross[0]) if len(one.gross) else int(one.recent[0])
    n = len(one.a)
    shift, error, unshifted = best_shift(one.a[start:], one.b) if n - start >= 10 else (0.0, 1.0, 1.0)
    far = len(one.gross) >= 2 and abs(shift) >= 0.25 and error < 0.2 and error < 0.5 * unshifted
    near = abs(fit.lag_h) > LEAST_LAG_H and abs(fit.lag_h) > LAG_ERRORS * fit.lag_error_h and abs(fit.lag_h) < 1
    stays = not len(one.gross) or abs(fit.in_a_day) < MOVED * float(one.b[-24:].sum())
    far = far and error < 0.5 * _error_of_scale(one.a[start:], one.b[start:])
    if not far and not (near and stays and not _has_empty_hour(one)):
        return None
    behind_h = shift if far else -fit.lag_h
    return one.finding(DiscrepancyKind.SHIFTED, one.pair.first, hours_shifted=behind_h)


def _has_empty_hour(one: JudgedPair) -> bool:
    """Return True where one source has nothing of an hour that differs: less than an hour's shift empties none."""
    a, b = one.a[one.gross], one.b[one.gross]
    return bool(np.any(np.minimum(a, b) <= 0.001 * np.maximum(a, b)))


def _error_of_scale(a: F64, b: F64) -> float:
    """Return the error that is left where a series is taken for a constant share of the other."""
    ratio = float(a.sum()) / max(float(b.sum()), 1.0)
    return float(np.abs(a - ratio * b).sum()) / max(float(np.maximum(a, ratio * b).sum()), 1.0)


def _gross(one: JudgedPair) -> Discrepancy | None:
    """Return what the gross hours of a pair say."""
    at = one.gross
    if not len(at):
        return None
    a, b = one.a[at], one.b[at]
    is_energy = one.pair.quantity == ENERGY  # A wrong unit makes energy as small as you like.
    for mine, other, name in ((one.a, b, one.pair.first), (one.b, a, one.pair.second)):
        past = float(np.median(mine[: at[0]])) if at[0] else 0.0
        if np.mean((mine[at] <= (0 if is_energy else 0.0002) * other) & (mine[at] <= 0.001 * past)) >= 0.6:
            return one.finding(DiscrepancyKind.SILENT, name)
    if (source := missing_part(one)) is not None:
        return one.finding(DiscrepancyKind.MISSING, source)
    if one.pair.relation is Relation.ALONG:
        return one.finding(DiscrepancyKind.FACTOR, one.culprit() or one.pair.second)
    ratio = constant_ratio(a, b)
    culprit = one.culprit()
    if ratio is not None:
        size = max(ratio, 1 / ratio)
        if any(abs(size / factor - 1) < 0.08 for factor in FACTORS) or (is_energy and size > LEAST_FACTOR):
            return one.finding(DiscrepancyKind.FACTOR, culprit or one.pair.first)
        if abs(size - 2) < 0.12 and culprit in (None, one.more()):
            return one.finding(DiscrepancyKind.DOUBLED, one.more())
    if one.pair.relation in (Relation.CONTAINED, Relation.PART) and one.pair.a[at].sum() > b.sum():
        return one.finding(DiscrepancyKind.EXCESS, one.pair.first)
    far = culprit is None and max(a.sum(), b.sum()) > 5 * min(a.sum(), b.sum())
    if far or culprit == one.more():
        kind = DiscrepancyKind.DOUBLED if a.sum() < 1.9 * b.sum() < 3.61 * a.sum() else DiscrepancyKind.EXCESS
        return one.finding(kind, one.more())
    return one.finding(DiscrepancyKind.LOST, one.less())


def _pooled(judged: Sequence[JudgedPair], findings: list[Discrepancy]) -> list[Discrepancy]:
    """Return the findings, with what only shows in the sum over a cluster's workloads that have no finding."""
    named = {finding.subject._replace(tenant="") for finding in findings}
    named |= {finding.other._replace(tenant="") for finding in findings if finding.other}
    pools: dict[tuple[str, str, str, str], list[JudgedPair]] = defaultdict(list)
    for one in judged:
        pair = one.pair
        counted = pair.relation is Relation.COUNTED and pair.quantity != CACHED and one.known
        is_new = one.begins > len(one.a) - PAST_H - RECENT_H
        if counted and not pair.subject.tenant and pair.subject not in named and not len(one.gross) and not is_new:
            pools[pair.subject.cluster, pair.quantity, pair.first, pair.second].append(one)
    for (cluster, quantity, first, second), members in pools.items():
        if quantity != REQUESTS and (cluster, REQUESTS, first, second) in pools:
            continue
        unsettled = np.zeros(SETTLE_H)  # A pair's newest hours are left out, and the members' are already.
        a = np.append(np.sum([one.a for one in members], axis=0), unsettled)
        b = np.append(np.sum([one.b for one in members], axis=0), unsettled)
        total = Pair(Subject(cluster, EVERYWHERE), quantity, Relation.COUNTED, first, second, a=a, b=b)
        if len(members) > 1 and (finding := leaking(JudgedPair(total, Witnesses([])))) is not None:
            findings.append(finding)
    return findings
