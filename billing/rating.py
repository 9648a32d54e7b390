"""Rating: each quantity by the most specific rate that counts for its place and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from billing.line_items import Category, Charge
from billing.places import Place
from billing.price_book import ENERGY_COST, MONTHS, PriceBook, Rate
from billing.quantities import LEDGER_METERS, EnergyCharge, MeteredQuantity, with_compute_units
from billing.rounding import decimal_of
from billing.segments import Segments
from billing.tiers import Mode, Step, price_steps
from contracts.meter_names import is_currency
from contracts.topics import HOUSE_TENANTS
from contracts.units import shortest_decimal

SIDES = ("cost", "revenue")


@dataclass(slots=True)
class Rated:
    """Charges of a period, and the meters that were used and have no rate in the book at all."""

    charges: list[Charge]
    unpriced_meters: dict[str, Fraction] = field(default_factory=dict)


def rate(
    book: PriceBook, times: Segments, quantities: Iterable[MeteredQuantity], energy: Sequence[EnergyCharge]
) -> Rated:
    """Return the charges of a period: electricity, then every priced meter, fees included.

    Tiers count what a tenant used in the whole period, and the money is divided over its places by quantity. A
    quantity of a priced meter that no rate fits is an open charge.
    """
    every = [*quantities, *_surcharged(energy)]
    tenants = dict.fromkeys([*(charge.place.tenant for charge in energy), *(one.place.tenant for one in every)])
    rated = Rated([_electricity(charge, times) for charge in energy])
    sums = _match(book, times, every, rated)
    rated.charges += _priced(book, times, sums)
    rated.charges += _fees(book, times, tenants)
    return rated


def rate_part(book: PriceBook, times: Segments, quantities: Iterable[MeteredQuantity]) -> Rated:
    """Return the charges of a part of a month, such as a request, by flat rates.

    A rate by tiers or packages is of the whole month, so that its charge is open here. So is a rate by hardware of a
    place without it.
    """
    rated = Rated([])
    flat: _Sums = {}
    for key, quantity in _match(book, times, quantities, rated).items():
        fit, _, meter, place, _ = key
        if meter in (*LEDGER_METERS, ENERGY_COST) and not place.hardware and _is_by_hardware(book, meter):
            fault = f"{meter} has rates by hardware, and a request does not say on which it ran"
        elif fit is None or fit.mode is Mode.FLAT:
            flat[key] = quantity
            continue
        else:
            fault = f"rate {fit.name!r} is by {fit.mode}: the bill of the month has it"
        rated.charges.append(_open(book, times, key, quantity, fault))
    rated.charges += _priced(book, times, flat)
    return rated


def _is_by_hardware(book: PriceBook, meter: str) -> bool:
    return any(name == "hardware" for rate in book.rates_of(meter) for name, _ in rate.scope.values)


_Key = tuple[Rate | None, str, str, Place, str]
"""Rate, side, meter, place and unit of quantities that are priced together."""
_Sums = dict[_Key, Fraction]


def _match(book: PriceBook, times: Segments, quantities: Iterable[MeteredQuantity], rated: Rated) -> _Sums:
    """Return the sums of quantities by the rate that each has. Meters without any rate go to `rated`."""
    sums: _Sums = {}
    finder = _Finder(book, times)
    in_units = {meter for unit in book.compute_units if unit.name in book.meters for meter, _ in unit.weights}
    for quantity in with_compute_units(quantities, book.compute_units):
        if quantity.meter not in book.meters:
            if quantity.meter not in in_units and quantity.meter != ENERGY_COST:
                seen = rated.unpriced_meters.get(quantity.meter, Fraction(0))
                rated.unpriced_meters[quantity.meter] = seen + Fraction(quantity.quantity)
            continue
        for side in finder.sides(quantity.meter):
            fit = finder.find(side, quantity.meter, quantity.place, quantity.number)
            key = (fit, side, quantity.meter, quantity.place, quantity.unit)
            sums[key] = sums.get(key, Fraction(0)) + Fraction(quantity.quantity)
    return sums


def _surcharged(energy: Sequence[EnergyCharge]) -> Iterator[MeteredQuantity]:
    """Yield the money of electricity as a meter, for books that put a margin on it."""
    for charge in energy:
        if charge.cost:
            yield MeteredQuantity(ENERGY_COST, charge.currency, charge.cost, charge.place)


def _electricity(charge: EnergyCharge, times: Segments) -> Charge:
    kwh = charge.kwh_facility
    steps = (
        (f"{shortest_decimal(kwh)} kWh of the facility, by the tariffs of cluster {charge.place.cluster}",)
        if kwh is not None
        else tuple(f"no {kind} price" for kind in charge.lacks) or ("no measured energy",)
    )
    return Charge(
        category=Category.USAGE,
        name="electricity",
        meter="energy",
        unit="kWh",
        quantity=Fraction(kwh if kwh is not None else 0),
        place=charge.place,
        currency=charge.currency,
        amount=None if charge.cost is None else Fraction(charge.cost),
        from_ms=times.start_ms,
        to_ms=times.end_ms,
        energy_uj=charge.energy_uj,
        gco2=charge.gco2,
        steps=steps,
    )


class _Finder:
    """The rate of a meter at a place in a class of time, remembered."""

    def __init__(self, book: PriceBook, times: Segments) -> None:
        self._book, self._times = book, times
        self._cache: dict[tuple[str, str, Place, int], Rate | None] = {}

    def sides(self, meter: str) -> list[str]:
        sides = {rate.side for rate in self._book.rates_of(meter)}
        return [side for side in SIDES if side in sides]

    def find(self, side: str, meter: str, place: Place, number: int) -> Rate | None:
        if meter == ENERGY_COST:
            # The money of electricity is known for the whole period only: a margin that changes inside fits no part.
            fits = {self._find(side, meter, place, other) for other in range(len(self._times.rates))}
            return fits.pop() if len(fits) == 1 else None
        return self._find(side, meter, place, number)

    def _find(self, side: str, meter: str, place: Place, number: int) -> Rate | None:
        key = (side, meter, place, number)
        if key not in self._cache:
            counting = self._times.rates[number]
            fits = (
                r for r in self._book.rates_of(meter) if r.side == side and r in counting and r.scope.applies(place)
            )
            self._cache[key] = next(fits, None)
        return self._cache[key]


def _priced(book: PriceBook, times: Segments, sums: _Sums) -> Iterator[Charge]:
    """Yield a charge for each rate and place. One account's quantity of a rate is priced as a whole."""
    accounts: dict[tuple[Rate, str, str], list[tuple[Place, Fraction]]] = {}
    units: dict[Rate | None, set[str]] = {}
    for fit, _, _, _, unit in sums:
        units.setdefault(fit, set()).add(unit)
    for (fit, side, meter, place, unit), quantity in sums.items():
        fault = _misfit(fit, meter, unit, units[fit])
        if fit is None or fault:
            yield _open(book, times, (fit, side, meter, place, unit), quantity, fault)
        else:
            accounts.setdefault((fit, place.tenant, unit), []).append((place, quantity))
    for (fit, _, unit), parts in accounts.items():
        yield from _of_account(book, times, fit, unit, parts)


