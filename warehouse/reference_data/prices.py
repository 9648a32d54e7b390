"""Prices: tariffs, PUE and carbon intensity of clusters, each valid for some time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from contracts.errors import BadInput
from contracts.units import counted, rfc3339, shortest_decimal
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader
from warehouse.reference_data.storage import put_versioned
from warehouse.reference_data.validity import END_MS, WINDOW_MS, check_scope, check_validity, check_whole_windows

PriceKind = Literal["energy", "pue", "carbon"]
_UNITS = {"energy": "money per kWh", "pue": "facility over IT energy", "carbon": "gCO2eq per kWh"}
_USUAL_MOST = {"EUR": 5, "USD": 5, "GBP": 5, "CHF": 5, "CAD": 5, "AUD": 5}
"""Money per kWh that electricity does not cost, in some currencies: more is likely a price per MWh."""
_USUAL_MOST_ELSEWHERE = 5_000


@dataclass(frozen=True, slots=True)
class Price:
    """A tariff (`energy`, money per kWh), a `pue` or a `carbon` intensity (gCO2eq per kWh) of a cluster.

    Cluster '*' is for clusters without a price of their own. `currency` (ISO 4217) belongs to kind energy only;
    `source` documents the figure.
    """

    kind: PriceKind
    cluster: str
    value: Decimal
    valid_from_ms: int = 0
    valid_to_ms: int = END_MS
    currency: str = ""
    source: str = ""

    def check(self) -> None:
        """Raise BadInput that names the field."""
        if self.kind not in _UNITS:
            raise BadInput("kind", self.kind, f"one of {', '.join(_UNITS)}")
        check_scope("cluster", self.cluster)
        check_validity(self.valid_from_ms, self.valid_to_ms)
        value = self.value
        if not value.is_finite() or abs(value) >= 10**9 or value != round(value, 9):
            raise BadInput("value", str(value), f"give {_UNITS[self.kind]}, below 1e9, with at most 9 decimals")
        if self.kind == "pue" and value < 1:
            raise BadInput("value", str(value), "a PUE is 1 or more: the facility uses at least what IT uses")
        if self.kind == "carbon" and value < 0:
            raise BadInput("value", str(value), "give 0 or more gCO2eq per kWh")
        if not re.fullmatch("[A-Z]{3}" if self.kind == "energy" else "", self.currency):
            raise BadInput(
                "currency", self.currency, "give three capitals (USD) for kind energy, nothing for the others"
            )


def put_prices(warehouse: Warehouse, prices: Sequence[Price], window_ms: int = WINDOW_MS) -> None:
    """Store prices in one insert. A price with the kind, cluster and start of a stored one replaces it.

    To change a tariff: put the old one again with the day that it ends, and the new one from that day, in one call.
    `window_ms` is the length of the ledger's windows. Raises BadInput for a value out of range, for a price that would
    begin or end inside a window, or where two of the same kind and cluster would be valid at once.
    """
    for price in prices:
        price.check()
        check_whole_windows("valid_from_ms", price.valid_from_ms, window_ms)
        check_whole_windows("valid_to_ms", price.valid_to_ms, window_ms)
    after = {(p.kind, p.cluster, p.valid_from_ms): p for p in (*list_prices(warehouse), *prices)}
    ordered = sorted(after.values(), key=lambda p: (p.kind, p.cluster, p.valid_from_ms))
    for one, other in pairwise(ordered):
        if (one.kind, one.cluster) == (other.kind, other.cluster) and one.valid_to_ms > other.valid_from_ms:
            raise BadInput(
                "valid_from_ms", other.valid_from_ms,
                f"the {one.kind} price of cluster {one.cluster} from {rfc3339(one.valid_from_ms)} is valid until "
                f"{rfc3339(one.valid_to_ms)}: put it again with an end of {rfc3339(other.valid_from_ms)} or before",
            )  # fmt: skip
    put_versioned(warehouse, "prices", prices)


def remove_price(warehouse: Warehouse, kind: str, cluster: str, valid_from_ms: int) -> None:
    """Delete the stored price of this kind, cluster and start. Raises BadInput when there is none."""
    for price in list_prices(warehouse):
        if (price.kind, price.cluster, price.valid_from_ms) == (kind, cluster, valid_from_ms):
            put_versioned(warehouse, "prices", [price], deleted=1)
            return
    raise BadInput("valid_from_ms", valid_from_ms, "no price of this kind and cluster starts then")


def list_prices(warehouse: Warehouse | LedgerReader) -> list[Price]:
    """Return all prices, by kind, cluster and start."""
    return [Price(**row) for row in warehouse.ask("reference_data/prices")]


def implausible_prices(prices: Sequence[Price | None]) -> list[str]:
    """Return a doubt, at most one, about tariffs that are likely money per MWh in the place of money per kWh."""
    high = [
        price
        for price in prices
        if price is not None
        and price.kind == "energy"
        and abs(price.value) > _USUAL_MOST.get(price.currency, _USUAL_MOST_ELSEWHERE)
    ]
    if not high:
        return []
    first = high[0]
    limit = _USUAL_MOST.get(first.currency, _USUAL_MOST_ELSEWHERE)
    return [
        f"has {counted(len(high), 'price')} beyond {limit} {first.currency} per kWh, such as "
        f"{shortest_decimal(first.value)} from {rfc3339(first.valid_from_ms)}: money per MWh is divided by 1000 first"
    ]
