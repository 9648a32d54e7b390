"""Windows behind a line of a bill: where its energy and tokens were, at the prices that the line was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.line_items import LineItem
from billing.quantities import LEDGER_METERS
from contracts.events import Method
from contracts.units import EpochMs
from warehouse.billing.bill_lines import ClosedLines
from warehouse.billing.periods import PeriodStep, closed_periods, list_steps
from warehouse.chargeback.pricing import KINDS, UNMETERED, ClusterPrices, price_energy
from warehouse.chargeback.references import CURRENT, frozen, prices_between
from warehouse.filters import Filter
from warehouse.reader import LedgerReader
from warehouse.results import METHODS, Amount, Time

MAX_WINDOWS = 10
"""Windows that are listed, the largest first; `windows` says how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineWindow:
    """A window of a line. `cost` is that of its energy, also of a line of tokens; null where it is unknown."""

    window_start: Time
    window_end: Time
    energy_uj: int
    tariff: Amount | None
    pue: Amount | None
    cost: Amount | None
    currency: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    requests: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineWindows:
    """The largest windows of a line, their number and the energy of all of them, as the ledger has them today.

    It is that of an electricity line, unless facts came late or its tenant moved to another team inside the period.
    """

    windows: int
    energy_uj: int
    largest: list[LineWindow]


def find_closed_line(reader: LedgerReader, line_id: str) -> tuple[LineItem, PeriodStep] | None:
    """Return a line of a closed period by its id, with its closing; of several periods, the newest's."""
    closings = {f"{step.period} {step.step}": step for step in closed_periods(list_steps(reader)).values()}
    for row in reader.ask("billing/closed_line", line_id=line_id, closings=list(closings)):
        step = closings[f"{row['period']} {row['step']}"]
        for line in ClosedLines(reader, step):
            if line.line_id == line_id:
                return line, step
    return None


def line_windows(reader: LedgerReader, line: LineItem, step: PeriodStep | None) -> LineWindows | None:
    """Return the windows of a line of a closing, or of a draft (None); None for what is not made of windows.

    Fees, grants, taxes and metered usage are not.
    """
    place = line.place
    if not place.workload or line.meter not in {"energy", *LEDGER_METERS}:
        return None
    if line.corrects:
        step = _closing_at(reader, line.from_ms)
    # A cluster that was renamed since has its former name in that bill.
    reader = reader if step is None else reader.with_aliases(step.cluster_aliases)
    references = CURRENT if step is None else frozen(step.period, step.step)
    rows = reader.ask(
        "billing/line_windows", Filter(tenant=line.tenant, cluster=place.cluster), from_ms=line.from_ms,
        until_ms=line.to_ms, of_workload=place.workload, of_model=place.model, of_hardware=place.hardware,
        limit=MAX_WINDOWS,
    )  # fmt: skip
    prices = prices_between(reader, [place.cluster], line.from_ms, line.to_ms, references)
    return LineWindows(
        windows=rows[0]["windows"] if rows else 0,
        energy_uj=rows[0]["all_energy_uj"] if rows else 0,
        largest=[_window(row, place.cluster, prices) for row in rows],
    )


def _closing_at(reader: LedgerReader, at_ms: int) -> PeriodStep | None:
    """Return the closing of the period that has a time, by whose prices a correction is made."""
    closings = closed_periods(list_steps(reader)).values()
    return next((step for step in closings if step.period_start <= at_ms < step.period_end), None)


def _window(row: Mapping[str, Any], cluster: str, prices: ClusterPrices) -> LineWindow:
    from_ms, until_ms = row["window_start"], row["window_start"] + row["window_ms"]
    applied = {kind: price for kind in KINDS if (price := prices.find(kind, cluster, from_ms, until_ms)[0])}
    values: dict[str, Decimal] = {kind: price.value for kind, price in applied.items()}
    metered = row["method"] != Method.UNMETERED
    money = price_energy(row["energy_uj"], values) if metered else UNMETERED
    return LineWindow(
        window_start=EpochMs(from_ms),
        window_end=EpochMs(until_ms),
        energy_uj=row["energy_uj"],
        tariff=values.get("energy"),
        pue=values.get("pue"),
        cost=money.cost,
        currency=applied["energy"].currency if "energy" in applied else "",
        prompt_tokens=row["prompt_tokens"],
        cached_tokens=row["cached_tokens"],
        completion_tokens=row["completion_tokens"],
        requests=row["requests"],
        method=METHODS[row["method"]],
    )