def _open(book: PriceBook, times: Segments, key: _Key, quantity: Fraction, fault: str) -> Charge:
    """Return a charge of unknown amount, for this reason."""
    fit, side, meter, place, unit = key
    return Charge(
        category=Category.USAGE, name=fit.name if fit else meter, meter=meter, unit=unit, quantity=quantity,
        place=place, currency=_currency(book, fit, unit), amount=None, from_ms=times.start_ms,
        to_ms=times.end_ms, side=side, steps=(fault,),
    )  # fmt: skip


def _misfit(fit: Rate | None, meter: str, unit: str, units: set[str]) -> str:
    """Return why a quantity has no price by a rate; empty if it has one. `units` are those that the rate met."""
    if fit is None:
        return f"no rate of {meter} fits this place and time"
    if fit.unit and fit.unit != unit:
        return f"rate {fit.name!r} is for {fit.unit}, and the quantity is in {unit}"
    if is_currency(unit):
        return (
            f"rate {fit.name!r} is in {fit.currency}, and the money is {unit}" if fit.currency not in ("", unit) else ""
        )
    if len(units) > 1 and not fit.unit:
        return f"{meter} was used in {', '.join(sorted(units))}: rate {fit.name!r} must name its unit"
    return ""


def _currency(book: PriceBook, fit: Rate | None, unit: str) -> str:
    """Return the currency of a charge. What is paid on top of money is in that money's currency."""
    return (fit.currency if fit else "") or (unit if is_currency(unit) else book.currency)


