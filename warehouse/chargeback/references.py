"""References: the prices and tenants that a bill reads. Those of today, or those that the closing of a period froze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warehouse.chargeback.pricing import ClusterPrices
from warehouse.reader import LedgerReader
from warehouse.reference_data.prices import Price


@dataclass(frozen=True, slots=True)
class References:
    """Tables as SQL, and the parameters that they need."""

    prices: str = "prices FINAL"
    tenants: str = "tenants FINAL"
    parameters: Mapping[str, Any] = field(default_factory=dict)


CURRENT = References()
_FROZEN = "(SELECT * FROM $table FINAL WHERE period = {closed_period:String} AND step = {closed_step:UInt32})"


def frozen(period: str, step: int) -> References:
    """Return the references that a step of a period froze (warehouse/billing/periods.py)."""
    return References(
        prices=_FROZEN.replace("$table", "closed_prices"),
        tenants=_FROZEN.replace("$table", "closed_tenants"),
        parameters={"closed_period": period, "closed_step": step},
    )


def prices_between(
    reader: LedgerReader, clusters: Sequence[str], from_ms: int, until_ms: int, references: References = CURRENT
) -> ClusterPrices:
    """Return the prices of clusters, and those of all, that are valid at any time of `[from_ms, until_ms)`."""
    rows = reader.ask(
        "chargeback/prices_between",
        fragments={"prices": references.prices},
        clusters=sorted(set(clusters)),
        from_ms=from_ms,
        until_ms=until_ms,
        **references.parameters,
    )
    return ClusterPrices([Price(**row) for row in rows])
