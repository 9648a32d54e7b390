"""Bills: charges, their adjustments, and the one rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from billing.adjustments import Balances, adjust
from billing.line_items import Charge, LineItem
from billing.price_book import PriceBook
from billing.quantities import EnergyCharge, MeteredQuantity
from billing.rating import SIDES, rate
from billing.rounding import decimal_of, minor_digits, round_lines
from billing.segments import segments
from contracts.topics import HOUSE_TENANTS


@dataclass(frozen=True, slots=True)
class Bill:
    """All lines of a period, sorted by tenant, and what was used of meters that the book has no rate for."""

    lines: list[LineItem]
    unpriced_meters: Mapping[str, Decimal]

    @property
    def open_lines(self) -> list[LineItem]:
        """Lines whose amount is unknown. A period with one can't be closed."""
        return [line for line in self.lines if line.amount is None]


def bill(
    book: PriceBook,
    period: str,
    start_ms: int,
    end_ms: int,
    quantities: Iterable[MeteredQuantity],
    energy: Sequence[EnergyCharge],
    balances: Balances,
) -> Bill:
    """Return the bill of `[start_ms, end_ms)`, which is called `period`.

    `quantities` name classes of `segments(book, start_ms, end_ms)`. Raises BadInput for a book that has two prices for
    one meter, or whose percentages change inside the period.
    """
    book.check()
    book.check_period(start_ms, end_ms)
    times = segments(book, start_ms, end_ms)
    placed = (replace(quantity, place=book.place(quantity.place)) for quantity in quantities)
    rated = rate(book, times, placed, [replace(charge, place=book.place(charge.place)) for charge in energy])
    charges = list(rated.charges)
    accounts = _accounts(rated.charges)
    for owed in (*book.minimums, *book.commitments):
        # A tenant that a row names owes it without any use.
        if (named := dict(owed.scope.values).get("tenant")) and owed.valid(start_ms, end_ms):
            accounts.setdefault((named, owed.currency or book.currency, "cost"), [])
    for (tenant, currency, side), of_account in accounts.items():
        # Nobody gets a discount on, or pays taxes for, what the house bears itself.
        if side == "cost" and tenant not in HOUSE_TENANTS:
            charges += adjust(book, times, tenant, currency, of_account, balances)
    used = {meter: decimal_of(quantity) for meter, quantity in sorted(rated.unpriced_meters.items())}
    return Bill(round_charges(period, charges), used)


def round_charges(period: str, charges: Sequence[Charge]) -> list[LineItem]:
    """Return charges as line items. Those of one tenant, currency and side sum to their rounded sum."""
    items: list[LineItem] = []
    for (_, currency, _), of_account in sorted(_accounts(charges).items()):
        known = [charge for charge in of_account if charge.amount is not None]
        rounded = round_lines([charge.amount for charge in known if charge.amount is not None], minor_digits(currency))
        amounts = dict(zip(map(id, known), rounded, strict=True))
        items += [_item(period, charge, amounts.get(id(charge))) for charge in of_account]
    return items


def _accounts(charges: Iterable[Charge]) -> dict[tuple[str, str, str], list[Charge]]:
    accounts: dict[tuple[str, str, str], list[Charge]] = {}
    for charge in charges:
        accounts.setdefault((charge.place.tenant, charge.currency, charge.side), []).append(charge)
    return accounts


def _item(period: str, charge: Charge, amount: Decimal | None) -> LineItem:
    return LineItem(
        line_id=charge.line_id,
        period=period,
        category=charge.category,
        name=charge.name,
        meter=charge.meter,
        unit=charge.unit,
        quantity=decimal_of(charge.quantity),
        price=charge.price,
        per=charge.per,
        amount=amount,
        exact=None if charge.amount is None else decimal_of(charge.amount),
        currency=charge.currency,
        side=charge.side,
        from_ms=charge.from_ms,
        to_ms=charge.to_ms,
        place=charge.place,
        energy_uj=charge.energy_uj,
        gco2=charge.gco2,
        steps=charge.steps,
        corrects=charge.corrects,
    )


def totals(lines: Iterable[LineItem]) -> dict[tuple[str, str, str], Decimal | None]:
    """Return each tenant's total by currency and side (`SIDES`); None where a line is open."""
    sums: dict[tuple[str, str, str], Decimal | None] = {}
    for line in lines:
        key = (line.tenant, line.currency, line.side)
        before = sums.get(key, Decimal(0))
        sums[key] = None if before is None or line.amount is None else before + line.amount
    assert all(side in SIDES for _, _, side in sums)
    return sums


def burned(lines: Iterable[LineItem]) -> dict[tuple[str, str], Fraction]:
    """Return what lines took of credits and commitments, by name and tenant: the balances of the next period."""
    used: dict[tuple[str, str], Fraction] = {}
    for line in lines:
        if line.category == "credit" and line.amount is not None:
            key = (line.name, line.tenant)
            used[key] = used.get(key, Fraction(0)) - Fraction(line.amount)
    return used
