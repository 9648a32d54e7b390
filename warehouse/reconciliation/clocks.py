"""Clocks: of two sources that count the same at different times, the one that is shifted. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from warehouse.reconciliation.differences import typical
from warehouse.reconciliation.judged_pair import JudgedPair
from warehouse.reconciliation.witnesses import REQUESTS, Discrepancy, DiscrepancyKind


def agreed_clocks(findings: list[Discrepancy], judged: Sequence[JudgedPair]) -> list[Discrepancy]:
    """Return the findings with one source for all shifts of a cluster: a clock is not a workload's.

    The difference of both sources is what the first has and the workloads' energy has not, or else the second.
    """
    sums: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in judged:
        pair = one.pair
        if pair.quantity == REQUESTS and not (pair.subject.tenant or one.bursty) and one.known:
            shared, total = _shared_with_energy(one)
            of = sums[pair.subject.cluster, pair.first, pair.second]
            of[0], of[1] = of[0] + shared, of[1] + total
    return [
        replace(finding, source=finding.first if of[0] > 0.5 * of[1] else finding.second)
        if finding.kind is DiscrepancyKind.SHIFTED and (of := sums[_sources(finding)])[1]
        else finding
        for finding in findings
    ]


def _sources(finding: Discrepancy) -> tuple[str, str, str]:
    return finding.subject.cluster, finding.first, finding.second


def _shared_with_energy(one: JudgedPair) -> tuple[float, float]:
    """Return how much of the sources' difference is what energy does not explain of the first, and all of it."""
    past = np.arange(int(one.recent[0])) if len(one.recent) else one.recent
    if one.reference is None or len(past) < 24 or not one.reference[past].any():
        return 0.0, 0.0
    energy = one.reference / one.reference[past].max()
    curve = np.stack([np.ones(len(energy)), energy, energy**2], axis=1)
    fit, _, _, _ = np.linalg.lstsq(curve[past], (one.a[past] + one.b[past]) / 2, rcond=1e-9)
    difference, left = (one.a - one.b)[one.recent], (one.a - curve @ fit)[one.recent]
    scale = typical(one.b) ** 2
    return float(difference @ left) / scale, float(difference @ difference) / scale
