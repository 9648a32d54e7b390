"""Bills of periods: drafts of open ones, closings, and the corrections of closed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from billing.bills import Bill, bill, round_charges
from billing.corrections import corrections
from billing.line_items import LineItem
from billing.price_book import PriceBook
from billing.proof import lines_sha256
from billing.segments import segments
from contracts.errors import BadInput, BadQuery
from contracts.units import EpochMs, counted, rfc3339
from warehouse.billing.bill_lines import ClosedLines, corrections_of, put_lines
from warehouse.billing.periods import (
    PeriodStep,
    check_may_close,
    check_may_reopen,
    closed_periods,
    freeze_references,
    list_steps,
    put_step,
)
from warehouse.billing.price_books import StoredBook, book_of
from warehouse.billing.quantities import energy_charges, quantities
from warehouse.chargeback.references import CURRENT, References, frozen
from warehouse.periods import Period, newest
from warehouse.reader import LedgerReader

MAX_CORRECTED = 24
"""Closed periods that a bill looks back at: two years of months."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The bill of a period as it would be closed now, with corrections of closed ones, and its book."""

    bill: Bill
    book: StoredBook | None
    not_looked_at: list[str]
    """Closed periods that are too long ago for corrections."""


def draft(reader: LedgerReader, name: str, period: Period, currency: str, references: References = CURRENT) -> Draft:
    """Return the bill of a period that is not closed. Raises BadInput for a book that cannot price it, BadQuery.

    `currency` is used where no price book is stored. `reader` is an operator's, as tiers and commitments need all.
    """
    steps = list_steps(reader)
    stored = book_of(reader)
    now = _bill(reader, name, period, _book(stored, currency), references, _before(steps, period))
    earlier = list(_before(steps, period).values())
    mending: list[LineItem] = []
    for step in earlier[-MAX_CORRECTED:]:
        mending += _corrections(reader, name, steps, step, currency)
    lines = sorted([*now.lines, *mending], key=lambda line: (line.tenant, line.currency, line.side))
    return Draft(Bill(lines, now.unpriced_meters), stored, not_looked_at(steps, period))


def not_looked_at(steps: Sequence[PeriodStep], period: Period) -> list[str]:
    """Return the closed periods that a bill of a period does not correct: those before the last `MAX_CORRECTED`."""
    return list(_before(steps, period))[:-MAX_CORRECTED]


def close(
    reader: LedgerReader,
    name: str,
    period: Period,
    *,
    currency: str,
    actor: str,
    at_ms: int,
    audit_head: str,
    accept_open: bool = False,
) -> PeriodStep:
    """Close a period: freeze its references, its lines and then its step, which is what makes it count.

    Safe to repeat after an interruption. Raises BadInput where it is closed, not final, overlaps a closed one, or has
    open lines that `accept_open` does not accept.
    """
    warehouse = reader.operator_warehouse()
    number = check_may_close(list_steps(warehouse), name, period)
    final_end = newest(warehouse).final_end
    if final_end is None or final_end < period.end:
        known = "the ledger is empty" if final_end is None else f"the ledger is final up to {rfc3339(final_end)}"
        raise BadInput("period", name, f"{known}: close it after {rfc3339(period.end)}")
    freeze_references(warehouse, name, number)
    current = draft(reader, name, period, currency, frozen(name, number))
    open_lines = current.bill.open_lines
    if open_lines and not accept_open:
        first = open_lines[0]
        raise BadInput(
            "period", name,
            f"{counted(len(open_lines), 'line')} of unknown amount, such as {first.name} of {first.tenant} "
            f"({'; '.join(first.steps)}): add what is missing, or accept them as open",
        )  # fmt: skip
    lines = current.bill.lines
    put_lines(warehouse, name, number, lines)
    step = PeriodStep(
        period=name,
        step=number,
        state="closed",
        period_start=period.start,
        period_end=period.end,
        time_zone=period.time_zone,
        at=EpochMs(at_ms),
        actor=actor,
        reason="",
        book_version=current.book.book_version if current.book else 0,
        lines=len(lines),
        lines_sha256=lines_sha256(lines),
        audit_head=audit_head,
        cluster_aliases=dict(reader.aliases),
    )
    put_step(warehouse, step)
    return step


