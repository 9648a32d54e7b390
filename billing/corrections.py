"""Corrections: what late facts change in a closed period, as lines of the open one. Closed lines stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from billing.line_items import Charge, LineItem


def corrections(frozen: Iterable[LineItem], booked: Iterable[LineItem], now: Sequence[LineItem]) -> list[Charge]:
    """Return the charges that mend a closed period.

    `frozen` are its lines, `booked` the corrections of it that later periods already have, and `now` its lines as its
    own book and prices make them of today's ledger. Each correction points to the line that it mends; a line that the
    closed bill did not have is corrected as one of nothing. A line that is open now is left alone: it has no amount.
    """
    before: dict[str, LineItem] = {line.line_id: line for line in frozen}
    paid: dict[str, Decimal] = {line_id: line.amount or Decimal(0) for line_id, line in before.items()}
    energy = {line_id: line.energy_uj for line_id, line in before.items()}
    quantity = {line_id: line.quantity for line_id, line in before.items()}
    grams = {line_id: line.gco2 or Decimal(0) for line_id, line in before.items()}
    for line in booked:
        before.setdefault(line.corrects, line)
        paid[line.corrects] = paid.get(line.corrects, Decimal(0)) + (line.amount or Decimal(0))
        energy[line.corrects] = energy.get(line.corrects, 0) + line.energy_uj
        quantity[line.corrects] = quantity.get(line.corrects, Decimal(0)) + line.quantity
        grams[line.corrects] = grams.get(line.corrects, Decimal(0)) + (line.gco2 or Decimal(0))
    current = {line.line_id: line for line in now}
    mends: list[Charge] = []
    for line_id in sorted({*before, *current}):
        line = current.get(line_id) or replace(
            before[line_id], amount=Decimal(0), quantity=Decimal(0), energy_uj=0, gco2=Decimal(0)
        )
        if line.amount is None:
            continue
        difference = line.amount - paid.get(line_id, Decimal(0))
        more_uj = line.energy_uj - energy.get(line_id, 0)
        more = line.quantity - quantity.get(line_id, Decimal(0))
        if difference or more_uj or more:
            mends.append(_correction(line, line_id, difference, more, more_uj, grams.get(line_id, Decimal(0))))
    return mends


def _correction(
    line: LineItem, line_id: str, difference: Decimal, more: Decimal, more_uj: int, grams: Decimal
) -> Charge:
    return Charge(
        category=line.category,
        name=line.name,
        meter=line.meter,
        unit=line.unit,
        quantity=Fraction(more),
        place=line.place,
        currency=line.currency,
        amount=Fraction(difference),
        from_ms=line.from_ms,
        to_ms=line.to_ms,
        price=line.price,
        per=line.per,
        side=line.side,
        energy_uj=more_uj,
        gco2=None if line.gco2 is None else line.gco2 - grams,
        steps=(
            f"line {line_id} of {line.period} is {line.amount} {line.currency} now, {difference:+} {line.currency}",
        ),
        corrects=line_id,
    )
