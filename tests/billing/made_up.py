"""A made-up month, its places and its quantities, for tests of bills."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from billing.bills import Bill, bill
from billing.book_file import parse_book
from billing.places import Place
from billing.price_book import PriceBook
from billing.quantities import EnergyCharge, MeteredQuantity
from contracts.units import epoch_ms

START_MS, END_MS = epoch_ms("2026-09-01"), epoch_ms("2026-10-01")
ACME = Place(tenant="acme", workload="llama", model="llama-70b", hardware="H100", cluster="eu")
BETA = ACME._replace(tenant="beta")


def used(meter: str, quantity: str, place: Place = ACME, number: int = 0, unit: str = "token") -> MeteredQuantity:
    """A quantity of a place in a class of time."""
    return MeteredQuantity(meter, unit, Decimal(quantity), place, number)


def electricity(cost: str | None, place: Place = ACME, kwh: str = "10", currency: str = "EUR") -> EnergyCharge:
    """Energy of a place with its money."""
    return EnergyCharge(
        place=place,
        energy_uj=int(Decimal(kwh) * 3_600_000_000_000),
        kwh_facility=Decimal(kwh),
        cost=None if cost is None else Decimal(cost),
        currency=currency,
        gco2=Decimal(100),
        lacks=() if cost else ("energy",),
    )


def book(rows: str = "") -> PriceBook:
    """A book in EUR with these rows."""
    return parse_book(f'currency = "EUR"\n{rows}')


def billed(of: PriceBook, *quantities: MeteredQuantity, energy: tuple[EnergyCharge, ...] = (), **balances: str) -> Bill:
    """The bill of September; `balances` are what acme used of a grant before."""
    before = {(name, "acme"): Fraction(amount) for name, amount in balances.items()}
    return bill(of, "2026-09", START_MS, END_MS, quantities, energy, before)


def amounts(of: Bill) -> dict[str, str]:
    """Each line's amount by its name; open lines are '-'."""
    return {line.name: "-" if line.amount is None else str(line.amount) for line in of.lines}