def reopen(reader: LedgerReader, name: str, *, reason: str, actor: str, at_ms: int) -> PeriodStep:
    """Take the last closing back. Its lines stay stored, as a trail. Raises BadInput without a reason."""
    if not reason.strip():
        raise BadInput("--reason", reason, "say why: it stays with the period")
    warehouse = reader.operator_warehouse()
    steps = list_steps(warehouse)
    closed = check_may_reopen(steps, name)
    step = replace(
        closed,
        step=closed.step + 1,
        state="reopened",
        at=EpochMs(at_ms),
        actor=actor,
        reason=reason,
        lines=0,
        lines_sha256="",
        audit_head="",
    )
    put_step(warehouse, step)
    return step


def closed_lines(reader: LedgerReader, step: PeriodStep) -> list[LineItem]:
    """Return the lines that a closing froze, of the reader's tenants. Raises as `ClosedLines` does."""
    return list(ClosedLines(reader, step))


def _corrections(
    reader: LedgerReader, name: str, steps: Sequence[PeriodStep], step: PeriodStep, currency: str
) -> list[LineItem]:
    """Return the lines that mend a closed period in the period of this name."""
    of_then = frozen(step.period, step.step)
    # A cluster that was renamed since keeps its former name in that bill.
    reader = reader.with_aliases(step.cluster_aliases)
    book = _book(book_of(reader, step.book_version), currency)
    now = _bill(reader, step.period, step.span, book, of_then, _before(steps, step.span))
    closed = closed_periods(steps)
    later = [(s.period, s.step) for s in closed.values() if s.period_start > step.period_start]
    lines = closed_lines(reader, step)
    # A correction has the time of the line that it mends, which may be neither in the closed bill nor in today's.
    booked = [line for line in corrections_of(reader, later) if step.period_start <= line.from_ms < step.period_end]
    # What a closed bill itself mended of earlier ones is no part of its own reading.
    frozen_lines = [line for line in lines if not line.corrects]
    return round_charges(name, corrections(frozen_lines, booked, now.lines))


def _bill(
    reader: LedgerReader,
    name: str,
    period: Period,
    book: PriceBook,
    references: References,
    before: dict[str, PeriodStep],
) -> Bill:
    times = segments(book, period.start, period.end)
    return bill(
        book,
        name,
        period.start,
        period.end,
        quantities(reader, period, book, times, references),
        energy_charges(reader, period, references),
        _balances(reader, before),
    )


def _before(steps: Sequence[PeriodStep], period: Period) -> dict[str, PeriodStep]:
    """Return the closings of periods before this one."""
    closed = closed_periods(steps)
    return {name: step for name, step in closed.items() if step.period_end <= period.start}


def _balances(reader: LedgerReader, before: dict[str, PeriodStep]) -> dict[tuple[str, str], Fraction]:
    closings = [f"{step.period} {step.step}" for step in before.values()]
    rows = reader.ask("billing/used_grants", closings=closings)
    return {(row["name"], row["tenant"]): Fraction(Decimal(row["amount"])) for row in rows}


def _book(stored: StoredBook | None, currency: str) -> PriceBook:
    return PriceBook(currency=currency) if stored is None else stored.parse()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBill:
    """The lines of a period: those that were closed, or a draft of what they are now.

    `state` is `closed`, `provisional` (over and final, not closed) or `open` (not over yet).
    """

    period: str
    span: Period
    state: str
    lines: list[LineItem]
    step: PeriodStep | None
    unpriced_meters: Mapping[str, Decimal]
    not_looked_at: list[str]


def read_bill(reader: LedgerReader, name: str, period: Period, currency: str) -> PeriodBill:
    """Return the lines of a period for the reader's tenants. A draft is an operator's. Raises as `draft` does."""
    step = closed_periods(list_steps(reader)).get(name)
    if step is not None:
        return PeriodBill(
            period=name,
            span=step.span,
            state="closed",
            lines=closed_lines(reader, step),
            step=step,
            unpriced_meters={},
            not_looked_at=[],
        )
    if reader.tenants is not None:
        raise BadQuery("period", name, "it is not closed yet; drafts are for credentials of all tenants")
    current = draft(reader, name, period, currency)
    return PeriodBill(
        period=name,
        span=period,
        state=state_of(newest(reader).final_end, period),
        lines=current.bill.lines,
        step=None,
        unpriced_meters=current.bill.unpriced_meters,
        not_looked_at=current.not_looked_at,
    )


def state_of(final_end: int | None, period: Period) -> str:
    """Return the state of a period that is not closed."""
    return "provisional" if final_end is not None and final_end >= period.end else "open"
