"""Periods of billing: open, provisional, closed. A closing freezes lines and references; a reopening leaves a trail.

Periods are closed in their order, and only the last closed one can be reopened: a later one may mend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from contracts.errors import BadInput
from contracts.units import rfc3339
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import Time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
State = Literal["closed", "reopened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodStep:
    """One closing or reopening of a period: who did it, when, and what it froze."""

    period: str
    step: int
    state: State
    period_start: Time
    period_end: Time
    time_zone: str
    at: Time
    actor: str
    reason: str
    book_version: int
    lines: int
    lines_sha256: str
    audit_head: str
    cluster_aliases: dict[str, str] = field(default_factory=dict)

    @property
    def span(self) -> Period:
        """The time that is billed."""
        return Period(self.period_start, self.period_end, self.time_zone)


def list_steps(warehouse: Warehouse | LedgerReader) -> list[PeriodStep]:
    """Return all closings and reopenings, by period and step."""
    return [PeriodStep(**row) for row in warehouse.ask("billing/periods")]


def closed_periods(steps: Sequence[PeriodStep]) -> dict[str, PeriodStep]:
    """Return the last closing of each period that is closed now, in the order of time."""
    last = {step.period: step for step in steps}
    closed = [step for step in last.values() if step.state == "closed"]
    return {step.period: step for step in sorted(closed, key=lambda step: step.period_start)}


def check_may_close(steps: Sequence[PeriodStep], name: str, period: Period) -> int:
    """Return the number of the step that closes a period.

    Raises BadInput if it is closed, or does not begin where the last closed one ends. The first may be any.
    """
    closed = closed_periods(steps)
    if name in closed:
        raise BadInput("period", name, "it is closed; `wattlog bill` shows it, `wattlog reopen` opens it again")
    if closed:
        last = list(closed.values())[-1]
        if period.start < last.period_end:
            fix = f"it overlaps or lies before {last.period}, which is closed: periods are closed in their order"
            raise BadInput("period", name, fix)
        if period.start > last.period_end:
            fix = f"{last.period} ends at {rfc3339(last.period_end)}: close what follows it first"
            raise BadInput("period", name, fix)
    return 1 + max((step.step for step in steps if step.period == name), default=0)


def check_may_reopen(steps: Sequence[PeriodStep], name: str) -> PeriodStep:
    """Return the closing that a reopening takes back. Raises BadInput unless it is the last closed period."""
    closed = closed_periods(steps)
    if name not in closed:
        raise BadInput("period", name, f"it is not closed; closed: {', '.join(closed) or 'none'}")
    last = list(closed)[-1]
    if last != name:
        raise BadInput("period", name, f"{last} is closed after it, and may mend it: reopen {last} first")
    return closed[name]


def put_step(warehouse: Warehouse, step: PeriodStep) -> None:
    """Store a step: the last write of a closing, from which on it counts."""
    row = asdict(step)
    for name in ("period_start", "period_end", "at"):
        row[name] = _EPOCH + timedelta(milliseconds=row[name])
    warehouse.insert_rows("billing_periods", [row])


def freeze_references(warehouse: Warehouse, period: str, step: int) -> None:
    """Keep the prices and tenants of today for a step of a period that does not count yet. Safe to repeat."""
    for name in (
        "billing/forget_prices",
        "billing/freeze_prices",
        "billing/forget_tenants",
        "billing/freeze_tenants",
    ):
        warehouse.execute(name, closed_period=period, closed_step=step)
