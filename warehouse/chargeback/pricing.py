"""Small sums of energy to money and grams, by the rule of queries/chargeback.sql: exact integers, one rounding.

What a few thousand parts cost is worked out here; a period's bill is worked out in SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from contracts.units import MS_PER_HOUR
from warehouse.reference_data.tables import ANY, Price
from warehouse.results import MissingPrice

_NANO = 10**9
_UNIT = 3_600_000_000_000 * _NANO * _NANO // 10**6
"""energy_uj x nano(PUE) x nano(price), in millionths."""
_MICRO = Decimal(1).scaleb(-6)


@dataclass(frozen=True, slots=True)
class PricedPart:
    """Energy of one cluster in one hour (its number since 1970), for the group at this index."""

    group: int
    cluster: str
    hour: int
    energy_uj: int


@dataclass(frozen=True, slots=True)
class PricedGroups:
    """What groups cost, to millionths, by largest remainder: they sum to the whole, which is the exact sum rounded half
    up. None where a price is missing or currencies mix, for the whole and each of its groups."""

    cost: Decimal | None
    gco2: Decimal | None
    costs: list[Decimal | None]
    grams: list[Decimal | None]
    currency: str
    missing: list[MissingPrice]
    mixed_currencies: bool


class PriceBook:
    """Prices by kind and cluster; those valid at an hour's start hold for the hour, a cluster's own before `*`."""

    def __init__(self, prices: Sequence[Price]) -> None:
        self._of: dict[tuple[str, str], list[Price]] = {}
        for price in prices:
            self._of.setdefault((price.kind, price.cluster), []).append(price)

    def at(self, kind: str, cluster: str, hour: int) -> Price | None:
        """The price of a cluster in an hour, by its number since 1970."""
        at_ms = hour * MS_PER_HOUR
        for scope in (cluster, ANY):
            for price in reversed(self._of.get((kind, scope), [])):
                if price.valid_from_ms <= at_ms < price.valid_to_ms:
                    return price
        return None

    def price(self, parts: Sequence[PricedPart], groups: int) -> PricedGroups:
        """What parts of so many groups cost together, and each group of them."""
        cost, grams = [0] * groups, [0] * groups
        missing: set[MissingPrice] = set()
        currencies: set[str] = set()
        for part in parts:
            if not part.energy_uj:
                continue
            found = {kind: self.at(kind, part.cluster, part.hour) for kind in ("energy", "pue", "carbon")}
            missing |= {MissingPrice(kind, part.cluster) for kind, price in found.items() if price is None}
            nano = {kind: int(price.value * _NANO) for kind, price in found.items() if price is not None}
            if (tariff := found["energy"]) is not None:
                currencies.add(tariff.currency)
            facility = part.energy_uj * nano.get("pue", 0)
            cost[part.group] += facility * nano.get("energy", 0)
            grams[part.group] += facility * nano.get("carbon", 0)
        kinds = {m.kind for m in missing}
        costs = _rounded(cost) if not kinds & {"energy", "pue"} and len(currencies) <= 1 else None
        gco2 = _rounded(grams) if not kinds & {"carbon", "pue"} else None
        return PricedGroups(
            None if costs is None else sum(costs, Decimal(0)),
            None if gco2 is None else sum(gco2, Decimal(0)),
            [None] * groups if costs is None else list(costs),
            [None] * groups if gco2 is None else list(gco2),
            currencies.pop() if len(currencies) == 1 else "",
            sorted(missing, key=lambda m: (m.kind, m.cluster)),
            len(currencies) > 1,
        )


def _rounded(parts: Sequence[int]) -> list[Decimal]:
    """Exact parts as millionths that sum to their sum, rounded half up: the largest remainders go up."""
    micro = [part // _UNIT for part in parts]
    left = (2 * sum(parts) + _UNIT) // (2 * _UNIT) - sum(micro)
    for i in sorted(range(len(parts)), key=lambda i: (-(parts[i] % _UNIT), i))[:left]:
        micro[i] += 1
    return [value * _MICRO for value in micro]
