"""Tenants' teams and cost centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.topics import check_name
from warehouse.client import Warehouse
from warehouse.reference_data.storage import put_versioned


@dataclass(frozen=True, slots=True)
class Tenant:
    """The team and the cost centre of a tenant. `simulated` marks a tenant that exists in a simulation only."""

    tenant: str
    team: str = ""
    cost_centre: str = ""
    simulated: bool = False


def put_tenants(warehouse: Warehouse, tenants: Sequence[Tenant]) -> None:
    """Store teams and cost centres of tenants, replacing their rows. Raises BadInput for an impossible name."""
    for tenant in tenants:
        check_name("tenant", tenant.tenant)
    put_versioned(warehouse, "tenants", tenants)