def _of_account(
    book: PriceBook, times: Segments, fit: Rate, unit: str, parts: Sequence[tuple[Place, Fraction]]
) -> Iterator[Charge]:
    total = sum((quantity for _, quantity in parts), Fraction(0))
    currency = _currency(book, fit, unit)
    flat = fit.mode is Mode.FLAT
    for place, quantity in parts:
        # A flat price needs no whole; a part of any other is its share of the whole's money.
        priced = quantity if flat else total
        share = Fraction(1) if flat else quantity / total if total else Fraction(0)
        steps = price_steps(priced, fit.mode, fit.tiers, fit.per)
        texts = tuple(step_text(step, unit, currency) for step in steps)
        if share != 1:
            texts += (f"of which {number(share * 100)} %, by quantity",)
        yield Charge(
            category=Category.USAGE,
            name=fit.name,
            meter=fit.meter,
            unit=unit,
            quantity=quantity,
            place=place,
            currency=currency,
            amount=share * sum((step.amount for step in steps), Fraction(0)),
            from_ms=max(times.start_ms, fit.from_ms),
            to_ms=min(times.end_ms, fit.to_ms),
            price=fit.tiers[0].price if flat else None,
            per=fit.per,
            side=fit.side,
            steps=texts,
        )


def _fees(book: PriceBook, times: Segments, tenants: Iterable[str]) -> Iterator[Charge]:
    """Yield the fees of every tenant that used something, or of the one that a fee names, by the time that it holds."""
    for fee in book.rates_of(MONTHS):
        named = dict(fee.scope.values).get("tenant")
        for tenant in [named] if named else [tenant for tenant in tenants if tenant not in HOUSE_TENANTS]:
            place = Place(tenant=tenant)
            if not fee.valid(times.start_ms, times.end_ms) or not fee.scope.applies(place):
                continue
            start, end = max(times.start_ms, fee.from_ms), min(times.end_ms, fee.to_ms)
            share = Fraction(end - start, times.end_ms - times.start_ms)
            step = Step(share, fee.tiers[0].price, fee.per)
            currency = fee.currency or book.currency
            yield Charge(
                category=Category.PURCHASE, name=fee.name, meter=MONTHS, unit="month", quantity=share, place=place,
                currency=currency, amount=step.amount, from_ms=start, to_ms=end, price=step.price, per=fee.per,
                side=fee.side, steps=(step_text(step, "month", currency),),
            )  # fmt: skip


def step_text(step: Step, unit: str, currency: str) -> str:
    """Return a product as text: `1234 token x 0.40 EUR per 1000000 = 0.0004936 EUR`."""
    per = f" per {shortest_decimal(step.per)}" if step.per != 1 else ""
    return (
        f"{number(step.quantity)} {unit} x {shortest_decimal(step.price)} {currency}{per} "
        f"= {number(step.amount)} {currency}"
    )


def number(value: Fraction) -> str:
    """Return a fraction to twelve places, without zeros at its end."""
    return shortest_decimal(decimal_of(value))
