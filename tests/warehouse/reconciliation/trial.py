"""Trials of the judge on the simulated fleet: one fault a day after it began, and clean days."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.warehouse.reconciliation import faults, fleet
from warehouse.reconciliation.judgement import judge
from warehouse.reconciliation.witnesses import Discrepancy, Pair, Relation, Subject, Witnesses

CLUSTER = "eu"
WINDOW_H = 192
CLEAN_DAYS = 30
EVERY_H = 6
"""Hours between two judgements of clean days."""


def findings_of(name: str, seed: int) -> list[Discrepancy]:
    """Return what is found within 24 hours of a fault's beginning, at any hour of the fourth day.

    Seven seeds begin on seven days of the week.
    """
    onset_h = int(np.random.default_rng([seed, 7]).integers(3 * 24, 4 * 24))
    now_h = onset_h + 25  # The fault begins within the hour `onset_h`.
    return judge(_witnesses(fleet.build(seed, now_h // 24 + 1, name, onset_h), now_h, seed))


def named(name: str, findings: list[Discrepancy]) -> bool:
    """Return True if a finding has the fault's kind and source, and is about whom it befell."""
    fault = faults.FAULTS[name]
    return any(
        (finding.kind, finding.source) == (fault.kind, fault.source)
        and (not fault.subjects or finding.subject.workload in fault.subjects)
        for finding in findings
    )


def false_alarms(seed: int, days: int = CLEAN_DAYS) -> Iterator[tuple[int, Discrepancy]]:
    """Yield (hour, finding) of clean days, judged every `EVERY_H` hours."""
    view = fleet.build(seed, days)
    for now_h in range(48, 24 * days + 1, EVERY_H):
        for finding in judge(_witnesses(view, now_h, seed)):
            yield now_h, finding


def _witnesses(view: fleet.View, now_h: int, seed: int) -> Witnesses:
    known = fleet.late(view, now_h, seed)
    series = {key: column[-WINDOW_H:] for key, column in known.series.items()}
    parts = {key: column[-WINDOW_H:] for key, column in known.parts.items()}
    empty = np.zeros(len(next(iter(series.values()))))

    def pair(first: str, second: str, relation: Relation, key: fleet.Key) -> Pair:
        a, b = key._replace(source=first), key._replace(source=second)
        return Pair(
            Subject(CLUSTER, key.subject, key.tenant), key.quantity, relation, first, second,
            a=series.get(a, empty), b=series.get(b, empty),
            a_parts=parts.get((first, key.subject)), b_parts=parts.get((second, key.subject)),
        )  # fmt: skip

    tokens = sorted({key._replace(source="") for key in series if key.source in ("ledger", "servers")})
    pairs = [pair("ledger", "servers", Relation.COUNTED, key) for key in tokens]
    for second, first, relation in (
        ("hours", "ledger", Relation.EXACT),
        ("days", "ledger", Relation.EXACT),
        ("watts", "counter", Relation.METERED),
        ("wall", "gpus", Relation.CONTAINED),
    ):
        pairs += [pair(first, second, relation, key) for key in series if key.source == second]
    energy = {Subject(CLUSTER, key.subject): column for key, column in series.items() if key.source == "watts"}
    return Witnesses(pairs, energy)
