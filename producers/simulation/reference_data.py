"""Rows of the warehouse's tables for the SIMULATED fleet: idle floors, prices, tenants, and simulated clusters.

Rows are dicts with the tables' column names. The caller adds their validity.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from producers.simulation.fleet import FleetSpec, default_spec

NOTE = "SIMULATED"

_PRICES = {
    # cluster: (money per kWh, facility over IT energy, gCO2eq per kWh). Invented, of the size that such places have.
    "us-east": (Decimal("0.083"), Decimal("1.25"), Decimal("372")),
    "eu-west": (Decimal("0.164"), Decimal("1.31"), Decimal("287")),
    "eu-north": (Decimal("0.058"), Decimal("1.12"), Decimal("24")),
}


def idle_floors(spec: FleetSpec | None = None) -> list[dict[str, Any]]:
    """Return rows of `idle_floors`: hardware, idle_mw (per GPU), source."""
    kinds = {gpu.hardware.name: gpu.hardware.idle_mw for gpu in (spec or default_spec()).gpus}
    source = f"{NOTE}: the idle power that the simulated fleet has; calibrate on your own boards"
    return [{"hardware": name, "idle_mw": idle_mw, "source": source} for name, idle_mw in sorted(kinds.items())]


def prices(currency: str = "USD") -> list[dict[str, Any]]:
    """Return rows of `prices`: kind (energy, pue, carbon), cluster, value (Decimal), currency (of energy only),
    source.
    """
    rows = []
    for cluster, values in _PRICES.items():
        for kind, value in zip(("energy", "pue", "carbon"), values, strict=True):
            money = currency if kind == "energy" else ""
            rows.append({"kind": kind, "cluster": cluster, "value": value, "currency": money, "source": NOTE})
    return rows


def tenants(spec: FleetSpec | None = None) -> list[dict[str, Any]]:
    """Return rows of `tenants`: tenant, team, cost_centre, simulated."""
    known = (spec or default_spec()).tenants
    return [{"tenant": t.name, "team": t.team, "cost_centre": t.cost_centre, "simulated": 1} for t in known]


def clusters(spec: FleetSpec | None = None) -> list[dict[str, Any]]:
    """Return rows of `clusters`: cluster, simulated, note."""
    names = sorted({gpu.cluster for gpu in (spec or default_spec()).gpus})
    return [{"cluster": name, "simulated": 1, "note": f"{NOTE} fleet"} for name in names]
