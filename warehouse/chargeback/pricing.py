"""Money and carbon of small sums of energy, in Python, by the rule of chargeback.sql (see the package)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from contracts.units import UJ_PER_KWH
from warehouse.reference_data.prices import Price
from warehouse.reference_data.validity import ANY
from warehouse.results import MissingPrice

KINDS = ("energy", "pue", "carbon")
"""Kinds of prices; `energy` is the tariff."""
_NANO = 10**9
_UNIT = UJ_PER_KWH * _NANO * _NANO // 10**6
"""energy_uj x nano(PUE) x nano(price), in millionths."""
_MICRO = Decimal(1).scaleb(-6)
_PICO = Decimal(1).scaleb(-12)


def within_windows(kind: str) -> str:
    """Return the name of what is missing where prices of this kind change inside windows of the ledger."""
    return f"{kind} within windows"


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedPart:
    """Energy of one cluster in windows between two times, for the group at this index; if it was `metered`."""

    group: int
    cluster: str
    from_ms: int
    until_ms: int
    energy_uj: int
    metered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedGroups:
    """Cost and grams of groups, in millionths, by largest remainder: they sum to the total, rounded half up.

    None, for the total and for each group, where a price is missing or currencies mix. None also for a group of which
    no part was metered: the total is the sum of the others, and None where there are no others (not `energy_known`).
    """

    cost: Decimal | None
    gco2: Decimal | None
    costs: list[Decimal | None]
    grams: list[Decimal | None]
    energy_known: bool
    currency: str
    missing: list[MissingPrice]
    mixed_currencies: bool


class ClusterPrices:
    """Prices by kind and cluster, a cluster's own before `*`."""

    def __init__(self, prices: Sequence[Price]) -> None:
        self._prices: dict[tuple[str, str], list[Price]] = {}
        for price in prices:
            self._prices.setdefault((price.kind, price.cluster), []).append(price)

    def find(self, kind: str, cluster: str, from_ms: int, until_ms: int) -> tuple[Price | None, str]:
        """Return a cluster's price in windows from `from_ms` to `until_ms`, or None and what is missing.

        Windows' energy is one sum: if the price changes inside, no part of it has a price.
        """
        for scope in (cluster, ANY):
            of_scope = self._prices.get((kind, scope), [])
            valid = [price for price in of_scope if price.valid_from_ms < until_ms and price.valid_to_ms > from_ms]
            if valid and valid[0].valid_from_ms <= from_ms and until_ms <= valid[0].valid_to_ms:
                return valid[0], ""
            if valid:
                return None, within_windows(kind)
        return None, kind

    def price(self, parts: Sequence[PricedPart], groups: int) -> PricedGroups:
        """Return the cost and grams of so many groups of parts, and of all together."""
        cost, grams = [0] * groups, [0] * groups
        missing: set[MissingPrice] = set()
        missing_kinds: set[str] = set()
        currencies: set[str] = set()
        metered = {part.group for part in parts if part.metered}
        opens = {part.group for part in parts} - metered
        energy_known = bool(metered) or not opens
        for part in parts:
            if not part.energy_uj:
                continue
            nano: dict[str, int] = {}
            for kind in KINDS:
                price, lacks = self.find(kind, part.cluster, part.from_ms, part.until_ms)
                if price is None:
                    missing.add(MissingPrice(kind=lacks, cluster=part.cluster))
                    missing_kinds.add(kind)
                    continue
                nano[kind] = int(price.value * _NANO)
                if kind == "energy":
                    currencies.add(price.currency)
            facility = part.energy_uj * nano.get("pue", 0)
            cost[part.group] += facility * nano.get("energy", 0)
            grams[part.group] += facility * nano.get("carbon", 0)
        costs = _round(cost) if not missing_kinds & {"energy", "pue"} and len(currencies) <= 1 else None
        gco2 = _round(grams) if not missing_kinds & {"carbon", "pue"} else None

        def known(amounts: list[Decimal] | None) -> list[Decimal | None]:
            return [None if amounts is None or n in opens else amounts[n] for n in range(groups)]

        return PricedGroups(
            cost=None if costs is None or not energy_known else sum(costs, Decimal(0)),
            gco2=None if gco2 is None or not energy_known else sum(gco2, Decimal(0)),
            costs=known(costs),
            grams=known(gco2),
            energy_known=energy_known,
            currency=currencies.pop() if len(currencies) == 1 else "",
            missing=sorted(missing, key=lambda m: (m.kind, m.cluster)),
            mixed_currencies=len(currencies) > 1,
        )


def _round(parts: Sequence[int]) -> list[Decimal]:
    """Return exact parts as millionths that sum to their sum, rounded half up, by largest remainder."""
    micro = [part // _UNIT for part in parts]
    ups = (2 * sum(parts) + _UNIT) // (2 * _UNIT) - sum(micro)
    for i in sorted(range(len(parts)), key=lambda i: (-(parts[i] % _UNIT), i))[:ups]:
        micro[i] += 1
    return [value * _MICRO for value in micro]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedEnergy:
    """One amount of energy as kWh, facility kWh, cost and grams, each to twelve places; None without its price."""

    kwh: Decimal | None
    kwh_facility: Decimal | None
    cost: Decimal | None
    gco2: Decimal | None


UNMETERED = PricedEnergy(kwh=None, kwh_facility=None, cost=None, gco2=None)
"""Price of tokens without measured energy: unknown, and not 0."""


def price_energy(energy_uj: int, prices: Mapping[str, Decimal]) -> PricedEnergy:
    """Price one amount of energy by prices of these KINDS. No energy costs 0, whatever price is missing."""
    with localcontext(prec=60):
        kwh = Decimal(energy_uj) / UJ_PER_KWH
        facility = kwh * prices["pue"] if "pue" in prices else (Decimal(0) if not energy_uj else None)

        def priced(kind: str) -> Decimal | None:
            if not energy_uj:
                return Decimal(0)
            return (facility * prices[kind]).quantize(_PICO) if facility is not None and kind in prices else None

        return PricedEnergy(
            kwh=kwh.quantize(_PICO),
            kwh_facility=None if facility is None else facility.quantize(_PICO),
            cost=priced("energy"),
            gco2=priced("carbon"),
        )
