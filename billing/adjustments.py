"""Adjustments: what comes on top of or off an account's charges, in this order.

Discounts, then minimums, then commitments, then credits, then taxes. Each looks at what those before it left. An
account is a tenant in one currency. What an open charge costs is unknown, so percentages and minimums over it are open
too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from billing.line_items import Category, Charge
from billing.places import Place
from billing.price_book import Grant, Percentage, PriceBook, Row
from billing.rating import number
from billing.segments import Segments
from contracts.units import shortest_decimal

_R = TypeVar("_R", bound=Row)

UNUSED = "commitment_unused"
"""Meter of what is left of a commitment at its end."""

Balances = Mapping[tuple[str, str], Fraction]
"""Money that earlier periods used of a grant, by its name and tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    book: PriceBook
    times: Segments
    tenant: str
    currency: str
    balances: Balances

    def charge(self, category: Category, row: Row, meter: str, amount: Fraction | None, *steps: str) -> Charge:
        return Charge(
            category=category, name=row.name, meter=meter, unit=self.currency,
            quantity=Fraction(1), place=Place(tenant=self.tenant), currency=self.currency, amount=amount,
            from_ms=max(self.times.start_ms, row.from_ms), to_ms=min(self.times.end_ms, row.to_ms), steps=steps,
        )  # fmt: skip

    def valid(self, rows: Sequence[_R]) -> list[_R]:
        """Return the rows that are valid in the period and not for another tenant."""
        named = [(row, dict(row.scope.values).get("tenant", self.tenant)) for row in rows]
        return [
            row for row, tenant in named if tenant == self.tenant and row.valid(self.times.start_ms, self.times.end_ms)
        ]

    def grants(self, rows: Sequence[Grant]) -> list[Grant]:
        return [row for row in self.valid(rows) if (row.currency or self.book.currency) == self.currency]


def adjust(
    book: PriceBook, times: Segments, tenant: str, currency: str, charges: Sequence[Charge], balances: Balances
) -> list[Charge]:
    """Return the adjustments of one account, whose charges these are. Only the side `cost` is adjusted."""
    account = _Account(book=book, times=times, tenant=tenant, currency=currency, balances=balances)
    lines = [charge for charge in charges if charge.side == "cost"]
    before = len(lines)
    for discount in account.valid(book.discounts):
        lines += _percentage(account, discount, lines, Category.DISCOUNT, -1)
    for minimum in account.grants(book.minimums):
        lines += _minimum(account, minimum, lines)
    for commitment in account.grants(book.commitments):
        lines += _commitment(account, commitment, lines)
    for credit in account.grants(book.credits):
        lines += _burn(account, credit, lines, "credit")
    taxed = tuple(lines)
    for tax in account.valid(book.taxes):
        lines += _percentage(account, tax, taxed, Category.TAX, 1)
    return lines[before:]


def _in_scope(row: Percentage | Grant, lines: Sequence[Charge]) -> list[Charge]:
    """Return the lines that a row is for. One with meters, or a scope within the tenant, looks at no adjustment."""
    return [line for line in lines if row.scope.applies(line.place) and (not row.meters or line.meter in row.meters)]


def _sum(lines: Sequence[Charge]) -> Fraction | None:
    """Return the sum of amounts, None if one is open."""
    amounts = [line.amount for line in lines]
    return None if None in amounts else sum((amount for amount in amounts if amount is not None), Fraction(0))


def _percentage(
    account: _Account, row: Percentage, lines: Sequence[Charge], category: Category, sign: int
) -> Iterator[Charge]:
    held = _in_scope(row, lines)
    base = _sum(held)
    percent = shortest_decimal(row.percent)
    if base is None:
        yield account.charge(category, row, category, None, f"{percent} % of lines of which one is open")
    elif base:
        amount = sign * base * Fraction(row.percent) / 100
        yield account.charge(category, row, category, amount, f"{percent} % of {number(base)} {account.currency}")


def _minimum(account: _Account, row: Grant, lines: Sequence[Charge]) -> Iterator[Charge]:
    base = _sum(_in_scope(row, lines))
    if base is None:
        yield account.charge(Category.PURCHASE, row, "minimum", None, "lines of which one is open")
    elif base < Fraction(row.amount):
        short = Fraction(row.amount) - base
        text = f"{shortest_decimal(row.amount)} {account.currency} at least, {number(base)} {account.currency} used"
        yield account.charge(Category.PURCHASE, row, "minimum", short, text)


def _commitment(account: _Account, row: Grant, lines: Sequence[Charge]) -> Iterator[Charge]:
    """Yield what a commitment costs in its first period, and what it covers of the lines in each.

    The committed money is due at its start. What usage burns down is taken off again, so each unit is paid once. What
    is left at its end is lost.
    """
    if account.times.start_ms <= row.from_ms < account.times.end_ms:
        text = f"{shortest_decimal(row.amount)} {account.currency} committed, due at its start"
        yield account.charge(Category.PURCHASE, row, "commitment", Fraction(row.amount), text)
    burned = list(_burn(account, row, lines, "commitment"))
    yield from burned
    if account.times.start_ms < row.to_ms <= account.times.end_ms:
        yield from _unused(account, row, lines, sum((line.amount or Fraction(0) for line in burned), Fraction(0)))


def _unused(account: _Account, row: Grant, lines: Sequence[Charge], burned: Fraction) -> Iterator[Charge]:
    """Yield what is lost at a commitment's end: a line of no money, because the commitment was paid at its start.

    Its quantity is the lost money. While a line is open it is unknown: 0, in a line that is open too.
    """
    left = Fraction(row.amount) - account.balances.get((row.name, account.tenant), Fraction(0)) + burned
    if _sum(_in_scope(row, lines)) is None:
        text = "what is left is unknown: a line is open"
        yield replace(account.charge(Category.CREDIT, row, UNUSED, None, text), quantity=Fraction(0))
    elif left > 0:
        text = f"{number(left)} {account.currency} of {shortest_decimal(row.amount)} were left at its end, and are lost"
        yield replace(account.charge(Category.CREDIT, row, UNUSED, Fraction(0), text), quantity=left)


def _burn(account: _Account, row: Grant, lines: Sequence[Charge], meter: str) -> Iterator[Charge]:
    used = account.balances.get((row.name, account.tenant), Fraction(0))
    left = Fraction(row.amount) - used
    # What a commitment costs is no usage, and no other grant covers it.
    held = [line for line in _in_scope(row, lines) if (line.category, line.meter) != (Category.PURCHASE, "commitment")]
    base = _sum([line for line in held if line.amount is not None])
    covered = min(max(base or Fraction(0), Fraction(0)), left)
    if covered > 0:
        text = f"{number(left)} {account.currency} were left, {number(left - covered)} {account.currency} are"
        yield account.charge(Category.CREDIT, row, meter, -covered, text)
