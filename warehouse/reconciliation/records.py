"""Keeps comparisons and findings as rows, and reads them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from contracts.units import MS_PER_HOUR
from warehouse.client import Warehouse
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period, newest
from warehouse.reader import LedgerReader
from warehouse.reconciliation.judged_pair import RECENT_H, SETTLE_H
from warehouse.reconciliation.judgement import judge
from warehouse.reconciliation.reads import WINDOW_H, read_witnesses
from warehouse.reconciliation.witnesses import Discrepancy, Witnesses
from warehouse.reconciliation.words import say
from warehouse.results import Time

KEPT_H = RECENT_H + SETTLE_H
"""Hours that a run stores: those that it judged, and those that are not settled."""
MAX_FINDINGS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALL = Filter()
_FIRST_PAGE = PageRequest()


@dataclass(frozen=True, slots=True)
class ReconciliationFinding:
    """Finding of a run: `kind` is lost, doubled, excess, factor, cached, swapped, shifted, silent, missing or mapping.

    `source` is the likely cause, `says` the whole in words. `since` is the first hour that differs, of those judged.
    """

    until: Time
    cluster: str
    workload: str
    tenant: str
    kind: str
    source: str
    quantities: str
    since: Time
    first_source: str
    second_source: str
    first_amount: float
    second_amount: float
    says: str


@dataclass(frozen=True, slots=True)
class ComparedHour:
    """One quantity of an hour as two sources tell it."""

    hour: Time
    cluster: str
    workload: str
    tenant: str
    quantity: str
    first_source: str
    second_source: str
    first_amount: int
    second_amount: int


@dataclass(frozen=True, slots=True)
class Run:
    """The newest run: the end of the hours that it compared, how many pairs, when, and what it found."""

    until: Time | None
    comparisons: int
    run_at: Time | None
    findings: list[ReconciliationFinding]


def reconcile(reader: LedgerReader, now_ms: int) -> Run:
    """Compare and judge the hours before the newest final window, and store rows and findings. For operators."""
    final_end = newest(reader).final_end
    if final_end is None:
        return Run(None, 0, None, [])
    until = final_end // MS_PER_HOUR
    witnesses = read_witnesses(reader, until)
    findings = judge(witnesses)[:MAX_FINDINGS]
    _store(reader.operator_warehouse(), witnesses, findings, until, now_ms)
    return newest_run(reader)


def _store(
    warehouse: Warehouse, witnesses: Witnesses, findings: Sequence[Discrepancy], until: int, now_ms: int
) -> None:
    warehouse.insert_rows("reconciliation", list(_compared(witnesses, until, now_ms)))
    rows = [
        {
            "until": _time(until), **f.subject._asdict(),
            "kind": str(f.kind), "source": f.source, "quantities": ",".join(f.quantities),
            "since": _time(until - WINDOW_H + f.since), "first_source": f.first, "second_source": f.second,
            "first_amount": f.amounts[0], "second_amount": f.amounts[1], "says": say(f),
            "comparisons": len(witnesses.pairs), "version": now_ms,
        }
        for f in findings
    ]  # fmt: skip
    empty = dict.fromkeys(
        ("cluster", "workload", "tenant", "kind", "source", "quantities", "first_source", "second_source", "says"), ""
    )
    run = {
        "until": _time(until), "since": _time(until), **empty, "first_amount": 0.0, "second_amount": 0.0,
        "comparisons": len(witnesses.pairs), "version": now_ms,
    }  # fmt: skip
    names = list(run)
    warehouse.insert_rows("reconciliation_findings", [{name: row[name] for name in names} for row in [run, *rows]])


def _compared(witnesses: Witnesses, until: int, now_ms: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the kept hours in which either source has anything."""
    for pair in witnesses.pairs:
        n = len(pair.a)
        for at in np.flatnonzero((pair.a[-KEPT_H:] != 0) | (pair.b[-KEPT_H:] != 0)) + max(n - KEPT_H, 0):
            yield {
                "hour": _time(until - n + int(at)), "cluster": pair.subject.cluster, "workload": pair.subject.workload,
                "tenant": pair.subject.tenant, "quantity": pair.quantity, "first_source": pair.first,
                "second_source": pair.second, "first_amount": int(pair.a[at]), "second_amount": int(pair.b[at]),
                "version": now_ms,
            }  # fmt: skip


def _time(hour: int) -> datetime:
    return _EPOCH + timedelta(hours=int(hour))


def newest_run(reader: LedgerReader) -> Run:
    """Return the newest stored run. For operators."""
    rows = reader.ask("reconciliation/newest_run", limit=MAX_FINDINGS + 1)
    if not rows:
        return Run(None, 0, None, [])
    findings = [
        ReconciliationFinding(**{name: row[name] for name in ReconciliationFinding.__dataclass_fields__})
        for row in rows
        if row["kind"]
    ]
    return Run(rows[0]["until"], rows[0]["comparisons"], rows[0]["run_at"], findings)


def compared_hours(
    reader: LedgerReader, period: Period, filter: Filter = _ALL, page: PageRequest = _FIRST_PAGE
) -> Page[ComparedHour]:
    """Return stored comparisons of a period, oldest first. For operators."""
    question = ("reconciliation", period, filter)
    after = page.after(question, [int, str, str, str, str, str, str])
    names = (
        "after_ms",
        "after_cluster",
        "after_workload",
        "after_tenant",
        "after_quantity",
        "after_first",
        "after_second",
    )
    cut: dict[str, Any] = dict(zip(names, after or [-1, "", "", "", "", "", ""], strict=True))
    rows = reader.ask(
        "reconciliation/compared_hours", filter, start_ms=period.start, end_ms=period.end, limit=page.limit + 1, **cut
    )
    return page.cut(
        question,
        [ComparedHour(**row) for row in rows],
        lambda r: [r.hour, r.cluster, r.workload, r.tenant, r.quantity, r.first_source, r.second_source],
    )
