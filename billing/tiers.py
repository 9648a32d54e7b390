"""Prices of a quantity: for each unit, by graduated or volume tiers, or by the started package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil


class Mode(StrEnum):
    """The way in which a quantity becomes money. Terms as in OpenMeter, Stripe and Lago."""

    FLAT = "flat"
    """Each unit costs the same."""
    GRADUATED = "graduated"
    """Each part of the quantity costs what its tier says."""
    VOLUME = "volume"
    """All of it costs what the tier says that the whole quantity falls into."""
    PACKAGE = "package"
    """Each started package of `per` units costs the same."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A price for `per` units up to a quantity (inclusive; None: without end), and a fee once it is reached."""

    price: Decimal
    up_to: Decimal | None = None
    fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Step:
    """One product of the arithmetic: so many units at a price for `per` of them."""

    quantity: Fraction
    price: Decimal
    per: Decimal

    @property
    def amount(self) -> Fraction:
        """Money of the step, exact."""
        return self.quantity * Fraction(self.price) / Fraction(self.per)


def price_steps(quantity: Fraction, mode: Mode, tiers: Sequence[Tier], per: Decimal) -> list[Step]:
    """Return the products whose sum is the price of a quantity. A flat or package price is its only tier.

    A negative quantity (a correction) is priced as the positive one, and negated. A fee is a step of one unit.
    """
    if quantity < 0:
        return [Step(-s.quantity, s.price, s.per) for s in price_steps(-quantity, mode, tiers, per)]
    if mode is Mode.FLAT:
        return [Step(quantity, tiers[0].price, per)]
    if mode is Mode.PACKAGE:
        return [Step(Fraction(ceil(quantity / Fraction(per))), tiers[0].price, Decimal(1))]
    if mode is Mode.VOLUME:
        tier = next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)
        return [Step(quantity, tier.price, per), *_fee(tier)] if quantity else []
    steps: list[Step] = []
    below = Fraction(0)
    for tier in tiers:
        if quantity <= below:
            break
        top = quantity if tier.up_to is None else min(quantity, Fraction(tier.up_to))
        steps += [Step(top - below, tier.price, per), *_fee(tier)]
        below = top
    return steps


def _fee(tier: Tier) -> list[Step]:
    return [Step(Fraction(1), tier.fee, Decimal(1))] if tier.fee else []
