"""Rounding to a currency's smallest unit: once for each invoice, by largest remainder over its lines."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import floor

MINOR_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV"), 0),
    **dict.fromkeys(("XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""Decimal places of currencies that do not have two (ISO 4217, list one)."""


def minor_digits(currency: str) -> int:
    """Return the decimal places of a currency's smallest unit: 2 for EUR, 0 for JPY."""
    return MINOR_DIGITS.get(currency, 2)


def to_minor_unit(amount: Decimal, currency: str) -> Decimal:
    """Return a rounded amount with the decimal places of its currency: `1.50` for 1.5 EUR."""
    return amount.quantize(Decimal(1).scaleb(-minor_digits(currency)))


def half_up(amount: Fraction, digits: int) -> Decimal:
    """Round an amount to so many places: halves go away from zero, so that a credit rounds as its charge does."""
    scaled = abs(amount) * 10**digits
    units = floor(scaled + Fraction(1, 2))
    return Decimal(units if amount >= 0 else -units).scaleb(-digits)


def round_lines(amounts: Sequence[Fraction], digits: int) -> list[Decimal]:
    """Round amounts to so many places, so that they sum to their rounded sum (`half_up`): largest remainder.

    Each is off by less than one unit of the last place. Of equal remainders the first line gets the unit.
    """
    scaled = [amount * 10**digits for amount in amounts]
    units = [floor(value) for value in scaled]
    total = int(half_up(sum(amounts, Fraction(0)), digits).scaleb(digits))
    short = total - sum(units)
    by_remainder = sorted(range(len(units)), key=lambda n: (units[n] - scaled[n], n))
    for n in by_remainder[:short]:
        units[n] += 1
    return [Decimal(value).scaleb(-digits) for value in units]


def decimal_of(amount: Fraction, digits: int = 12) -> Decimal:
    """Return a fraction as a decimal number of so many places, for people and for tables."""
    return half_up(amount, digits)
